"""Nearest-neighbour search with a k-d tree, and what hangs together by it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from torch import Tensor

_LINKS = 32  # neighbours that a point may hang together with directly: bounds the work where points are crowded


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


def connected(points: Float[Tensor, "N D"], reach: float) -> Int64[Tensor, " N"]:
    """Label points that hang together 0, 1, ...: through steps of at most `reach`, each to one of 32 neighbours.

    All points are finite, and there is at least one. No gradient flows.

    Example:
        >>> import torch
        >>> from tokengroups.nearest import connected
        >>> connected(torch.tensor([[0.0], [9.0], [1.0], [2.0]]), reach=1.0)
        tensor([0, 1, 0, 0])
    """
    distances, index = nearest(points, points, _LINKS + 1)
    start, number = torch.nonzero(distances <= reach, as_tuple=True)
    ends = torch.stack([start, index[start, number]]).cpu().numpy()
    graph = coo_array((torch.ones(len(start)).numpy(), ends), shape=(len(points), len(points)))
    _, labels = connected_components(graph, directed=False)
    return torch.from_numpy(labels).long().to(points.device)
