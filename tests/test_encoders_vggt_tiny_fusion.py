"""Fusion of the heads' focal length and depth with the single-view network's."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.tolerances import tolerance
from tokengroups.encoders.vggt_tiny import SingleViewPrediction
from tokengroups.encoders.vggt_tiny.fusion import (
    CAMERA_HEAD_LOG_FOCAL_STD,
    MAX_LOG_DEPTH_DIFFERENCE,
    SINGLE_VIEW_DEPTH_WEIGHT,
    depth_change,
    focal_factor,
    fuse_depth,
    fuse_focal,
)

CELLS = 16


def test_focal_lengths_are_weighted_by_their_variances() -> None:
    intrinsics = torch.eye(3).expand(1, 2, 3, 3).clone()
    intrinsics[:, :, 0, 0], intrinsics[:, :, 1, 1] = 60.0, 60.0
    prediction = SingleViewPrediction(
        log_focal=torch.tensor([[math.log(66 / 64) - 0.02, math.log(66 / 64) + 0.02]]),
        deviation=torch.zeros(1, 2),
        up=torch.zeros(1, 2, 3),
        normals=torch.zeros(1, 2, 3, CELLS, CELLS),
        log_depth=torch.zeros(1, 2, CELLS, CELLS),
    )
    size_hw = (64, 96)  # the shorter side is what focal lengths are measured in
    for deviation, share in ((0.0, 1.0), (CAMERA_HEAD_LOG_FOCAL_STD, 0.5), (1e6, 0.0)):
        factor = focal_factor(intrinsics, replace(prediction, deviation=torch.full((1, 2), deviation)), size_hw)
        assert float(factor) == pytest.approx((66 / 60) ** share, rel=1e-5)


def ramp(height: int, width: int) -> torch.Tensor:
    """Logarithms of a depth that grows to the right and downwards."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return 0.01 * x + 0.004 * y


@pytest.mark.parametrize("size_hw", [(64, 64), (48, 64), (80, 64)])
def test_depth_moves_towards_the_single_view_network_s(size_hw) -> None:
    """Smoothly bent depth, a prediction right up to a factor: the share of the way, on the square that it sees."""
    height, width = size_hw
    side = min(size_hw)
    top, left = (height - side) // 2, (width - side) // 2
    middles = ((torch.arange(CELLS) + 0.5) * (side / CELLS)).long()
    truth = ramp(height, width).expand(2, -1, -1)
    bent = truth + 0.1 * ((torch.arange(width) + 0.5) / width - 0.5)
    single = truth[:, (top + middles)[:, None], left + middles] + torch.tensor([0.7, -0.4])[:, None, None]
    change = depth_change(bent.exp(), single)
    expected = SINGLE_VIEW_DEPTH_WEIGHT * (truth - bent)
    inner = (..., slice(top + 8, top + side - 8), slice(left + 8, left + side - 8))
    difference = (change - expected)[inner]
    assert (difference - difference.mean()).abs().max() < 0.004  # cells' middles are whole pixels
    assert difference.mean().abs() < 0.005
    if height > width:
        assert torch.equal(change[:, 0], change[:, top]) and torch.equal(change[:, -1], change[:, top + side - 1])


def test_equal_predictions_leave_the_depth_and_wild_ones_are_bounded() -> None:
    depth = ramp(64, 64)[None].exp()
    middles = ((torch.arange(CELLS) + 0.5) * (64 / CELLS)).long()
    same = depth[:, middles[:, None], middles].log() + 3
    torch.testing.assert_close(depth_change(depth, same), torch.zeros_like(depth), rtol=0, atol=1e-6)
    wild = same.clone()
    wild[:, 5, 7] += 100
    change = depth_change(depth, wild)
    assert 0 < change.max() <= SINGLE_VIEW_DEPTH_WEIGHT * MAX_LOG_DEPTH_DIFFERENCE / 9 + 1e-6  # one of nine cells
    assert (change != 0).float().mean() < 0.1


def test_only_focal_lengths_are_fused_and_every_view_has_its_own_depth() -> None:
    intrinsics = torch.tensor([[60.0, 0, 31], [0, 62, 33], [0, 0, 1]]).repeat(2, 3, 1, 1)
    depth = torch.rand(2, 3, 64, 80) + 1
    prediction = SingleViewPrediction(
        log_focal=torch.randn(2, 3) * 0.1, deviation=torch.rand(2, 3) * 0.1 + 0.05, up=torch.zeros(2, 3, 3),
        normals=torch.zeros(2, 3, 3, CELLS, CELLS), log_depth=torch.randn(2, 3, CELLS, CELLS) * 0.1,
    )  # fmt: skip
    factor = focal_factor(intrinsics, prediction, (64, 80))
    expected = intrinsics.clone()
    expected[..., [0, 1], [0, 1]] = (60 * 62) ** 0.5 * factor[..., None]  # square pixels
    torch.testing.assert_close(fuse_focal(intrinsics, prediction, (64, 80)), expected)
    assert torch.equal(intrinsics[0, 0, 0, 0], torch.tensor(60.0))  # the caller's stay
    fused = fuse_depth(depth, prediction)
    for scene in range(2):
        change = depth_change(depth[scene], prediction.log_depth[scene])
        torch.testing.assert_close(fused[scene], depth[scene] * change.exp(), **tolerance("float32"))
