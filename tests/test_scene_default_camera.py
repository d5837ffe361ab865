"""Cameras of scenes that come without any: the scene is in view, wherever it lies and however large it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scenes import random_scene

from tokengroups.gaussians import select
from tokengroups.geometry import project, transform_points
from tokengroups.render import render
from tokengroups.scene.default_camera import guess_camera
from tokengroups.types import Cameras, Gaussians


def alpha(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    return render(gaussians, cameras.cam_from_world, cameras.intrinsics, cameras.size_hw).alphas[0]


@pytest.mark.parametrize("fov", [None, 20.0, 120.0])
@pytest.mark.parametrize("size", [1.5, 1e-4])
@pytest.mark.parametrize(
    "shift", [(0, 0, 0), (0, 0, 50), (60, 0, 30), (0, -40, 20), (400, 300, 0.5), (0, 0, 3000), (-5, 2, -70)]
)
def test_the_scene_is_in_view(shift: tuple[float, float, float], size: float, fov: float | None) -> None:
    gaussians = random_scene(groups=8).gaussians
    means = size * (gaussians.means - gaussians.means.mean(dim=0)) + torch.tensor(shift, dtype=torch.float32)
    gaussians = replace(gaussians, means=means, scales=0.3 * size * gaussians.scales)
    cameras, _ = guess_camera(gaussians, fov, 64)
    pixels, depth = project(transform_points(cameras.cam_from_world[0], means), cameras.intrinsics[0])
    inside = (pixels > 0).all(dim=1) & (pixels < 64).all(dim=1) & (depth > 0.01)
    assert float(gaussians.opacities[inside].sum() / gaussians.opacities.sum()) > 0.5
    assert float(alpha(gaussians, cameras).max()) > 0.1


@pytest.mark.parametrize(
    ("shift", "where"),
    [((0, 0, 3), "at the origin"), ((0, 0, -3), "outside"), ((60, 0, 30), "outside"), ((0, 0, 3000), "outside")],
)
def test_only_a_world_that_a_camera_would_show_is_a_cameras(shift: tuple[float, float, float], where: str) -> None:
    gaussians = random_scene().gaussians
    moved = gaussians.means - torch.tensor([0.0, 0, 3]) + torch.tensor(shift, dtype=torch.float32)
    cameras, note = guess_camera(replace(gaussians, means=moved), None, 256)
    assert f"one camera {where}" in note
    assert torch.equal(cameras.cam_from_world[0], torch.eye(4)) == (where == "at the origin")


@pytest.mark.parametrize("scale", [0.0, 0.2])
def test_a_single_gaussian_is_seen(scale: float) -> None:
    gaussians = select(random_scene().gaussians, torch.tensor([0]))
    alone = replace(gaussians, means=torch.zeros(1, 3), scales=torch.full((1, 3), scale), opacities=torch.ones(1))
    cameras, _ = guess_camera(alone, None, 63)
    assert float(alpha(alone, cameras)[31, 31]) > 0.9
