"""Corners found again in another photo of a slanted, textured wall, whose true places are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tokengroups.geometry import invert_rigid, pixel_centres, rigid, rotation_from_vector, transform_points
from tokengroups.postprocess.bundle_adjustment.corner_matching import corner_matches, corner_pixels
from tokengroups.postprocess.bundle_adjustment.frames import Frame
from tokengroups.postprocess.bundle_adjustment.patch_matching import SearchedPhoto

SIZE, FOCAL = (96, 128), 110.0
PINHOLE = torch.tensor([[FOCAL, 0, 64], [0, FOCAL, 48], [0, 0, 1]])
NORMAL, DISTANCE = torch.nn.functional.normalize(torch.tensor([0.3, 0.2, 1.0]), dim=0), 2.0
TRUE_POSE = rigid(rotation_from_vector(torch.tensor([0.02, -0.12, 0.15])), torch.tensor([0.25, -0.05, 0.1]))


def cells(places: Tensor) -> Tensor:
    """A texture of random cells, smooth enough for bilinear sampling."""
    random = torch.rand(64, 64, generator=torch.Generator().manual_seed(3))
    grid = (places * 0.35)[None, None]
    return torch.nn.functional.grid_sample(random[None, None], grid, mode="bicubic", align_corners=False)[0, 0, 0]


def stripes(places: Tensor) -> Tensor:
    """The same everywhere after a step to the side."""
    return 0.5 + 0.4 * torch.sin(places[:, 0] * 60) * torch.sin(places[:, 1] * 60)


def photo(cam_from_world: Tensor, texture: Callable[[Tensor], Tensor]) -> tuple[Frame, SearchedPhoto]:
    """Photo and depth of the wall n x = d, by intersecting rays."""
    world_from_cam = invert_rigid(cam_from_world)
    rays = torch.nn.functional.pad(pixel_centres(SIZE, PINHOLE), (0, 1), value=1.0) @ PINHOLE.inverse().T
    across = rays @ world_from_cam[:3, :3].T
    depth = (DISTANCE - NORMAL @ world_from_cam[:3, 3]) / (across @ NORMAL)
    points = world_from_cam[:3, 3] + depth[..., None] * across
    grey = texture(points.flatten(0, 1)[:, :2]).view(SIZE)
    return Frame(grey.expand(3, -1, -1), depth, PINHOLE), SearchedPhoto.of_grey(grey)


def test_matches_lie_where_the_wall_says() -> None:
    """The estimate is 1.5 degrees off and the depth 3 %: places are expected up to several pixels away."""
    source, grey = photo(torch.eye(4), cells)
    target, other = photo(TRUE_POSE, cells)
    wrong = rigid(rotation_from_vector(torch.tensor([0.01, -0.015, 0.02])), torch.zeros(3)) @ TRUE_POSE
    corners = corner_pixels(grey, 8)
    estimate = Frame(source.image, 1.03 * source.depth, PINHOLE)
    found = corner_matches(estimate, target, wrong, grey, other, corners, 8)
    true = target.project(transform_points(TRUE_POSE, source.lift(found.source)))
    expected = target.project(transform_points(wrong, estimate.lift(found.source)))
    errors, before = (found.target - true).norm(dim=1), (expected - true).norm(dim=1)
    assert len(errors) > 40 and float(before.median()) > 2
    assert float(errors.median()) < 0.25 and float((errors < 1).float().mean()) > 0.9


@pytest.mark.parametrize("texture", [stripes, lambda places: torch.full_like(places[:, 0], 0.5)])
def test_what_repeats_or_is_flat_is_not_matched(texture: Callable[[Tensor], Tensor]) -> None:
    source, grey = photo(torch.eye(4), texture)
    target, other = photo(TRUE_POSE, texture)
    found = corner_matches(source, target, TRUE_POSE, grey, other, corner_pixels(grey, 8), 8)
    assert float(found.weight.sum()) < 0.05 * (SIZE[0] // 8) * (SIZE[1] // 8)


def test_places_outside_the_other_photo_are_not_matched() -> None:
    source, grey = photo(torch.eye(4), cells)
    away = rigid(rotation_from_vector(torch.tensor([0.0, 1.2, 0.0])), torch.zeros(3))
    target, other = photo(TRUE_POSE, cells)
    assert len(corner_matches(source, target, away, grey, other, corner_pixels(grey, 8), 8).weight) == 0


def test_every_cell_has_its_strongest_corner() -> None:
    grey = torch.zeros(64, 96)
    grey[20:, 30:] = 1.0  # one corner at (30, 20); edges elsewhere
    corners = corner_pixels(SearchedPhoto.of_grey(grey), 16)
    assert corners.shape == (4 * 6, 2)
    # Patches of 9 pixels see most of both edges from up to four pixels away.
    assert bool(((corners - torch.tensor([32.0, 22.0])).abs().amax(dim=1) < 4).any())
