"""Weighted quantiles of many columns of values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

_TIE = 1e-4  # of the mean weight: cumulative weights that miss a share by less reach it
# Only the lowest values are sorted, so many at first and so many times the share; more, by this factor, while they hold
# less weight than is needed.
_LEAST, _MULTIPLE, _GROWTH = 16, 6, 4


def weighted_quantile(
    values: Float[Tensor, "*b M C"], weights: Float[Tensor, "*b M"], quantile: float
) -> Float[Tensor, "*b C"]:
    """First value of each column at which the cumulative weight reaches a share of the whole.

    Equal weights often sum to exactly the share, so a sum that misses it by a rounding error reaches it as well.
    """
    return weighted_quantiles(values, weights, [quantile])[0]


def weighted_quantiles(
    values: Float[Tensor, "*b M C"], weights: Float[Tensor, "*b M"], quantiles: Sequence[float]
) -> Float[Tensor, "Q *b C"]:
    """`weighted_quantile` of several shares at once."""
    rows, masses = np.ascontiguousarray(values.mT.numpy(force=True)), weights.numpy(force=True)[..., None, :]
    count = rows.shape[-1]
    needed = [(share - _TIE / count) * masses.sum(axis=-1) for share in quantiles]
    number = _LEAST + round(_MULTIPLE * max(quantiles) * count)
    ordered, cumulative = _lowest(rows, masses, number)
    while number < count and bool((cumulative[..., -1] < np.max(needed, axis=0)).any()):
        number *= _GROWTH
        ordered, cumulative = _lowest(rows, masses, number)
    places = [(cumulative < some[..., None]).sum(axis=-1, keepdims=True) for some in needed]
    found = [_picked(ordered, place.clip(max=ordered.shape[-1] - 1))[..., 0] for place in places]
    return torch.from_numpy(np.stack(found)).to(values.device)


def quantile_of_lowest(
    values: Float[Tensor, "*b m C"], weights: Float[Tensor, "*b m"], quantile: float, count: int
) -> Float[Tensor, "*b C"]:
    """`weighted_quantile` of `count` values whose weights sum to 1, given those of them that can be it or are lower."""
    rows, masses = np.ascontiguousarray(values.mT.numpy(force=True)), weights.numpy(force=True)[..., None, :]
    ordered, cumulative = _lowest(rows, masses, rows.shape[-1])
    places = (cumulative < quantile - _TIE / count).sum(axis=-1, keepdims=True)
    return torch.from_numpy(_picked(ordered, places)[..., 0]).to(values.device)


def _lowest(
    rows: Float[np.ndarray, "*b C M"], masses: Float[np.ndarray, "*b 1 M"], number: int
) -> tuple[Float[np.ndarray, "*b C m"], Float[np.ndarray, "*b C m"]]:
    """So many lowest values of each row, ascending, and their cumulative weights. NumPy sorts faster than PyTorch."""
    if number >= rows.shape[-1]:
        places = rows.argsort(axis=-1)
        return _picked(rows, places), _picked(masses, places).cumsum(axis=-1)
    places = rows.argpartition(number - 1, axis=-1)[..., :number]
    values = _picked(rows, places)
    order = values.argsort(axis=-1)
    return _picked(values, order), _picked(masses, _picked(places, order)).cumsum(axis=-1)


def _picked(rows: np.ndarray, places: Int64[np.ndarray, "*b C m"]) -> np.ndarray:
    """Values at places of each row, as by `numpy.take_along_axis`, but twice as fast."""
    first = np.arange(rows[..., 0].size).reshape(*rows.shape[:-1], 1) * rows.shape[-1]
    return rows.ravel().take(first + places)
