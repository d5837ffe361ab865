"""Weighted quantiles against sorting everything, for few values and many."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokengroups.scene.quantiles import quantile_of_lowest, weighted_quantile, weighted_quantiles

SHARES = (0.02, 0.1, 0.3, 0.5, 0.98)


def sorted_quantile(values: np.ndarray, weights: np.ndarray, quantile: float) -> list[float]:
    """One column after the other, all sorted."""
    needed = (quantile - 1e-4 / len(values)) * weights.sum()
    found = []
    for column in values.T:
        order = np.argsort(column, kind="stable")
        found.append(float(column[order][np.searchsorted(np.cumsum(weights[order]), needed)]))
    return found


def drawn(kind: str, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Values in three columns, and weights."""
    rng = torch.Generator().manual_seed(seed)
    values, weights = torch.randn(count, 3, generator=rng).double(), torch.rand(count, generator=rng).double()
    if kind == "equal weights":
        weights = torch.full_like(weights, 0.7)
    elif kind == "few heavy ones":
        weights = weights.pow(40)
    elif kind == "the lowest are the lightest":
        weights = torch.where(values[:, 0] < 1, 1e-5 * weights, weights)
    elif kind == "ties":
        values = (3 * values).round()
    elif kind == "in rows":
        values[:, 0] = torch.arange(count).double() % 64
    return values, weights


KINDS = ("plain", "equal weights", "few heavy ones", "the lowest are the lightest", "ties", "in rows")


@pytest.mark.parametrize("count", [1, 2, 50, 256, 257, 300, 1000, 20_000])
@pytest.mark.parametrize("kind", KINDS)
def test_as_if_all_were_sorted(kind: str, count: int) -> None:
    values, weights = drawn(kind, count)
    for quantile in SHARES:
        expected = sorted_quantile(values.numpy(), weights.numpy(), quantile)
        assert weighted_quantile(values, weights, quantile).tolist() == expected
    together = weighted_quantiles(values, weights, SHARES)
    assert torch.equal(together, torch.stack([weighted_quantile(values, weights, share) for share in SHARES]))


@pytest.mark.parametrize("kind", KINDS)
def test_the_lowest_alone_give_the_same(kind: str) -> None:
    values, weights = drawn(kind, 1000)
    weights = weights / weights.sum()
    for column in range(3):
        one = values[:, column : column + 1]
        expected = weighted_quantile(one, weights, 0.02)
        kept = (one[:, 0] <= expected).nonzero()[:, 0].flip(0)
        assert torch.equal(quantile_of_lowest(one[kept], weights[kept], 0.02, 1000), expected)


@pytest.mark.parametrize("count", [7, 400])
def test_batches_have_weights_of_their_own(count: int) -> None:
    drawings = [drawn(kind, count) for kind in KINDS]
    values, weights = (torch.stack(each) for each in zip(*drawings, strict=True))
    for quantile in SHARES:
        expected = [sorted_quantile(each.numpy(), mine.numpy(), quantile) for each, mine in drawings]
        assert weighted_quantile(values, weights, quantile).tolist() == expected


@pytest.mark.parametrize("seed", range(40))
def test_too_few_of_the_lowest_values_cost_no_exactness(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the share, without margin: some columns lack weight at first."""
    monkeypatch.setattr("tokengroups.scene.quantiles._LEAST", 1)
    monkeypatch.setattr("tokengroups.scene.quantiles._MULTIPLE", 1)
    values, weights = drawn("plain", 400, seed)
    expected = sorted_quantile(values.numpy(), weights.numpy(), 0.02)
    assert weighted_quantile(values, weights, 0.02).tolist() == expected


def test_equal_weights_that_sum_to_the_share_reach_it() -> None:
    """Two percent of 1000 values: the 20th, whatever the rounding of twenty thousandths."""
    values = torch.arange(1000).double()[:, None]
    assert weighted_quantile(values, torch.full((1000,), 1e-3).double(), 0.02).tolist() == [19]


def test_no_weight_at_all_gives_the_least() -> None:
    values = torch.arange(1000).double().flip(0)[:, None]
    assert weighted_quantile(values, torch.zeros(1000).double(), 0.5).tolist() == [0]
