"""Multi-view stereo: its parts against loops in float64, and depth of a textured scene that is known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from largest_tensor import LargestTensor
from torch import Tensor

from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.postprocess.depth_agreement import FINER, SAME_LOG_DEPTH, compare_depth
from tokengroups.postprocess.multi_view_stereo import MultiViewStereo, refine_depth
from tokengroups.postprocess.multi_view_stereo.cost_volume import (
    NOISE_VARIANCE,
    PARTNERS,
    PATCH_RADIUS_PX,
    UNSEEN_COST,
    matching_costs,
    patch_mean,
    stereo_partners,
)
from tokengroups.postprocess.multi_view_stereo.semi_global import (
    EDGE_FALL,
    JUMP_PENALTY,
    STEP_PENALTY,
    aggregate,
    best_label,
)
from tokengroups.types import Cameras

SIZE = 48
TILT = 0.35  # slope of the plane's depth along x, in pixels of the scene's texture


def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Grey values in [0, 1] of a plane, smooth and without period."""
    waves = ((12.1, 5.3), (-9.7, 15.1), (21.9, -9.3), (4.7, 24.7), (31.3, 17.1))
    return 0.5 + np.sum([np.sin(a * x + b * y + a) for a, b in waves], axis=0) / (2.4 * len(waves))


def tilted_plane(views: int = 3) -> tuple[Tensor, Cameras, Tensor]:
    """Photos, cameras and depth of the plane z = 2 + TILT x, seen by cameras side by side."""
    focal = 1.1 * SIZE
    pinhole = np.array([[focal, 0, SIZE / 2], [0, focal, SIZE / 2], [0, 0, 1]])
    photos, poses, depths = [], [], []
    columns, rows = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    across, down = (columns - SIZE / 2) / focal, (rows - SIZE / 2) / focal
    for view in range(views):
        shift = 0.3 * view
        depth = (2 + TILT * shift) / (1 - TILT * across)  # z of the ray at x = shift + z * across
        photos.append(np.repeat(texture(shift + depth * across, depth * down)[None], 3, axis=0))
        pose = np.eye(4)
        pose[0, 3] = -shift
        poses.append(pose)
        depths.append(depth)
    cameras = Cameras(
        torch.tensor(np.array(poses), dtype=torch.float32),
        torch.tensor(np.array([pinhole] * views), dtype=torch.float32),
        (SIZE, SIZE),
    )
    return torch.tensor(np.array(photos)).float(), cameras, torch.tensor(np.array(depths)).float()


def errors(depth: Tensor, true: Tensor) -> Tensor:
    return (depth / true).log().abs()


@pytest.mark.parametrize("factor", [0.85, 1.2])
def test_a_textured_plane_gets_its_depth_back(factor: float) -> None:
    photos, cameras, true = tilted_plane()
    inner = (..., slice(6, -6), slice(12, -12))
    wrong = true * factor
    found = refine_depth(photos, cameras, wrong)
    assert float(errors(found, true)[inner].median()) < 0.02 < 0.1 < float(errors(wrong, true).min())


def test_depth_that_is_right_stays() -> None:
    photos, cameras, true = tilted_plane()
    assert float(errors(refine_depth(photos, cameras, true), true).quantile(0.95)) < 0.01


def test_what_no_photo_can_confirm_keeps_its_depth() -> None:
    photos, cameras, true = tilted_plane(2)
    grey = torch.full_like(photos, 0.5)
    torch.testing.assert_close(refine_depth(grey, cameras, 0.9 * true), 0.9 * true, rtol=0.02, atol=0)  # only fused
    away = Cameras(cameras.cam_from_world.clone(), cameras.intrinsics, cameras.size_hw)
    away.cam_from_world[1, 0, 3] = 50.0  # sees nothing of what the first one sees
    assert torch.equal(refine_depth(photos, away, 0.9 * true), 0.9 * true)
    assert torch.equal(refine_depth(photos[:1], cameras.map(lambda t: t[:1]), true[:1]), true[:1])


def test_masked_pixels_keep_their_depth_and_confirm_nothing() -> None:
    photos, cameras, true = tilted_plane()
    mask = torch.ones_like(true, dtype=torch.bool)
    mask[:, :20] = False
    found = refine_depth(photos, cameras, 1.15 * true, mask=mask)
    assert torch.equal(found[~mask], (1.15 * true)[~mask])
    assert float(errors(found, true)[:, 26:-6, 12:-12].median()) < 0.02
    only = mask.clone()
    only[1:] = False
    assert torch.equal(refine_depth(photos, cameras, 1.15 * true, mask=only), 1.15 * true)


def test_the_unit_of_the_scene_does_not_matter() -> None:
    photos, cameras, true = tilted_plane()
    poses = cameras.cam_from_world.clone()
    poses[:, :3, 3] *= 1000
    large = Cameras(poses, cameras.intrinsics, cameras.size_hw)
    found, same = refine_depth(photos, cameras, 1.1 * true), refine_depth(photos, large, 1100 * true)
    torch.testing.assert_close(same / 1000, found, rtol=1e-3, atol=0)


