"""Weighted quantiles of many columns of values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_TIE = 1e-4  # of the mean weight: cumulative weights that miss a share by less reach it
_MANY, _LARGE_SHARE = 256, 0.3  # of more values, a quantile up to this share sorts only those that may be it,
_DEVIATIONS = 3  # which are as many as a sample suggests, and so many of its standard deviations more
_ROUNDING = 1e-9


def weighted_quantile(
    values: Float[Tensor, "M C"], weights: Float[Tensor, " M"], quantile: float
) -> Float[Tensor, " C"]:
    """First value of each column at which the cumulative weight reaches a share of the whole.

    Equal weights often sum to exactly the share, so a sum that misses it by a rounding error reaches it as well.
    """
    share = quantile - _TIE / len(values)
    weights = weights[:, None].expand_as(values)
    if len(values) <= _MANY or share > _LARGE_SHARE:
        return _reaching(values, weights, share)
    total = weights[:, 0].sum()
    low, held = _lowest(values, weights, share * total)
    found, misled = _reaching(low, held, share, total), held.sum(dim=0) <= (1 + _ROUNDING) * share * total
    if bool(misled.any()):
        found[misled] = _reaching(values[:, misled], weights[:, misled], share)
    return found


def weighted_quantiles(
    values: Float[Tensor, "M C"], weights: Float[Tensor, " M"], quantiles: Sequence[float]
) -> Float[Tensor, "Q C"]:
    """`weighted_quantile` of several shares by one sort, which is quicker where one of them is large."""
    ordered, cumulative = _cumulative(values, weights[:, None].expand_as(values))
    slack = _TIE / len(values)
    return torch.stack([_first(ordered, cumulative, (share - slack) * cumulative[-1]) for share in quantiles])


def _reaching(
    values: Float[Tensor, "M C"], weights: Float[Tensor, "M C"], share: float, total: Tensor | None = None
) -> Float[Tensor, " C"]:
    """Smallest value of each column at which the cumulative weight reaches a share of the total; None = of all."""
    ordered, cumulative = _cumulative(values, weights)
    return _first(ordered, cumulative, share * (cumulative[-1] if total is None else total))


def _first(
    ordered: Float[Tensor, "M C"], cumulative: Float[Tensor, "M C"], needed: Float[Tensor, "*c"]
) -> Float[Tensor, " C"]:
    """First value of each column whose cumulative weight is as much as needed, or the last one."""
    place = (cumulative < needed).sum(dim=0).clamp(max=len(ordered) - 1)
    return ordered.gather(0, place[None])[0]


def _lowest(
    values: Float[Tensor, "M C"], weights: Float[Tensor, "M C"], needed: Tensor
) -> tuple[Float[Tensor, "m C"], Float[Tensor, "m C"]]:
    """The lowest values of each column, in their order, and their weights; the rest is infinities of no weight.

    A sample tells where to cut, so that few have to be sorted. In some columns they hold less than what is needed.
    """
    number = round(len(values) ** (2 / 3))  # least to sort, here and after the cut
    sample = torch.randint(len(values), (number,), generator=torch.Generator().manual_seed(0)).to(values.device)
    ordered, cumulative = _cumulative(values[sample], weights[sample] * (len(values) / number))
    variance = len(values) / number * needed * weights[:, 0].square().sum() / weights[:, 0].sum()
    place = (cumulative < needed + _DEVIATIONS * variance.sqrt()).sum(dim=0).clamp(max=number - 1)
    column, row = (values <= ordered.gather(0, place[None])).T.nonzero().unbind(dim=1)
    counts = torch.bincount(column, minlength=values.shape[1])
    rank = torch.arange(len(row), device=row.device) - (counts.cumsum(dim=0) - counts)[column]
    low = values.new_full((int(counts.max()), values.shape[1]), torch.inf)
    low[rank, column] = values[row, column]
    held = torch.zeros_like(low, dtype=weights.dtype)
    held[rank, column] = weights[row, column]
    return low, held


def _cumulative(
    values: Float[Tensor, "M C"], weights: Float[Tensor, "M C"]
) -> tuple[Float[Tensor, "M C"], Float[Tensor, "M C"]]:
    """Values of each column in their order, and the cumulative weights. NumPy sorts columns faster than PyTorch."""
    order = torch.from_numpy(values.numpy(force=True).argsort(axis=0, kind="stable")).to(values.device)
    return values.gather(0, order), weights.gather(0, order).cumsum(dim=0)
