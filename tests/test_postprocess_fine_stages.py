"""Further stages of bundle adjustment on more pixels: which sizes, and how far the focal length follows the matches."""

from __future__ import annotations

import pytest
import torch

from tokengroups.postprocess.bundle_adjustment import BundleAdjustmentSettings
from tokengroups.postprocess.bundle_adjustment.fine_stages import fine_focal_std, fine_sizes
from tokengroups.postprocess.bundle_adjustment.frames import Frame

SETTINGS = BundleAdjustmentSettings()


def photos(views: int, distance: float, depth: float) -> tuple[list[Frame], torch.Tensor]:
    """Photos of a wall, side by side, whose focal length is their longer side."""
    pinhole = torch.tensor([[64.0, 0, 32], [0, 64, 24], [0, 0, 1]])
    frames = [Frame(torch.rand(3, 48, 64), torch.full((48, 64), depth), pinhole) for _ in range(views)]
    poses = torch.eye(4).repeat(views, 1, 1)
    poses[:, 0, 3] = -distance * torch.arange(views)
    return frames, poses


@pytest.mark.parametrize(
    ("parallax", "std"), [(0.0, 0.014), (0.1, 0.014), (0.15, 0.014), (0.21, 0.02744), (0.3, 0.056), (0.6, 0.056)]
)
@pytest.mark.parametrize("depth", [1.0, 3.0])
def test_the_prior_widens_with_the_parallax(parallax: float, std: float, depth: float) -> None:
    frames, poses = photos(2, parallax * depth, depth)
    assert fine_focal_std(SETTINGS, frames, poses) == pytest.approx(std, rel=1e-4)


def test_the_prior_is_no_wider_than_that_of_the_encoder() -> None:
    frames, poses = photos(3, 0.5, 1.0)
    assert fine_focal_std(BundleAdjustmentSettings(focal_prior_std=0.02), frames, poses) == 0.02


def test_neighbours_count_not_the_ends_of_a_walk() -> None:
    frames, poses = photos(6, 0.1, 1.0)
    assert fine_focal_std(SETTINGS, frames, poses) <= 0.014 * 2.01


def test_sizes_lie_between_the_photos_and_the_full_photos() -> None:
    small = torch.zeros(1, 1, 3, 96, 128)
    assert fine_sizes(SETTINGS, small, None) == []
    for side, expected in ((128, []), (200, [200]), (300, [256, 300]), (1024, [256, 512])):
        assert fine_sizes(SETTINGS, small, torch.zeros(1, 1, 3, side * 3 // 4, side)) == expected