def test_rooms_gain() -> None:
    views = to_views(generate_room(7, 0, "test", num_views=9, size=96), range(1, 9, 2))
    ways = torch.linspace(-1, 1, 96)
    bent = views.depth * (0.06 * torch.sin(3 * ways[:, None] + 2 * ways)).exp()
    found = refine_depth(views.images, views.cameras, bent)
    assert float(errors(found, views.depth).mean()) < 0.8 * float(errors(bent, views.depth).mean())


# --- costs ----------------------------------------------------------------------------------------------------------


def loop_cost(photos: Tensor, cameras: Cameras, depth: float, other: int, row: int, column: int) -> float:
    """1 minus the correlation of a patch of photo 0 with another photo's, each pixel at its own depth, in float64."""
    grey = photos.mean(dim=1).double().numpy()
    pose = (cameras.cam_from_world[other] @ torch.linalg.inv(cameras.cam_from_world[0])).double().numpy()
    pinhole = cameras.intrinsics[0].double().numpy()
    own, theirs = [], []
    reach = range(-PATCH_RADIUS_PX, PATCH_RADIUS_PX + 1)
    for down, right in itertools.product(reach, reach):
        y, x = row + down, column + right
        ray = np.linalg.inv(pinhole) @ [x + 0.5, y + 0.5, 1]
        seen = pinhole @ (pose[:3, :3] @ (depth * ray) + pose[:3, 3])
        u, v = seen[0] / seen[2] - 0.5, seen[1] / seen[2] - 0.5
        left, top = math.floor(u), math.floor(v)
        value = 0.0
        for y0, x0 in itertools.product((top, top + 1), (left, left + 1)):
            weight = (1 - abs(u - x0)) * (1 - abs(v - y0))
            value += weight * grey[other, min(max(y0, 0), SIZE - 1), min(max(x0, 0), SIZE - 1)]
        own.append(grey[0, y, x])
        theirs.append(value)
    a, b = np.array(own), np.array(theirs)
    covariance = (a * b).mean() - a.mean() * b.mean()
    return 1 - covariance / math.sqrt((a.var() + NOISE_VARIANCE) * (b.var() + NOISE_VARIANCE))


@pytest.mark.parametrize(("depth", "row", "column"), [(2.0, 20, 26), (1.7, 24, 30), (2.6, 12, 22)])
def test_costs_are_those_of_a_loop(depth: float, row: int, column: int) -> None:
    photos, cameras, _ = tilted_plane()
    flat = torch.full((3, SIZE, SIZE), 2.0)
    logs = torch.tensor([math.log(depth / 2)])
    for partners in ([1], [2], [1, 2]):
        cost = matching_costs(photos, cameras, flat, 0, partners, logs)[0, row, column]
        expected = min(loop_cost(photos, cameras, depth, other, row, column) for other in partners)
        assert float(cost) == pytest.approx(min(max(expected, 0), 1), abs=2e-3)  # of two, the better one


def test_costs_are_least_at_the_true_depth_and_neutral_where_nothing_is_seen() -> None:
    photos, cameras, true = tilted_plane()
    logs = torch.linspace(-0.3, 0.3, 13)
    costs = matching_costs(photos, cameras, true, 1, [0, 2], logs)
    assert bool((costs >= 0).all()) and bool((costs <= 1).all())
    assert float((costs.argmin(dim=0) == 6)[8:-8, 14:-14].float().mean()) > 0.95
    assert bool((matching_costs(photos, cameras, true, 1, [], logs) == UNSEEN_COST).all())
    far = Cameras(cameras.cam_from_world.clone(), cameras.intrinsics, cameras.size_hw)
    far.cam_from_world[2, 2, 3] = -100.0  # behind it
    assert bool((matching_costs(photos, far, true, 1, [2], logs) == UNSEEN_COST).all())


def test_costs_of_pixels_that_do_not_count_are_neutral() -> None:
    photos, cameras, true = tilted_plane()
    mask = torch.ones_like(true, dtype=torch.bool)
    mask[0, :9] = False
    logs = torch.linspace(-0.3, 0.3, 5)
    costs = matching_costs(photos, cameras, true, 0, [1, 2], logs, mask)
    assert bool((costs[:, :9] == UNSEEN_COST).all())
    assert torch.equal(costs[:, 9:], matching_costs(photos, cameras, true, 0, [1, 2], logs)[:, 9:])


def test_costs_are_those_of_one_photo_at_a_time() -> None:
    """Those of 100 photos of 518x392 pixels would take 2.5 GB, and the sums along paths seven times as much."""
    photos, cameras, true = tilted_plane(8)
    with LargestTensor() as watched:
        refine_depth(photos, cameras, true)
    assert watched.numel <= PARTNERS * MultiViewStereo().planes * SIZE**2


def test_patch_means_count_only_pixels_of_the_photo() -> None:
    values = torch.rand(2, 11, 13)
    padded = np.full((2, 11 + 8, 13 + 8), np.nan)
    padded[:, 4:-4, 4:-4] = values.numpy()
    for row, column in ((0, 0), (5, 6), (10, 12), (2, 11)):
        expected = np.nanmean(padded[:, row : row + 9, column : column + 9], axis=(1, 2))
        np.testing.assert_allclose(patch_mean(values)[:, row, column].numpy(), expected, rtol=1e-5)


