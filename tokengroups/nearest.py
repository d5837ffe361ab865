"""Nearest-neighbour search with a k-d tree."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from scipy.spatial import KDTree
from torch import Tensor


def nearest(
    points: Float[Tensor, "N D"], others: Float[Tensor, "M D"], count: int
) -> tuple[Float[Tensor, "N k"], Int64[Tensor, "N k"]]:
    """Nearest neighbours of every point, nearest first: k = min(count, M).

    All points are finite, and there is at least one other. No gradient flows.

    Returns:
        Distances, and indices into M, on the points' device.

    Example:
        >>> import torch
        >>> from tokengroups.nearest import nearest
        >>> nearest(torch.tensor([[0.0], [9.0]]), torch.tensor([[1.0], [2.0], [7.0]]), count=2)
        (tensor([[1., 2.],
                [2., 7.]]), tensor([[0, 1],
                [2, 1]]))
    """
    count = min(count, len(others))
    tree = KDTree(others.detach().cpu().numpy())
    distances, index = (
        torch.from_numpy(found).reshape(len(points), count)  # SciPy drops the axis of a single neighbour
        for found in tree.query(points.detach().cpu().numpy(), count)
    )
    return distances.to(points), index.to(points.device)
