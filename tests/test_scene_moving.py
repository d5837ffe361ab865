"""Scenes moved as a whole: what their cameras see stays the same."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from tolerances import tolerance

import tokengroups as tg
from tokengroups.geometry import rigid, rotation_from_vector
from tokengroups.scene import move_scene, scale_scene

SHIFT = torch.tensor([1.0, -2.0, 0.5]).double()
TURN = rotation_from_vector(torch.tensor([0.4, -0.9, 0.2]).double())


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_a_moved_scene_looks_the_same_to_its_cameras(scale: float) -> None:
    scene = tg.example_scene()
    higher = (0.2 * torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(0))).expand(len(scene.anchors), 8, 3)
    colours = torch.cat([scene.gaussians.sh, higher], dim=1)
    scene = replace(scene, gaussians=replace(scene.gaussians, sh=colours))
    moved = move_scene(scene, rigid(scale * TURN, SHIFT))
    for before, after in zip(tg.render_views(scene, scene.cameras), tg.render_views(moved, moved.cameras), strict=True):
        # Many Gaussians are equally far from a camera: rounding decides which one is in front.
        apart = (after.color - before.color).abs()
        assert apart.mean() < 1e-3 and apart.max() < 0.03
        torch.testing.assert_close(after.depth, scale * before.depth, rtol=2e-2, atol=1e-3)
        assert (after.group_map != before.group_map).float().mean() < 1e-3


def test_moves_add_up_and_back_is_where_it_was() -> None:
    scene = tg.example_scene()
    one, two = rigid(2.0 * TURN, SHIFT), rigid(TURN.T, 3 * SHIFT)
    chained, at_once = move_scene(move_scene(scene, one), two), move_scene(scene, two @ one)
    back = move_scene(move_scene(scene, one), torch.linalg.inv(one))
    for found, expected in ((chained, at_once), (back, scene)):
        torch.testing.assert_close(found.anchors, expected.anchors, **tolerance("float32_chain"))
        torch.testing.assert_close(found.gaussians.means, expected.gaussians.means, **tolerance("float32_chain"))
        torch.testing.assert_close(found.gaussians.scales, expected.gaussians.scales, **tolerance("float32_chain"))
        poses = found.cameras.cam_from_world, expected.cameras.cam_from_world
        torch.testing.assert_close(*poses, **tolerance("float32_chain"))


def test_cameras_stay_rigid_and_stand_where_the_points_do() -> None:
    scene = tg.example_scene()
    moved = move_scene(scene, rigid(7.0 * TURN, SHIFT))
    turns = moved.cameras.cam_from_world[:, :3, :3]
    torch.testing.assert_close(turns @ turns.mT, torch.eye(3).expand_as(turns), **tolerance("float32"))
    before = torch.linalg.inv(scene.cameras.cam_from_world)[:, :3, 3]
    after = torch.linalg.inv(moved.cameras.cam_from_world)[:, :3, 3]
    expected = (7.0 * before.double() @ TURN.T + SHIFT).float()
    torch.testing.assert_close(after, expected, **tolerance("float32_chain"))
    assert math.isclose(float(moved.gaussians.scales.mean() / scene.gaussians.scales.mean()), 7.0, rel_tol=1e-5)


def test_a_scaled_scene_is_one_moved_by_a_diagonal_matrix() -> None:
    scene = tg.example_scene()
    found = scale_scene(scene, 0.3, "foot")
    expected = move_scene(scene, rigid(0.3 * torch.eye(3).double(), torch.zeros(3).double()))
    assert found.provenance["unit"] == "foot" and "world_from_scene" not in found.provenance
    for one, other in (
        (found.anchors, expected.anchors),
        (found.gaussians.means, expected.gaussians.means),
        (found.gaussians.scales, expected.gaussians.scales),
        (found.cameras.cam_from_world, expected.cameras.cam_from_world),
    ):
        torch.testing.assert_close(one, other, **tolerance("float32"))
