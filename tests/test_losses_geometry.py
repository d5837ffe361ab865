"""VGGT's losses against loops in float64, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.test_losses_local_terms import loop_gradient
from tests.tolerances import tolerance
from tests.walls import BATCH, HEIGHT, NUM_VIEWS, WIDTH, look_at_wall, with_holes
from tokengroups.encoders.vggt import VGGTOutput
from tokengroups.geometry import rigid
from tokengroups.losses.geometry import (
    GeometryLossWeights,
    GeometryTargets,
    camera_losses,
    dense_losses,
    filtered_mean,
    finite,
    geometry_losses,
    normalise_targets,
)
from tokengroups.types import Cameras, Views

# --- targets


def test_targets_are_in_the_first_camera_divided_by_the_mean_distance():
    views = with_holes(look_at_wall(noise=0.1))
    targets = normalise_targets(views)
    for b in range(BATCH):
        poses = views.cameras.cam_from_world[b].double().numpy()
        matrices = views.cameras.intrinsics[b].double().numpy()
        world = []
        for v in range(NUM_VIEWS):
            first_from_cam = poses[0] @ np.linalg.inv(poses[v])
            for i in range(HEIGHT):
                for j in range(WIDTH):
                    z = views.depth[b, v, i, j].item()
                    ray = np.linalg.inv(matrices[v]) @ np.array([j + 0.5, i + 0.5, 1.0])
                    world.append((first_from_cam @ np.append(ray * z, 1.0))[:3] if z > 0 else np.full(3, np.nan))
        world = np.array(world)
        scale = np.nansum(np.linalg.norm(world, axis=-1)) / (np.isfinite(world[:, 0]).sum() + 1e-3)
        assert targets.scale[b].item() == pytest.approx(scale, rel=1e-5)
        known = np.isfinite(world[:, 0])
        assert np.array_equal(targets.valid[b].flatten().numpy(), known)
        points = targets.points[b].flatten(0, 2).numpy()[known]
        np.testing.assert_allclose(points, world[known] / scale, rtol=0, atol=1e-5)
        for v in range(NUM_VIEWS):
            relative = poses[v] @ np.linalg.inv(poses[0])
            encoding = targets.pose_encodings[b, v].numpy()
            np.testing.assert_allclose(encoding[:3], relative[:3, 3] / scale, rtol=0, atol=1e-5)
            quats = Rotation.from_matrix(relative[:3, :3]).as_quat(canonical=True)
            np.testing.assert_allclose(encoding[3:7], quats, rtol=0, atol=1e-5)
            angles = [2 * math.atan(HEIGHT / 2 / 22), 2 * math.atan(WIDTH / 2 / 20)]
            np.testing.assert_allclose(encoding[7:], angles, rtol=1e-6)


def test_targets_do_not_know_the_world_nor_its_unit():
    views = look_at_wall()
    moved = rigid(torch.from_numpy(Rotation.random(random_state=3).as_matrix()).float(), torch.tensor([1.0, -2.0, 0.5]))
    pose = views.cameras.cam_from_world @ moved
    pose[..., :3, 3] *= 2.5
    other = Views(
        views.images, Cameras(pose, views.cameras.intrinsics, (HEIGHT, WIDTH)), views.depth * 2.5, views.group_ids
    )
    left, right = normalise_targets(views), normalise_targets(other)
    torch.testing.assert_close(right.scale, left.scale * 2.5, rtol=1e-4, atol=0)
    torch.testing.assert_close(right.pose_encodings, left.pose_encodings, rtol=0, atol=1e-5)
    torch.testing.assert_close(right.points, left.points, rtol=0, atol=1e-5)


def test_undefined_depth_is_unknown_depth():
    views = look_at_wall()
    views.depth[0, 0, 3, 4], views.depth[0, 1, 5, 6] = math.nan, math.inf
    targets = normalise_targets(views)
    assert not targets.valid[0, 0, 3, 4] and not targets.valid[0, 1, 5, 6]
    assert targets.points.isfinite().all()


def test_finite_replaces_and_clamps():
    x = torch.tensor([math.nan, math.inf, -math.inf, 1e5, -1e5, 2.0])
    assert finite(x).tolist() == [0, 0, 0, 100, -100, 2]


# --- camera


def test_camera_losses_match_a_loop_over_stages_and_scenes():
    targets = normalise_targets(look_at_wall())
    targets.valid[1, 0] = False
    targets.valid[1, 0, :4, :24] = True  # 96 points: this scene's cameras do not count
    stages = tuple(torch.randn(BATCH, NUM_VIEWS, 9, dtype=torch.float64) for _ in range(4))
    losses = camera_losses(tuple(x.float() for x in stages), targets)
    expected = [0.0, 0.0, 0.0]
    for k, stage in enumerate(stages):
        error = (stage - targets.pose_encodings.double()).abs()[0]
        parts = (error[:, :3], error[:, 3:7], error[:, 7:])
        for i, part in enumerate(parts):
            expected[i] += 0.6 ** (3 - k) / 4 * part.mean().item()
    actual = [losses.translation, losses.rotation, losses.field_of_view]
    torch.testing.assert_close(torch.stack(actual).double(), torch.tensor(expected).double(), rtol=1e-5, atol=0)


def test_camera_losses_are_zero_without_a_scene_that_counts():
    targets = normalise_targets(look_at_wall())
    empty = GeometryTargets(targets.pose_encodings, targets.depth, targets.points, targets.valid & False, targets.scale)
    prediction = torch.randn(BATCH, NUM_VIEWS, 9, requires_grad=True)
    losses = camera_losses((prediction,), empty)
    assert losses.translation == losses.rotation == losses.field_of_view == 0


# --- dense


def loop_filtered_mean(errors, quantile=0.98):
    if len(errors) <= 1000:
        return sum(errors) / len(errors)
    clamped = [min(error, 100.0) for error in errors]
    threshold = sorted(clamped)[round(quantile * (len(errors) - 1))]
    kept = [error for error in clamped if error < threshold]
    return sum(kept) / len(kept) if len(kept) > 1000 else sum(clamped) / len(clamped)


@pytest.mark.parametrize("count", [10, 1000, 1010, 5000])
def test_filtered_mean_drops_the_largest_two_percent(count):
    errors = torch.rand(count, dtype=torch.float64) ** 4 * 150
    assert filtered_mean(errors).item() == pytest.approx(loop_filtered_mean(errors.tolist()), rel=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_dense_losses_match_a_loop_over_pixels(channels):
    predicted, target = (torch.randn(2, 3, 16, 24, channels, dtype=torch.float64) for _ in range(2))
    confidence = 1 + torch.randn(2, 3, 16, 24, dtype=torch.float64).exp()
    valid = torch.rand(2, 3, 16, 24) < 0.7
    losses = dense_losses(predicted.float(), confidence.float(), target.float(), valid)
    distances, weighted = [], []
    for index in valid.nonzero().tolist():
        at = tuple(index)
        distance, c = (predicted[at] - target[at]).square().sum().sqrt().item(), confidence[at].item()
        distances.append(distance)
        weighted.append(distance * c - 0.2 * math.log(c))
    assert losses.regression.item() == pytest.approx(loop_filtered_mean(distances), rel=1e-5)
    assert losses.confidence.item() == pytest.approx(loop_filtered_mean(weighted), rel=1e-5)
    flat = [x.flatten(0, 1) for x in (predicted, target, valid)]
    assert losses.gradient.item() == pytest.approx(loop_gradient(*flat), rel=1e-5)


def test_dense_losses_are_zero_with_hardly_a_valid_pixel():
    predicted = torch.randn(1, 1, 16, 24, 1, requires_grad=True)
    valid = torch.zeros(1, 1, 16, 24, dtype=torch.bool)
    valid[0, 0, 0, :20] = True
    losses = dense_losses(predicted, predicted[..., 0].exp() + 1, torch.zeros_like(predicted), valid)
    losses.sum.backward()
    assert losses.sum == 0 and not predicted.grad.any()


# --- all together


def perfect_answer(views):
    targets = normalise_targets(views)
    return VGGTOutput(
        tokens=(),
        pose_encodings=(targets.pose_encodings,) * 4,
        depth=targets.depth,
        depth_confidence=torch.ones_like(targets.depth),
        points=targets.points,
        points_confidence=torch.ones_like(targets.depth),
    )


def test_a_perfect_answer_costs_nothing():
    views = look_at_wall()
    losses = geometry_losses(perfect_answer(views), views)
    # The clamp of the cosine at 1 - 1e-8 and rounding leave a little of the normals.
    torch.testing.assert_close(losses.total, torch.zeros(()), rtol=0, atol=1e-4)


def test_total_is_the_weighted_sum_of_its_parts_and_heads_that_are_off_vanish():
    views = with_holes(look_at_wall())
    weights = GeometryLossWeights(camera=3.0, field_of_view=0.25, depth=2.0)
    output = VGGTOutput(
        tokens=(),
        pose_encodings=tuple(torch.randn(BATCH, NUM_VIEWS, 9) for _ in range(4)),
        depth=torch.rand(BATCH, NUM_VIEWS, HEIGHT, WIDTH),
        depth_confidence=1 + torch.rand(BATCH, NUM_VIEWS, HEIGHT, WIDTH),
    )
    losses = geometry_losses(output, views, weights)
    named = losses.terms
    assert not any(name.startswith("points") for name in named)
    camera = named["camera.translation"] + named["camera.rotation"] + 0.25 * named["camera.field_of_view"]
    depth = named["depth.confidence"] + named["depth.regression"] + named["depth.gradient"]
    expected = 3 * camera + 2 * depth
    torch.testing.assert_close(losses.total, expected, **tolerance("float32"))


def test_losses_of_bfloat16_answers_are_float32():
    views = look_at_wall()
    output = perfect_answer(views).map(lambda tensor: tensor.bfloat16())
    losses = geometry_losses(output, views)
    assert all(value.dtype == torch.float32 for value in (losses.total, *losses.terms.values()))
