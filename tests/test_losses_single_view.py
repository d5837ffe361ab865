"""Single-view losses: their targets, and loops in float64."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from tests.tolerances import tolerance
from tokengroups.data.augment import collate, crop_views, mirror
from tokengroups.encoders.base import PAIR_OFFSETS
from tokengroups.encoders.vggt_tiny import SingleViewPrediction
from tokengroups.geometry import rigid, unproject
from tokengroups.losses.single_view import (
    SingleViewLossWeights,
    pair_affinity_loss,
    single_view_losses,
    single_view_targets,
)
from tokengroups.types import Cameras, Views

SIDE, FOCAL, CELLS = 64, 50.0, 16


def floor(pitch: float, roll: float, height: float = 1.5) -> Views:
    """One view of an endless floor from above; it fills the lower part of the photo, the rest is unknown."""
    torch.manual_seed(0)
    c, s = math.cos(pitch), math.sin(pitch)
    look = torch.tensor([[1.0, 0, 0], [0, -s, -c], [0, c, -s]])  # rows: right, down, forward; world z up
    c, s = math.cos(roll), math.sin(roll)
    rotation = torch.tensor([[c, s, 0], [-s, c, 0], [0, 0, 1.0]]) @ look
    intrinsics = torch.tensor([[FOCAL, 0, SIDE / 2], [0, FOCAL, SIDE / 2], [0, 0, 1]])
    up = rotation[:, 2]
    falling = -(unproject(torch.ones(SIDE, SIDE), intrinsics) @ up)
    depth = torch.where(falling > 0.2, height / falling, 0.0)
    pose = rigid(rotation, -rotation @ torch.tensor([0.0, 0, height]))
    cameras = Cameras(pose[None], intrinsics[None], (SIDE, SIDE))
    return Views(torch.rand(1, 3, SIDE, SIDE), cameras, depth[None], torch.zeros(1, SIDE, SIDE).long())


def predictions(count: int) -> SingleViewPrediction:
    torch.manual_seed(1)
    return SingleViewPrediction(
        log_focal=torch.randn(count) * 0.1 - 0.2,
        deviation=torch.rand(count) * 0.1 + 0.05,
        up=torch.randn(count, 3),
        normals=torch.randn(count, 3, CELLS, CELLS),
        log_depth=torch.randn(count, CELLS, CELLS),
    )


def test_a_floor_s_normals_point_up() -> None:
    """Whatever the camera's pitch and roll: as targets, normals and the up vector are one for a floor."""
    targets = [single_view_targets(collate([floor(pitch, roll)]), CELLS) for pitch, roll in ((0.4, 0.1), (0.9, -0.3))]
    for target in targets:
        assert 0.3 < target.valid.float().mean() <= 1
        assert float(target.log_focal) == pytest.approx(math.log(FOCAL / SIDE))
        up = target.up[:, :, None, None].expand_as(target.normals)
        alike = (up * target.normals).sum(dim=1)[target.valid]
        torch.testing.assert_close(alike.abs(), torch.ones_like(alike), **tolerance("float32_chain"))
        assert alike.sign().unique().numel() == 1  # normals never change sides within a surface
    assert torch.equal(targets[0].log_depth.isfinite(), torch.ones_like(targets[0].valid))


def test_targets_are_mirrored_with_the_photos() -> None:
    views = floor(0.5, 0.2)
    straight = single_view_targets(collate([views]), CELLS)
    mirrored = single_view_targets(collate([mirror(views)]), CELLS)
    # A cell's middle is the pixel right of its centre line; mirrored, the one left of it: a pixel apart.
    flip = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(mirrored.up, straight.up * flip)
    torch.testing.assert_close(mirrored.log_focal, straight.log_focal)
    both = mirrored.valid & straight.valid.flip(-1)
    normals = straight.normals.flip(-1) * flip[:, None, None]
    apart = functional.cosine_similarity(normals, mirrored.normals, dim=1)[both]
    assert both.float().mean() > 0.3
    torch.testing.assert_close(apart.abs(), torch.ones_like(apart), **tolerance("float32_chain"))


def test_an_enlarged_photo_has_a_longer_focal_length() -> None:
    views = floor(0.6, 0.0)
    zoomed = single_view_targets(collate([crop_views(views, (SIDE, SIDE), zoom=1.28)]), CELLS)
    target = single_view_targets(collate([views]), CELLS)
    torch.testing.assert_close(zoomed.log_focal, target.log_focal + math.log(1.28))
    torch.testing.assert_close(zoomed.up, target.up)