def test_partners_see_much_at_a_good_angle() -> None:
    _, cameras, depth = tilted_plane(4)
    poses = cameras.cam_from_world.clone()
    poses[3] = poses[0]
    poses[3, 0, 3] = -1e-3  # as good as the first one: no parallax
    found = stereo_partners(depth, Cameras(poses, cameras.intrinsics, cameras.size_hw))
    assert found[0][0] in (1, 2) and found[0].index(1) < len(found[0])
    assert 3 not in found[0] or found[0].index(3) > found[0].index(1)
    assert all(view not in partners for view, partners in enumerate(found))


# --- semi-global matching -------------------------------------------------------------------------------------------


def test_paths_are_those_of_a_loop() -> None:
    costs, photos = torch.rand(1, 4, 5, 6, dtype=torch.float64), torch.rand(1, 3, 5, 6, dtype=torch.float64)
    found = aggregate(costs, photos)
    expected = np.zeros((4, 5, 6))
    for step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        paths = np.full((4, 5, 6), np.nan)
        rows, columns = range(5)[:: step[0] or 1], range(6)[:: step[1] or 1]
        for row, column in itertools.product(rows, columns):
            y, x = row - step[0], column - step[1]
            for label in range(4):
                own = float(costs[0, label, row, column])
                if not (0 <= y < 5 and 0 <= x < 6):
                    paths[label, row, column] = own
                    continue
                apart = (photos[0, :, row, column] - photos[0, :, y, x]).abs().mean()
                weight, before = math.exp(-EDGE_FALL * float(apart)), paths[:, y, x]
                jumps = [abs(label - other) for other in range(4)]
                prices = [0 if jump == 0 else STEP_PENALTY if jump == 1 else JUMP_PENALTY for jump in jumps]
                cheapest = min(b + weight * price for b, price in zip(before, prices, strict=True))
                paths[label, row, column] = own + cheapest - before.min()
        expected += paths
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-9)


def test_a_few_wrong_pixels_follow_their_neighbours() -> None:
    costs = torch.ones(1, 9, 16, 16)
    costs[:, 4] = 0.2
    costs[:, :, 7:9, 7:9] = 1.0
    costs[:, 0, 7:9, 7:9] = 0.5
    labels = best_label(aggregate(costs, torch.full((1, 3, 16, 16), 0.5)))
    assert float((labels - 4).abs().max()) < 0.5


def test_labels_lie_between_planes() -> None:
    places = torch.tensor([1.0, 2.3, 3.7, 6.0])
    costs = (torch.arange(8.0)[:, None] - places).square()[None, :, None]
    torch.testing.assert_close(best_label(costs), places[None, None], rtol=0, atol=1e-5)
    flat = torch.zeros(1, 8, 1, 3)
    assert bool(best_label(flat).isfinite().all())


# --- agreement of photos --------------------------------------------------------------------------------------------


def test_agreement_is_that_of_a_loop() -> None:
    views = to_views(generate_room(7, 1, "test", num_views=7, size=32), range(1, 7, 2))
    depth = views.depth * (1 + 0.06 * torch.rand_like(views.depth))
    mask = torch.rand_like(depth) > 0.2
    poses, pinholes = views.cameras.cam_from_world.double().numpy(), views.cameras.intrinsics.double().numpy()
    found = compare_depth(depth, views.cameras, 2, mask)
    checked = 0
    for row, column in itertools.product(range(0, 32, 3), range(0, 32, 3)):
        z = float(depth[2, row, column])
        point = z * (np.linalg.inv(pinholes[2]) @ [column + 0.5, row + 0.5, 1])
        world = np.linalg.inv(poses[2]) @ [*point, 1]
        offsets, support, conflicts, owned = [0.0], 0, 0, True
        near_border = False
        for other in (0, 1):
            x, y, depth_there = (poses[other] @ world)[:3]
            u, v, w = pinholes[other] @ [x, y, depth_there]
            if depth_there <= 0 or not (0 <= u / w < 32 and 0 <= v / w < 32):
                continue
            near_border |= min(abs(u / w - round(u / w)), abs(v / w - round(v / w))) < 1e-3
            if not mask[other, int(v / w), int(u / w)]:
                continue
            difference = math.log(float(depth[other, int(v / w), int(u / w)]) / depth_there)
            near_border |= abs(abs(difference) - SAME_LOG_DEPTH) < 1e-4
            if abs(difference) < SAME_LOG_DEPTH:
                offsets.append(difference)
                support += 1
                owned &= not depth_there / pinholes[other, 0, 0] < FINER * z / pinholes[2, 0, 0]
            conflicts += difference >= SAME_LOG_DEPTH
        if near_border:
            continue
        checked += 1
        assert float(found.log_offset[row, column]) == pytest.approx(sum(offsets) / (support + 1), abs=1e-4)
        assert (found.support[row, column], found.conflicts[row, column]) == (support, conflicts)
        assert bool(found.owned[row, column]) == owned
    assert checked > 80
