"""Average linkage: the closest groups of regions are joined until all are farther apart than a cut."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64
from scipy.cluster.hierarchy import fcluster
from scipy.cluster.hierarchy import linkage as merge_tree
from scipy.spatial.distance import pdist

from tokengroups.systems.iggt.clustering.regions import Regions, group_means


def linkage(regions: Regions, granularity: float) -> tuple[Float[np.ndarray, "m E"], Float[np.ndarray, " m"]]:
    """Means and sizes of the groups at a cut at the granularity."""
    return join_close(regions.means, regions.sizes.astype(np.float64), granularity)


def join_close(
    points: Float[np.ndarray, "n E"], weights: Float[np.ndarray, " n"], distance: float
) -> tuple[Float[np.ndarray, "m E"], Float[np.ndarray, " m"]]:
    """Join points by average linkage; weighted means and summed weights of the groups."""
    groups = linkage_groups(points, distance)
    count = int(groups.max()) + 1
    return group_means(points, weights, groups), np.bincount(groups, weights, minlength=count)


def linkage_groups(points: Float[np.ndarray, "n E"], distance: float) -> Int64[np.ndarray, " n"]:
    """Group of every point, such that groups are more than a distance apart, averaged over their pairs of points."""
    if len(points) < 2:
        return np.zeros(len(points), dtype=np.int64)
    return fcluster(merge_tree(pdist(points), "average"), distance, "distance").astype(np.int64) - 1
