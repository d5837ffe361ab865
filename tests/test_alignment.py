"""True cameras in the predicted world: one scale per scene, batched, from no target pixel."""

from __future__ import annotations

import torch
from tolerances import tolerance

from tokengroups.alignment import align_cameras, similarity
from tokengroups.data.augment import collate, to_views
from tokengroups.data.procedural import generate_room
from tokengroups.evaluation.evaluate import target_cameras
from tokengroups.geometry import (
    invert_rigid,
    relative_cameras,
    rigid,
    rotation_from_vector,
    transform_points,
    world_points,
)
from tokengroups.postprocess import Reconstruction
from tokengroups.types import Cameras, Gaussians, TokenScene, Views


def scenes() -> tuple[Views, Views]:
    """Context and target views of two rooms."""
    rooms = [generate_room(4, index, num_views=4, size=24) for index in range(2)]
    return collate([to_views(room, [0, 2]) for room in rooms]), collate([to_views(room, [1, 3]) for room in rooms])


def points_from_first(context: Views, scale: torch.Tensor) -> torch.Tensor:
    """The true points in the frame of the first camera, in units of the prediction."""
    cameras = context.cameras
    points = world_points(context.depth, cameras.cam_from_world, cameras.intrinsics).flatten(1, 3)
    moved = transform_points(cameras.cam_from_world[:, 0], points) * scale[:, None, None]
    return moved.reshape(*context.depth.shape, 3)


def test_cameras_see_what_they_saw_in_a_world_of_another_unit() -> None:
    context, targets = scenes()
    scale = torch.tensor([0.5, 3.0])
    cameras, found = align_cameras(targets.cameras, context, points_from_first(context, scale))
    torch.testing.assert_close(found, scale, **tolerance("float32"))
    truth = world_points(targets.depth, targets.cameras.cam_from_world, targets.cameras.intrinsics)
    predicted = world_points(targets.depth * scale[:, None, None, None], cameras.cam_from_world, cameras.intrinsics)
    first = context.cameras.cam_from_world[:, 0]
    expected = transform_points(first, truth.flatten(1, 3)) * scale[:, None, None]
    torch.testing.assert_close(predicted.flatten(1, 3), expected, **tolerance("float32_chain"))
    assert torch.equal(cameras.intrinsics, targets.cameras.intrinsics)


def test_a_batch_is_its_scenes_and_unknown_depth_does_not_count() -> None:
    context, targets = scenes()
    depth = context.depth.clone()
    points = points_from_first(context, torch.tensor([2.0, 1.0]))
    depth[:, :, :6] = 0
    points[:, :, :6] = 1e6
    context = Views(context.images, context.cameras, depth, context.group_ids)
    cameras, scale = align_cameras(targets.cameras, context, points)
    torch.testing.assert_close(scale, torch.tensor([2.0, 1.0]), **tolerance("float32"))
    for scene in range(2):
        one = [part.map(lambda tensor, i=scene: tensor[i : i + 1]) for part in (targets.cameras, context)]
        alone, scale_alone = align_cameras(one[0], one[1], points[scene : scene + 1])  # pyright: ignore
        assert torch.equal(alone.cam_from_world[0], cameras.cam_from_world[scene])
        assert torch.equal(scale_alone[0], scale[scene])


def test_metric_and_loss_use_the_same_cameras() -> None:
    """A reconstruction in a world of its own: only where its first camera stands is added."""
    context, targets = (views.map(lambda tensor: tensor[0]) for views in scenes())
    first = context.cameras.cam_from_world[0]
    poses = relative_cameras(context.cameras.cam_from_world, first, torch.tensor(0.7))
    world = rigid(rotation_from_vector(torch.tensor([0.3, -0.2, 0.1])), torch.tensor([1.0, 2.0, 3.0]))
    moved = Cameras(poses @ invert_rigid(world), context.cameras.intrinsics, context.cameras.size_hw)
    empty = Gaussians(torch.zeros(1, 3), torch.ones(1, 4), torch.ones(1, 3), torch.ones(1), torch.zeros(1, 1, 3))
    scene = TokenScene(
        empty, torch.zeros(1, dtype=torch.int64), torch.zeros(1, 3), torch.ones(1, 1),
        torch.zeros(1, dtype=torch.int64), torch.zeros(1, 0), moved,
    )  # fmt: skip
    prediction = Reconstruction(scene, context.depth * 0.7, torch.zeros(1, 3, dtype=torch.int64))
    got, scale = target_cameras(prediction, context, targets.cameras)
    expected = relative_cameras(targets.cameras.cam_from_world, first, torch.tensor(0.7)) @ invert_rigid(world)
    assert abs(scale - 0.7) < 1e-5
    torch.testing.assert_close(got.cam_from_world, expected, **tolerance("float32_chain"))


def known_similarity() -> torch.Tensor:
    turn = rotation_from_vector(torch.tensor([0.4, -1.2, 0.7], dtype=torch.float64))
    return rigid(2.5 * turn, torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64))


def test_a_similarity_is_found_again() -> None:
    points = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = known_similarity()
    torch.testing.assert_close(similarity(points, transform_points(expected, points)), expected)
    flat = points * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)  # a wall determines it, too
    torch.testing.assert_close(similarity(flat, transform_points(expected, flat)), expected)


def test_a_similarity_of_noisy_points_is_the_best_one() -> None:
    """No small turn, shift or scaling has a smaller sum of squares."""
    rng = torch.Generator().manual_seed(1)
    points = torch.randn(80, 3, dtype=torch.float64, generator=rng)
    targets = transform_points(known_similarity(), points) + 0.3 * torch.randn(80, 3, generator=rng)
    found = similarity(points, targets)
    least = (transform_points(found, points) - targets).square().sum()
    for _ in range(40):
        turn, shift = 0.01 * torch.randn(2, 3, dtype=torch.float64, generator=rng)
        factor = 1 + 0.01 * torch.randn((), dtype=torch.float64, generator=rng)
        other = rigid(factor * rotation_from_vector(turn), shift) @ found
        assert (transform_points(other, points) - targets).square().sum() > least


def test_a_similarity_never_mirrors() -> None:
    """Mirrored points are moved by a rotation and a scale all the same."""
    points = torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = similarity(points, points * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))
    linear = found[:3, :3]
    scale = torch.linalg.det(linear) ** (1 / 3)
    assert 0 < scale < 1
    torch.testing.assert_close(linear @ linear.T, scale**2 * torch.eye(3, dtype=torch.float64))


def test_degenerate_points_have_a_similarity() -> None:
    same = torch.ones(4, 3)
    torch.testing.assert_close(similarity(same, 3 * same)[:3, :3].det(), torch.tensor(1.0))
    torch.testing.assert_close(transform_points(similarity(same, 3 * same), same), 3 * same)
    assert torch.equal(similarity(same[:0], same[:0]), torch.eye(4))
