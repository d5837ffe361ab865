"""HDBSCAN (Campello et al., 2013) on a sample of every region, through the optional package hdbscan.

IGGT's demonstration runs it on all pixels, which takes minutes. scikit-learn's HDBSCAN is no replacement: it raises
TypeError with NumPy 2.4 where clusters are joined by a distance, and its results differ.
"""

from __future__ import annotations

import importlib.util

import numpy as np
from jaxtyping import Float

from tokengroups.errors import UserError
from tokengroups.systems.iggt.clustering.cells import FieldReader
from tokengroups.systems.iggt.clustering.regions import Regions, group_means

SAMPLES = 5000  # cells, about; the time grows faster than they do
SAMPLES_PER_REGION = 8  # at least, if it has so many cells
JOIN = 0.12  # clusters closer than this are one, in granularities: 0.06 as in IGGT's demonstration
MIN_SAMPLES = 16
MIN_SHARE = 0.004  # of the sample, for a cluster


def hdbscan(
    reader: FieldReader, regions: Regions, granularity: float
) -> tuple[Float[np.ndarray, "m E"], Float[np.ndarray, " m"]]:
    """Means and sizes of the clusters of a sample; one cluster where all of it is noise.

    Raises:
        UserError: The package is not installed.
    """
    if importlib.util.find_spec("hdbscan") is None:
        raise UserError('clustering by HDBSCAN needs `pip install "tokengroups[hdbscan]"`; or take method mean_shift')
    from hdbscan import HDBSCAN  # noqa: PLC0415 (an extra, and slow to import)

    points, weights = sample_regions(reader, regions)
    min_size = max(MIN_SAMPLES, round(MIN_SHARE * len(points)))
    if len(points) <= min_size:
        return regions.means, regions.sizes.astype(np.float64)
    clusters = HDBSCAN(
        min_cluster_size=min_size,
        min_samples=MIN_SAMPLES,
        cluster_selection_epsilon=JOIN * granularity,
        cluster_selection_method="leaf",  # where borders bridge instances, the excess of mass merges nearly all of them
        core_dist_n_jobs=1,
    ).fit_predict(points)
    found = clusters >= 0
    if not found.any():
        found, clusters = np.ones(len(points), dtype=bool), np.zeros(len(points), dtype=np.int64)
    count = int(clusters.max()) + 1
    means = group_means(points[found], weights[found], clusters[found])
    return means, np.bincount(clusters[found], weights[found], minlength=count)


def sample_regions(reader: FieldReader, regions: Regions) -> tuple[Float[np.ndarray, "n E"], Float[np.ndarray, " n"]]:
    """Cells of every region, evenly spaced in it, and for how many cells each of them stands."""
    share = min(1.0, SAMPLES / max(int(regions.sizes.sum()), 1))
    wanted = np.maximum(np.ceil(share * regions.sizes), np.minimum(regions.sizes, SAMPLES_PER_REGION)).astype(int)
    points, weights = [], []
    for view, index in enumerate(regions.index):
        order = np.argsort(index, axis=None, kind="stable")
        order = order[index.flat[order] >= 0]
        region = index.flat[order]
        place = np.arange(len(order)) - np.searchsorted(region, region)  # 0, 1, ... inside each region
        size, number = regions.sizes[region], wanted[region]
        taken = (place + 1) * number // size > place * number // size
        points.append(reader.cells(view).reshape(-1, reader.dim)[order[taken]])
        weights.append((size / number)[taken])
    return np.concatenate(points).astype(np.float64), np.concatenate(weights)