def test_losses_equal_loops_in_float64() -> None:
    views = collate([floor(0.4, 0.1), floor(0.8, 0.0)])
    target, predicted = single_view_targets(views, CELLS), predictions(2)
    losses = single_view_losses(predicted, target, SingleViewLossWeights(up=3.0, normals=0.5, depth=2.0))
    focal, up, normals, depth = [], [], [], []
    for n in range(2):
        one = predicted.map(lambda t, n=n: t[n].double())
        true_up, true_normals = target.up[n].double(), target.normals[n].double()
        spread = float(one.deviation)
        focal.append(abs(float(one.log_focal) - float(target.log_focal[n])) / spread + math.log(spread))
        up.append(1 - float(one.up / one.up.norm() @ true_up / true_up.norm()))
        cells = [(i, j) for i in range(CELLS) for j in range(CELLS) if target.valid[n, i, j]]
        angles, offsets = [], []
        for i, j in cells:
            a, b = one.normals[:, i, j], true_normals[:, i, j]
            angles.append(1 - float(a @ b / a.norm() / b.norm()))
            offsets.append(float(one.log_depth[i, j]) - float(target.log_depth[n, i, j]))
        mean = sum(offsets) / len(offsets)
        normals.append(sum(angles) / len(angles))
        depth.append(sum(abs(offset - mean) for offset in offsets) / len(offsets))
    parts = [sum(values) / 2 for values in (focal, up, normals, depth)]
    found = [float(part) for part in (losses.terms[name] for name in ("focal", "up", "normals", "depth"))]
    assert found == pytest.approx(parts, rel=1e-4)
    assert float(losses.total) == pytest.approx(parts[0] + 3 * parts[1] + 0.5 * parts[2] + 2 * parts[3], rel=1e-4)


def test_unknown_depth_counts_for_nothing() -> None:
    views = collate([floor(0.4, 0.1)])
    unknown = replace(views, depth=torch.zeros_like(views.depth))
    losses = single_view_losses(predictions(1), single_view_targets(unknown, CELLS), SingleViewLossWeights())
    assert float(losses.terms["normals"]) == 0 and float(losses.terms["depth"]) == 0
    assert math.isfinite(float(losses.total))
    with pytest.raises(ValueError, match="must be a finite number from 0 to 1,000,000, got -1.0"):
        SingleViewLossWeights(up=-1.0)


def test_the_pair_affinity_loss_equals_a_loop_in_float64() -> None:
    torch.manual_seed(2)
    cells, side = 8, 32
    logits = torch.randn(3, len(PAIR_OFFSETS), cells, cells)
    ids = torch.randint(-1, 3, (3, side, side))
    means = []
    for index, (down, right) in enumerate(PAIR_OFFSETS):
        entropies = []
        for n, i, j in torch.cartesian_prod(torch.arange(3), torch.arange(cells), torch.arange(cells)).tolist():
            if i + down >= cells or j + right >= cells:
                continue
            own, other = (int(ids[n, 4 * r + 2, 4 * c + 2]) for r, c in ((i, j), (i + down, j + right)))
            if own < 0 or other < 0:
                continue
            same = 1 / (1 + math.exp(-float(logits[n, index, i, j])))
            entropies.append(-math.log(same if own == other else 1 - same))
        means.append(sum(entropies) / len(entropies) if entropies else 0.0)
    found = pair_affinity_loss(logits, ids)
    assert float(found) == pytest.approx(sum(means) / len(PAIR_OFFSETS), rel=1e-5)  # nothing is 8 cells away here
    unlabelled = torch.full_like(ids, -1)
    assert float(pair_affinity_loss(logits, unlabelled)) == 0
    targets, weights = (
        single_view_targets(collate([floor(0.4, 0.1)] * 3), CELLS),
        SingleViewLossWeights(pair_affinity=3.0),
    )
    targets = replace(targets, group_ids=ids)
    losses = single_view_losses(predictions(3), targets, weights)
    added = single_view_losses(replace(predictions(3), pair_affinity=logits), targets, weights)
    assert added.terms["pair_affinity"] == found and "pair_affinity" not in losses.terms
    torch.testing.assert_close(added.total, losses.total + 3 * found)
