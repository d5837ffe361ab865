"""Sorting that does not depend on rounding, which differs from processor to processor."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64


def ascending(values: Float[np.ndarray, " n"], tolerance: float, count: int | None = None) -> Int64[np.ndarray, " k"]:
    """Indices of the smallest values in ascending order; values that a tolerance makes equal keep their order.

    Values between two that are equal in this sense are equal to both.

    Args:
        values: Finite.
        tolerance: Larger than rounding errors, smaller than differences that matter.
        count: Number of indices; None = all.
    """
    order = values.argsort(kind="stable")
    ordered = values[order]
    apart = ordered[1:] - ordered[:-1] > tolerance
    if apart.all():  # the usual case, which should cost little
        return order[:count]
    if count is not None:  # keep what is equal to the last of them, too
        ends = np.flatnonzero(apart[max(count - 1, 0) :])
        kept = max(count, 1) + int(ends[0]) if len(ends) else len(values)
        order, apart = order[:kept], apart[: kept - 1]
    order = order[np.lexsort((order, np.concatenate([[0], apart.cumsum()])))]
    return order[:count]
