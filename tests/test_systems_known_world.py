"""Scenes from given cameras, by the shipped weights: in the world and unit of the cameras, with depth that fits."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

import tokengroups as tg
from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.geometry import invert_rigid, rigid, rotation_from_vector
from tokengroups.postprocess import Reconstruction
from tokengroups.systems import SceneSystem, distance_between, scaled
from tokengroups.systems.known_world import camera_changes
from tokengroups.types import Views

STEPS = "bundle_adjustment"
TURN = rotation_from_vector(torch.tensor([0.4, -0.9, 0.2]).double())


@cache
def model() -> SceneSystem:
    return tg.load_model()


@cache
def room() -> Views:
    return to_views(generate_room(9002, 0, "test", num_views=7, size=128), [0, 2, 4, 6])


def predict(poses: Tensor | None = None, **options: object) -> Reconstruction:
    views = room()
    return model().predict(views.images, views.cameras.intrinsics, poses, postprocess=STEPS, **options)


@cache
def known() -> Reconstruction:
    return predict(room().cameras.cam_from_world.double())


def ratios(made: Reconstruction) -> Tensor:
    depth = room().depth
    return (made.depth / depth)[depth > 0]


def turned_by(found: Tensor, true: Tensor) -> float:
    """Mean angle between relative rotations, in degrees."""
    turns = [poses[1:, :3, :3].double() @ poses[:1, :3, :3].double().mT for poses in (found, true)]
    traces = (turns[0] * turns[1]).sum(dim=(1, 2))
    return float(torch.rad2deg(((traces - 1) / 2).clamp(-1, 1).acos()).mean())


def test_the_scene_is_in_the_world_and_unit_of_its_cameras() -> None:
    made, poses = known(), room().cameras.cam_from_world
    torch.testing.assert_close(made.scene.cameras.cam_from_world, poses, rtol=0, atol=1e-5)
    torch.testing.assert_close(made.scene.cameras.intrinsics, room().cameras.intrinsics)
    assert 0.95 < float(ratios(made).median()) < 1.05
    without = ratios(predict())
    assert not 0.8 < float(without.median()) < 1.25  # of a unit of its own
    error = (ratios(made) - 1).abs().mean()
    assert error < 0.08 and error < (without - 1).abs().mean()
    assert error < 1.1 * (without / without.median() - 1).abs().mean()
    (picture,) = tg.render_views(made.scene, made.scene.cameras.map(lambda tensor: tensor[:1]))
    seen = picture.alpha.squeeze() > 0.9
    assert ((picture.depth - room().depth[0]).abs() / room().depth[0])[seen].median() < 0.08
    facts = made.scene.provenance
    assert (facts["cameras"], facts["unit"], facts["intrinsics"]) == ("given", "that of the cameras", "given")
    assert "world_from_scene" not in facts


@pytest.mark.parametrize("scale", [0.01, 40.0])
def test_a_similarity_of_the_given_world_moves_the_result_with_it(scale: float) -> None:
    shift = scale * torch.tensor([5.0, -3.0, 2.0]).double()
    poses = room().cameras.cam_from_world.double().clone()
    poses[:, :3, 3] *= scale
    poses = poses @ invert_rigid(rigid(TURN, shift))
    moved, expected = predict(poses), tg.scene.move_scene(known().scene, rigid(scale * TURN, shift))
    torch.testing.assert_close(moved.scene.cameras.cam_from_world, poses.float(), rtol=1e-5, atol=1e-5 * scale)
    middle = scale * float(room().depth.median())
    torch.testing.assert_close(moved.depth, scale * known().depth, rtol=2e-3, atol=0)
    # Rounding decides about an anchor in a thousand; then it and its Gaussians are others.
    apart = (moved.scene.anchors - expected.anchors).norm(dim=1) / middle
    assert (apart < 2e-3).float().mean() > 0.99
    sizes = (moved.scene.gaussians.scales / expected.gaussians.scales).log().abs().amax(dim=1)
    assert (sizes < 0.02).float().mean() > 0.98


def test_a_world_far_away_is_moved_to_the_first_camera() -> None:
    far = torch.tensor([4.0e5, 5.0e6, 100.0]).double()
    near = room().cameras.cam_from_world.double()
    left, _, right = torch.linalg.svd(near[:, :3, :3])  # exact: so far away, errors of float32 are metres
    poses = rigid(left @ right, near[:, :3, 3]) @ invert_rigid(rigid(torch.eye(3).double(), far))
    scene = predict(poses).scene
    world_from_scene = torch.tensor(scene.provenance["world_from_scene"], dtype=torch.float64)
    assert scene.cameras.cam_from_world[:, :3, 3].abs().max() < 10
    torch.testing.assert_close(scene.cameras.cam_from_world[:, :3, :3].double(), poses[:, :3, :3], rtol=0, atol=1e-6)
    centres = invert_rigid(scene.cameras.cam_from_world.double())[:, :3, 3] + world_from_scene[:3, 3]
    torch.testing.assert_close(centres, invert_rigid(poses)[:, :3, 3], rtol=0, atol=1e-4)


def test_approximate_cameras_are_refined_in_their_world() -> None:
    true = room().cameras.cam_from_world.double()
    axes = torch.nn.functional.normalize(torch.randn(len(true), 3).double(), dim=1)
    off = rigid(rotation_from_vector(math.radians(2) * axes), torch.zeros(len(true), 3).double()) @ true
    made = predict(off, refine_cameras=True)
    found = made.scene.cameras.cam_from_world
    assert turned_by(off, true) > 1.5 and turned_by(found, true) < 0.4 * turned_by(off, true)
    assert 0.85 < float(ratios(made).median()) < 1.15
    facts = made.scene.provenance
    assert facts["cameras"] == "refined" and len(facts["camera_changes"]) == len(true)
    assert all(0.2 < change["degrees"] < 5 for change in facts["camera_changes"])
    expected = camera_changes(found.double(), off)
    assert facts["camera_changes"] == [vars(change) for change in expected]


def test_a_single_camera_gives_the_world_and_no_unit() -> None:
    views = room()
    pose = views.cameras.cam_from_world[:1].double()
    made = model().predict(views.images[:1], views.cameras.intrinsics[:1], pose, postprocess="none")
    torch.testing.assert_close(made.scene.cameras.cam_from_world, pose.float(), rtol=0, atol=1e-6)
    assert made.scene.provenance["unit"] == "relative"


def test_a_length_scales_everything() -> None:
    made = known()
    ends = (0, 20.5, 100.5), (2, 90.5, 80.5)
    distance = distance_between(made, *ends)
    points = []
    for view, x, y in ends:
        ray = torch.linalg.inv(made.scene.cameras.intrinsics[view]) @ torch.tensor([x, y, 1.0])
        in_cam = made.depth[view, int(y), int(x)] * ray
        points.append(torch.linalg.inv(made.scene.cameras.cam_from_world[view]) @ torch.cat([in_cam, torch.ones(1)]))
    assert distance == pytest.approx(float((points[0] - points[1]).norm()), rel=1e-4)
    twice = scaled(made, 2.0, "metre")
    assert distance_between(twice, *ends) == pytest.approx(2 * distance, rel=1e-5)
    torch.testing.assert_close(twice.scene.anchors, 2 * made.scene.anchors)
    torch.testing.assert_close(twice.scene.gaussians.scales, 2 * made.scene.gaussians.scales)
    assert twice.scene.provenance["unit"] == "metre"
    world_from_scene = torch.tensor(twice.scene.provenance["world_from_scene"])
    torch.testing.assert_close(world_from_scene, torch.diag(torch.tensor([0.5, 0.5, 0.5, 1.0])))
    masked = replace(made, mask=torch.zeros_like(made.depth, dtype=torch.bool))
    assert math.isnan(distance_between(masked, *ends))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda poses: poses[:2], "give one matrix for each of the 4 photos"),
        (lambda poses: 2 * poses, "must be rigid motions"),
        (lambda poses: poses * torch.tensor([-1.0, 1, 1, 1]), "must be rigid motions"),
        (lambda poses: poses * torch.nan, "must be rigid motions"),
        (lambda poses: poses.numpy(), "give torch.from_numpy"),
    ],
)
def test_poses_of_another_form_are_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict(change(room().cameras.cam_from_world))


def test_poses_need_intrinsics() -> None:
    with pytest.raises(ValueError, match="cam_from_world needs intrinsics"):
        model().predict(room().images, None, room().cameras.cam_from_world)
