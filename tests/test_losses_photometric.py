"""PSNR against scikit-image."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from tokengroups.losses.photometric import mse, psnr


def test_psnr_of_each_image_equals_scikit_image() -> None:
    photos = torch.rand(2, 3, 3, 8, 9)
    predicted = (photos + 0.1 * torch.randn_like(photos)).clamp(0, 1)
    measured = psnr(predicted, photos)
    assert measured.shape == (2, 3)
    for index in range(6):
        image, photo = predicted.flatten(0, 1)[index].numpy(), photos.flatten(0, 1)[index].numpy()
        expected = peak_signal_noise_ratio(photo, image, data_range=1.0)
        assert measured.flatten()[index].item() == pytest.approx(expected, rel=1e-5)


def test_equal_images() -> None:
    photo = torch.rand(3, 4, 4)
    assert mse(photo, photo).item() == 0 and psnr(photo, photo).item() == pytest.approx(100)
