"""Geometry losses against loops in float64, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from tolerances import tolerance

from tokengroups.geometry import rigid
from tokengroups.losses.cell_matching import (
    CellTargets,
    cell_targets,
    matching_accuracy,
    matching_cells_loss,
)
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
from tokengroups.losses.local_terms import gradient_loss, normal_loss
from tokengroups.types import Cameras, EncoderOutput, Views

BATCH, NUM_VIEWS, HEIGHT, WIDTH = 2, 3, 16, 24
WEIGHTS = GeometryLossWeights()


def look_at_wall(batch=BATCH, num_views=NUM_VIEWS, distance=3.0, noise=0.0, size_hw=(HEIGHT, WIDTH)):
    """Views of the plane z = distance by cameras that are shifted and slightly turned; exact depth."""
    height, width = size_hw
    generator = np.random.default_rng(0)
    turn = Rotation.from_rotvec(generator.uniform(-0.15, 0.15, (batch * num_views, 3)))
    rotation = torch.from_numpy(turn.as_matrix()).float().unflatten(0, (batch, num_views))
    centre = torch.from_numpy(generator.uniform(-0.3, 0.3, (batch, num_views, 3))).float()
    cam_from_world = rigid(rotation, -(rotation @ centre[..., None])[..., 0])
    intrinsics = torch.tensor([[20.0, 0, width / 2], [0, 22.0, height / 2], [0, 0, 1]]).repeat(
        batch, num_views, 1, 1
    )
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(x - width / 2) / 20, (y - height / 2) / 22, torch.ones_like(x)], dim=-1)
    along = torch.einsum("hwj,bvj->bvhw", rays, rotation[..., :, 2])  # world z of the rays
    depth = (distance - centre[..., 2, None, None]) / along
    depth = depth + noise * torch.randn(depth.shape, generator=torch.Generator().manual_seed(1))
    images, ids = torch.rand(batch, num_views, 3, height, width), torch.zeros_like(depth).long()
    return Views(images, Cameras(cam_from_world, intrinsics, size_hw), depth, ids)


def with_holes(views, share=0.2):
    hole = torch.rand(views.depth.shape, generator=torch.Generator().manual_seed(2)) < share
    return Views(views.images, views.cameras, views.depth.masked_fill(hole, 0.0), views.group_ids)


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
                    world.append(
                        (first_from_cam @ np.append(ray * z, 1.0))[:3] if z > 0 else np.full(3, np.nan)
                    )
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
    moved = rigid(
        torch.from_numpy(Rotation.random(random_state=3).as_matrix()).float(), torch.tensor([1.0, -2.0, 0.5])
    )
    pose = views.cameras.cam_from_world @ moved
    pose[..., :3, 3] *= 2.5
    other = Views(
        views.images,
        Cameras(pose, views.cameras.intrinsics, (HEIGHT, WIDTH)),
        views.depth * 2.5,
        views.group_ids,
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
    losses = camera_losses(tuple(x.float() for x in stages), targets, WEIGHTS)
    expected = [0.0, 0.0, 0.0]
    for k, stage in enumerate(stages):
        error = (stage - targets.pose_encodings.double()).abs()[0]
        parts = (error[:, :3], error[:, 3:7], error[:, 7:])
        for i, part in enumerate(parts):
            expected[i] += 0.6 ** (3 - k) / 4 * part.mean().item()
    actual = [losses.translation, losses.rotation, losses.field_of_view]
    torch.testing.assert_close(
        torch.stack(actual).double(), torch.tensor(expected).double(), rtol=1e-5, atol=0
    )


def test_camera_losses_are_zero_without_a_scene_that_counts():
    targets = normalise_targets(look_at_wall())
    empty = GeometryTargets(
        targets.pose_encodings, targets.depth, targets.points, targets.valid & False, targets.scale
    )
    prediction = torch.randn(BATCH, NUM_VIEWS, 9, requires_grad=True)
    losses = camera_losses((prediction,), empty, WEIGHTS)
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
    assert filtered_mean(errors, 0.98).item() == pytest.approx(loop_filtered_mean(errors.tolist()), rel=1e-9)


def loop_gradient(predicted, target, valid):
    number, height, width, channels = predicted.shape
    total = 0.0
    for step in (1, 2, 4, 8):
        differences, count = 0.0, 0
        for n in range(number):
            for i in range(0, height, step):
                for j in range(0, width, step):
                    if not valid[n, i, j]:
                        continue
                    count += channels
                    for neighbour in ((i, j + step), (i + step, j)):
                        if neighbour[0] < height and neighbour[1] < width and valid[n][neighbour]:
                            here = predicted[n, i, j] - target[n, i, j]
                            there = predicted[n][neighbour] - target[n][neighbour]
                            differences += (there - here).abs().clamp(max=100).sum().item()
        total += differences / max(count, 1)
    return total / 4


def random_maps(channels, number=2, height=11, width=14):
    predicted = torch.randn(number, height, width, channels, dtype=torch.float64)
    target = torch.randn(number, height, width, channels, dtype=torch.float64)
    return predicted, target, torch.rand(number, height, width) < 0.8


def test_gradient_loss_matches_a_loop_over_pixels():
    maps = random_maps(2)
    assert gradient_loss(*maps).item() == pytest.approx(loop_gradient(*maps), rel=1e-9)


def loop_normals(predicted, target, valid):
    total = 0.0
    for step in (1, 2, 4):
        p, t, m = (x[:, ::step, ::step] for x in (predicted, target, valid))
        errors = []
        for n in range(p.shape[0]):
            for i in range(1, p.shape[1] - 1):
                for j in range(1, p.shape[2] - 1):
                    ring = [(i - 1, j), (i, j - 1), (i + 1, j), (i, j + 1)]
                    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
                        if m[n, i, j] and m[n][a] and m[n][b]:
                            normals = [
                                np.cross((x[n][a] - x[n, i, j]).numpy(), (x[n][b] - x[n, i, j]).numpy())
                                for x in (p, t)
                            ]
                            lengths = [np.linalg.norm(normal) for normal in normals]
                            errors.append(1 - float(normals[0] @ normals[1]) / (lengths[0] * lengths[1]))
        if len(errors) >= 10:
            total += sum(errors) / len(errors)
    return total / 3


def test_normal_loss_matches_a_loop_over_pixels():
    maps = random_maps(3)
    assert normal_loss(*maps).item() == pytest.approx(loop_normals(*maps), rel=1e-6)


def test_normal_loss_ignores_scale_and_shift():
    predicted, _, valid = random_maps(3)
    assert normal_loss(predicted, predicted * 3 + 1, valid).item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("channels", [1, 3])
def test_dense_losses_match_a_loop_over_pixels(channels):
    predicted, target = (torch.randn(2, 3, 16, 24, channels, dtype=torch.float64) for _ in range(2))
    confidence = 1 + torch.randn(2, 3, 16, 24, dtype=torch.float64).exp()
    valid = torch.rand(2, 3, 16, 24) < 0.7
    losses = dense_losses(predicted.float(), confidence.float(), target.float(), valid, WEIGHTS)
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
    losses = dense_losses(predicted, predicted[..., 0].exp() + 1, torch.zeros_like(predicted), valid, WEIGHTS)
    losses.sum.backward()
    assert losses.sum == 0 and not predicted.grad.any()


# --- matching


def loop_cell_targets(views, side):
    batch, num_views, height, width = views.depth.shape
    found = {}
    for b in range(batch):
        poses = views.cameras.cam_from_world[b].double().numpy()
        matrices = views.cameras.intrinsics[b].double().numpy()
        for v in range(1, num_views):
            for cell in range(height // side * (width // side)):
                i, j = (
                    (cell // (width // side)) * side + side // 2,
                    (cell % (width // side)) * side + side // 2,
                )
                z = views.depth[b, v, i, j].item()
                if z <= 0:
                    continue
                point = np.append(np.linalg.inv(matrices[v]) @ np.array([j + 0.5, i + 0.5, 1.0]) * z, 1.0)
                x, y, depth = matrices[0] @ (poses[0] @ np.linalg.inv(poses[v]) @ point)[:3]
                column, row = math.floor(x / depth), math.floor(y / depth)
                if depth > 0 and 0 <= column < width and 0 <= row < height:
                    seen = views.depth[b, 0, row, column].item()
                    if seen > 0 and abs(seen - depth) < 0.05 * depth:
                        found[b, v, cell] = (row // side) * (width // side) + column // side
    return found


def test_cell_targets_match_a_loop_over_cells():
    views = with_holes(look_at_wall(noise=0.1))
    targets = cell_targets(views, HEIGHT * WIDTH // 16)
    expected = loop_cell_targets(views, 4)
    assert 20 < len(expected) < targets.visible[:, 1:].numel()  # some, not all
    assert {tuple(index) for index in targets.visible.nonzero().tolist()} == expected.keys()
    assert {index: targets.cells[index].item() for index in expected} == expected


def test_the_same_camera_sees_every_cell_where_it_is():
    views = look_at_wall()
    views.cameras.cam_from_world[:] = views.cameras.cam_from_world[:, :1].clone()
    views.depth[:] = views.depth[:, :1].clone()
    targets = cell_targets(views, 96)
    assert targets.visible[:, 1:].all() and not targets.visible[:, 0].any()
    assert (targets.cells[:, 1:] == torch.arange(96)).all()


def test_what_something_nearer_hides_in_view_0_is_not_visible():
    views = look_at_wall()
    views.depth[:, 0] = 0.5
    assert not cell_targets(views, 96).visible.any()


def test_cells_must_tile_the_image():
    with pytest.raises(ValueError, match="50 square cells"):
        cell_targets(look_at_wall(), 50)


def test_matching_loss_is_the_mean_cross_entropy_of_visible_cells():
    logits = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    targets = CellTargets(torch.randint(6, (2, 3, 6)), torch.rand(2, 3, 6) < 0.5)
    targets.visible[:, 0] = False
    expected, right = [], []
    for index in targets.visible.nonzero().tolist():
        row, cell = logits[tuple(index)], targets.cells[tuple(index)]
        expected.append((row.exp().sum().log() - row[cell]).item())
        right.append(int(row.argmax() == cell))
    loss = matching_cells_loss(logits.float(), targets)
    assert loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert matching_accuracy(logits.float(), targets).item() == pytest.approx(sum(right) / len(right))


def test_matching_loss_is_zero_when_nothing_is_visible():
    logits = torch.randn(1, 1, 6, 6, requires_grad=True)  # a single view has nobody to match with
    targets = CellTargets(torch.zeros(1, 1, 6, dtype=torch.int64), torch.zeros(1, 1, 6, dtype=torch.bool))
    loss = matching_cells_loss(logits, targets)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


# --- all together


def perfect_answer(views):
    targets = normalise_targets(views)
    return EncoderOutput(
        tokens=(),
        pose_encodings=(targets.pose_encodings,) * 4,
        depth=targets.depth,
        depth_confidence=torch.ones_like(targets.depth),
        points=targets.points,
        points_confidence=torch.ones_like(targets.depth),
        cell_descriptors=None,
    )


def test_a_perfect_answer_costs_nothing():
    views = look_at_wall()
    losses = geometry_losses(perfect_answer(views), views)
    # The clamp of the cosine at 1 - 1e-8 and rounding leave a little of the normals.
    torch.testing.assert_close(losses.total, torch.zeros(()), rtol=0, atol=1e-4)


def test_total_is_the_weighted_sum_of_its_parts_and_heads_that_are_off_vanish():
    views = with_holes(look_at_wall())
    weights = GeometryLossWeights(camera=3.0, field_of_view=0.25, depth=2.0, matching=0.7)
    output = EncoderOutput(
        tokens=(),
        pose_encodings=tuple(torch.randn(BATCH, NUM_VIEWS, 9) for _ in range(4)),
        depth=torch.rand(BATCH, NUM_VIEWS, HEIGHT, WIDTH),
        depth_confidence=1 + torch.rand(BATCH, NUM_VIEWS, HEIGHT, WIDTH),
        cell_descriptors=torch.randn(BATCH, NUM_VIEWS, 96, 8),
    )
    losses = geometry_losses(output, views, weights)
    named = losses.named()
    assert losses.points is None and not any(name.startswith("points") for name in named)
    camera = named["camera.translation"] + named["camera.rotation"] + 0.25 * named["camera.field_of_view"]
    depth = named["depth.confidence"] + named["depth.regression"] + named["depth.gradient"]
    expected = 3 * camera + 2 * depth + 0.7 * named["matching"]
    torch.testing.assert_close(losses.total, expected, **tolerance("float32"))


def test_losses_of_bfloat16_answers_are_float32():
    views = look_at_wall()
    output = perfect_answer(views).map(lambda tensor: tensor.bfloat16())
    assert all(value.dtype == torch.float32 for value in geometry_losses(output, views).named().values())
