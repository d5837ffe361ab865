"""Depth accuracy against loops in float64."""

from __future__ import annotations

import math
from statistics import median

import pytest
import torch
from tolerances import tolerance

from tokengroups.evaluation.depth_accuracy import depth_accuracy


def test_numbers_are_those_of_a_loop() -> None:
    coarse = 1 + 3 * torch.rand(4, 3, 4)
    true = list(torch.kron(coarse, torch.ones(1, 3, 3)) * (1 + 0.02 * torch.randn(4, 9, 12)))
    true[1][:5] = 0
    true[2][:] = 0  # nothing known
    true[3][0, :3] = 150  # beyond what IGGT looks at
    depth = torch.kron(coarse, torch.ones(1, 2, 2)) * torch.tensor([0.3, 0.36, 0.3, 0.27])[:, None, None]
    photos = []
    for mine, each in zip(depth.double().tolist(), true, strict=True):
        values = each.double().tolist()
        cells = [(row, column) for row in range(9) for column in range(12)]
        pairs = [(mine[int((r + 0.5) * 6 / 9)][int((c + 0.5) * 8 / 12)], values[r][c]) for r, c in cells]
        photos.append([(m, t) for m, t in pairs if t > 0])
    everything = [pair for photo in photos for pair in photo]
    ratios = sorted(t / m for m, t in everything)
    scale = ratios[(len(ratios) - 1) // 2]  # torch's median: the lower one
    errors = [abs(scale * m - t) / t for m, t in everything]
    larger = [max(scale * m / t, t / (scale * m)) for m, t in everything]
    found = depth_accuracy(depth, true)
    close = {"rel": tolerance("float32")["rtol"]}
    assert found.depth_absrel == pytest.approx(sum(errors) / len(errors), **close)
    assert found.depth_inliers_103 == pytest.approx(sum(x < 1.03 for x in larger) / len(larger), **close)
    assert found.depth_inliers_125 == pytest.approx(sum(x < 1.25 for x in larger) / len(larger), **close)
    absrel, inliers = [], []
    for photo in filter(None, photos):
        own = low_median([t for _, t in photo]) / low_median([m for m, _ in photo])
        clipped = [(min(max(own * m, 0.1), 100.0), min(t, 100.0)) for m, t in photo]
        absrel.append(sum(abs(m - t) / t for m, t in clipped) / len(clipped))
        inliers.append(sum(max(m / t, t / m) < 1.03 for m, t in clipped) / len(clipped))
    assert found.depth_absrel_by_photo == pytest.approx(sum(absrel) / 3, **close)
    assert found.depth_inliers_103_by_photo == pytest.approx(sum(inliers) / 3, **close)
    assert 0.05 < found.depth_inliers_103 < found.depth_inliers_103_by_photo < found.depth_inliers_125 < 1
    assert median(larger) > 1


def low_median(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def test_a_scale_is_no_error_and_no_truth_is_no_number() -> None:
    true = 1 + torch.rand(2, 6, 6)
    perfect = depth_accuracy(7 * true, true)
    assert perfect.depth_absrel < 1e-6 and perfect.depth_inliers_103 == perfect.depth_inliers_103_by_photo == 1
    assert all(math.isnan(value) for value in vars(depth_accuracy(true, torch.zeros(2, 6, 6))).values())


def test_depths_below_zero_are_wrong_and_not_infinite() -> None:
    true = torch.ones(1, 2, 2)
    found = depth_accuracy(torch.tensor([[[1.0, 1.0], [1.0, -1.0]]]), true)
    assert found.depth_absrel == pytest.approx(0.25, abs=1e-5) and found.depth_inliers_125 == 0.75
