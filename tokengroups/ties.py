"""Sorting of values that are equal up to rounding, which differs from processor to processor."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64


def ascending(values: Float[np.ndarray, " n"], tolerance: float, count: int | None = None) -> Int64[np.ndarray, " k"]:
    """Indices of the `count` smallest values, smallest first; values that are equal up to a tolerance stay in order.

    Values in a chain of steps of at most the tolerance are all equal. Choose it above rounding errors and below
    differences that matter. `count` None means all.
    """
    order = values.argsort(kind="stable")
    ordered = values[order]
    apart = ordered[1:] - ordered[:-1] > tolerance
    if apart.all():  # the usual case, which should cost little
        return order[:count]
    if count is not None:  # values that are equal to the last one of them may come before it
        ends = np.flatnonzero(apart[max(count - 1, 0) :])
        kept = max(count, 1) + int(ends[0]) if len(ends) else len(values)
        order, apart = order[:kept], apart[: kept - 1]
    order = order[np.lexsort((order, np.concatenate([[0], apart.cumsum()])))]
    return order[:count]
