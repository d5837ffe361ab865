"""Given poses in the place of predicted ones: the scale between depth and baselines, and depth that follows them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_postprocess_bundle_adjustment_step import Room, room

from tokengroups.alignment import similarity_of_cameras
from tokengroups.geometry import invert_rigid, rigid, rotation_from_vector
from tokengroups.postprocess import Draft, KnownPoses, place
from tokengroups.postprocess.bundle_adjustment import BundleAdjustment

WORLD = rigid(rotation_from_vector(torch.tensor([0.3, -1.0, 0.5]).double()), torch.tensor([3.0, -2.0, 7.0]).double())


def known_cameras(scene: Room, metres: float = 1.0) -> torch.Tensor:
    """True poses in another world and unit."""
    poses = scene.cameras.cam_from_world.double().clone()
    poses[:, :3, 3] *= metres
    return poses @ WORLD


def draft_of(scene: Room) -> Draft:
    return scene.draft(intrinsics_given=True)


@pytest.mark.parametrize(("unit", "metres"), [(1.0, 1.0), (1 / 50, 300.0), (20.0, 0.01)])
def test_the_scale_between_depth_and_baselines_is_found(unit, metres):
    scene = room(4, zoom=1.0, unit=unit)
    placed = place(draft_of(scene), KnownPoses(known_cameras(scene, metres)))
    assert placed.known_poses.unit == pytest.approx(metres / unit, rel=0.03)
    true = scene.cameras.cam_from_world.clone()
    true[:, :3, 3] /= placed.known_poses.unit / metres
    torch.testing.assert_close(placed.geometry.cameras.cam_from_world, true, rtol=1e-4, atol=1e-4 * unit)


def test_predicted_poses_hardly_matter():
    scene = room(4, zoom=1.0)
    lost = scene.predicted.cameras.cam_from_world.clone()
    lost[1:, :3, 3] *= torch.tensor([3.0, 0.4, 2.0])[:, None]
    predicted = replace(scene.predicted.cameras, cam_from_world=lost)
    draft = replace(draft_of(scene), geometry=replace(scene.predicted, cameras=predicted))
    assert place(draft, KnownPoses(known_cameras(scene))).known_poses.unit == pytest.approx(1, rel=0.03)


def test_fixed_cameras_stay_and_depth_follows():
    scene = room(4, zoom=1.0)
    placed = place(draft_of(scene), KnownPoses(known_cameras(scene)))
    found = BundleAdjustment()(placed).geometry
    assert torch.equal(found.cameras.cam_from_world, placed.geometry.cameras.cam_from_world)
    assert torch.equal(found.cameras.intrinsics, placed.geometry.cameras.intrinsics)
    unit = placed.known_poses.unit
    before, after = (float((g.depth * unit / scene.depth).log().abs().mean()) for g in (placed.geometry, found))
    assert before > 0.03 and after < 0.35 * before
    free = BundleAdjustment()(scene.draft(intrinsics_given=True)).geometry
    assert scene.errors(found).depth < 1.1 * scene.errors(free).depth


def test_approximate_cameras_are_repaired():
    scene = room(4, zoom=1.0)  # its predicted poses are 1 to 3 degrees off
    given = scene.predicted.cameras.cam_from_world.double() @ WORLD
    placed = place(draft_of(scene), KnownPoses(given, refine=True))
    found = BundleAdjustment()(placed).geometry
    before, after = scene.errors(scene.predicted), scene.errors(found)
    assert after.turn < 0.25 * before.turn and after.depth < 0.35 * before.depth
    assert after.focal < 0.01


def test_cameras_in_one_place_tell_no_scale():
    scene = room(3, zoom=1.0)
    given = known_cameras(scene)
    standing = rigid(given[:, :3, :3], torch.zeros(3, 3).double()) @ WORLD
    placed = place(draft_of(scene), KnownPoses(standing))
    assert placed.known_poses.unit is None
    assert not placed.geometry.cameras.cam_from_world[:, :3, 3].abs().max() > 1e-5
    single = room(1, zoom=1.0)
    assert place(draft_of(single), KnownPoses(given[:1])).known_poses.unit is None


def test_similarity_of_cameras_is_that_which_moved_them():
    generator = torch.Generator().manual_seed(0)
    poses = rigid(
        rotation_from_vector(torch.randn(5, 3, generator=generator).double()),
        torch.randn(5, 3, generator=generator).double(),
    )
    for count, scale in ((5, 2.5), (2, 0.1), (1, 1.0)):
        moved = poses[:count].clone()
        moved[:, :3, 3] *= scale
        moved = moved @ WORLD
        found = similarity_of_cameras(poses[:count], moved)
        expected = invert_rigid(WORLD).clone()
        expected[:3, :3] *= scale
        torch.testing.assert_close(found, expected)
