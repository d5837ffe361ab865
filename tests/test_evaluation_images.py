"""SSIM against scikit-image and torchmetrics."""

from __future__ import annotations

import pytest
import torch
from skimage.metrics import structural_similarity

from tokengroups.losses.photometric import ssim


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    photos = torch.nn.functional.avg_pool2d(torch.rand(3, 3, 80, 96), 2)
    return (photos + 0.05 * torch.randn_like(photos)).clamp(0, 1), photos


def test_each_image_equals_scikit_image() -> None:
    predicted, photos = _pair()
    for image, photo, measured in zip(predicted, photos, ssim(predicted.double(), photos.double()), strict=True):
        expected = structural_similarity(
            photo.double().numpy(), image.double().numpy(), channel_axis=0, data_range=1.0,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        assert measured.item() == pytest.approx(expected, abs=1e-6)


def test_close_to_torchmetrics_which_treats_borders_differently() -> None:
    from tokengroups.compat import prepare_torchvision

    prepare_torchvision()
    from torchmetrics.functional.image import structural_similarity_index_measure

    predicted, photos = _pair()
    expected = structural_similarity_index_measure(predicted, photos, data_range=1.0)
    assert ssim(predicted, photos).mean().item() == pytest.approx(float(expected), abs=5e-3)


def test_equal_images_and_images_below_the_window() -> None:
    photos = torch.rand(1, 3, 11, 11)
    assert ssim(photos, photos).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(photos[..., 1:], photos[..., 1:])
