"""Looks of real photos for generated ones."""

from __future__ import annotations

import numpy as np
import torch
from tolerances import tolerance

from tokengroups.data.looks import noise_volumes, paint, photograph
from tokengroups.geometry import rigid
from tokengroups.types import Cameras, Views


def wall(shift_px: int) -> Views:
    """A grey wall two units away, from two places that are some pixels apart."""
    height, width, focal = 24, 32, 40.0
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1] = rigid(torch.eye(3), torch.tensor([-shift_px * 2 / focal, 0, 0]))
    pinhole = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    ids = torch.zeros(2, height, width, dtype=torch.int64)
    images, depth = torch.full((2, 3, height, width), 0.4), torch.full((2, height, width), 2.0)
    return Views(images, Cameras(poses, pinhole.repeat(2, 1, 1), (height, width)), depth, ids)


def test_paint_is_on_the_surfaces() -> None:
    """The second camera sees what the first one sees some pixels further right."""
    for seed in range(5):
        painted = paint(wall(3), np.random.default_rng(seed)).images
        torch.testing.assert_close(painted[1, :, :, :-3], painted[0, :, :, 3:], **tolerance("float32"))
    assert float((painted - 0.4).abs().max()) > 0.01


def test_every_instance_has_its_own_paint() -> None:
    views = wall(0)
    views.group_ids[:, :, 16:] = 1
    views.group_ids[:, 12:] = -1
    painted = paint(views, np.random.default_rng(1)).images
    contrasts = [float(painted[0, :, :12, :16].std()), float(painted[0, :, :12, 16:].std())]
    assert contrasts[0] != contrasts[1] and painted.isfinite().all()


def test_noise_falls_with_the_frequency_as_in_natural_images() -> None:
    """Amplitude 1/f^1.5 in a volume: power falls by 2^3 an octave, beside the 2^2 more cells of a shell."""
    volume = noise_volumes()[0, ..., 0].numpy()
    power = np.abs(np.fft.fftn(volume)) ** 2
    axis = np.fft.fftfreq(len(volume)) * len(volume)
    frequency = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    means = [power[(frequency >= low) & (frequency < 1.2 * low)].mean() for low in (4, 8, 16)]
    np.testing.assert_allclose(np.log2(means[:-1]) - np.log2(means[1:]), 3, atol=0.5)


def test_a_camera_is_never_the_same_twice_but_by_its_seed() -> None:
    images = torch.rand(3, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    taken = [photograph(images, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert torch.equal(taken[0], taken[1]) and not torch.equal(taken[0], taken[2])
    for each in taken:
        assert each.shape == images.shape and 0 <= float(each.min()) and float(each.max()) <= 1


def test_exposure_changes_between_photos_of_a_scene() -> None:
    images = torch.full((4, 3, 16, 16), 0.5)
    levels = photograph(images, np.random.default_rng(3)).mean(dim=(1, 2, 3))
    assert 0 < float(levels.max() - levels.min()) < 0.4
