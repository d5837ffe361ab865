"""Order among values of which some are equal up to rounding, which differs from processor to processor."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64


def ascending(
    values: Float[np.ndarray, " n"], tolerance: float, count: int | None = None
) -> Int64[np.ndarray, " k"]:
    """Indices of the smallest values, smallest first; of those that are equal up to a tolerance, the first comes first.

    Values between two that are equal in this sense are equal to both.

    Args:
        values: Finite.
        tolerance: Above what rounding does, below what matters.
        count: How many; None = all.
    """
    order = values.argsort(kind="stable")
    apart = np.diff(values[order]) > tolerance  # an order's place from the next one
    if count is not None and count < len(values):
        ends = np.flatnonzero(apart[max(count - 1, 0) :])
        kept = max(count, 1) + int(ends[0]) if len(ends) else len(values)
        order, apart = order[:kept], apart[: kept - 1]
    if not apart.all():
        order = order[np.lexsort((order, np.concatenate([[0], apart.cumsum()])))]
    return order[:count]
