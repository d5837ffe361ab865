"""Front end of clustering: connected regions of cells inside each view, whose features hardly change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tokengroups.systems.iggt.clustering.cells import FieldReader
from tokengroups.systems.iggt.clustering.config import ClusteringConfig

MAX_REGIONS = 4000  # what follows costs their square: 4000 are 2 CPU seconds and 130 MB
ROUNDING = 1e-4  # neighbours this close are always linked, also where most of a field is constant
MAX_SPREAD = 0.65  # root mean square distance of a region's cells to their mean, in granularities,
ATTEMPTS = 5  # above which links inside it are taken away, this many times at most,
SHRINKING = 0.7  # those above this share of the limit before


@dataclass(frozen=True)
class Regions:
    """Regions of all views: R means and sizes, and which cell belongs to which one."""

    means: Float[np.ndarray, "R E"]
    sizes: Int64[np.ndarray, " R"]  # in cells
    index: Int32[np.ndarray, "V h w"]  # region of every cell, -1 = none


def find_regions(reader: FieldReader, config: ClusteringConfig) -> Regions:
    """Link neighbouring cells of a view that are hardly apart, and keep the connected regions that are large enough.

    What is hardly apart follows from all neighbours of all views, so that noise and resolution do not matter.
    """
    limit = max(config.link * _median_step(reader), ROUNDING)
    height, width = (-(-side // reader.cell) for side in reader.size_hw)
    index = np.empty((reader.num_views, height, width), dtype=np.int32)  # what stays comes first, see FieldReader
    means, sizes, count = [], [], 0
    for view, row in enumerate(index):
        part = _view_regions(reader.cells(view), limit, config)
        row[:] = part.index[0] + np.where(part.index[0] >= 0, count, 0)
        means.append(part.means)
        sizes.append(part.sizes)
        count += len(part.sizes)
    kept = _largest(np.concatenate(sizes))
    return Regions(np.concatenate(means)[kept], np.concatenate(sizes)[kept], _renumbered(index, kept))


def _median_step(reader: FieldReader) -> float:
    """Median distance of neighbouring cells, over all views; 0 where there are no neighbours."""
    first = _steps(reader.cells(0))
    if len(first) == 0:
        return 0.0
    steps = np.empty((reader.num_views, len(first)), dtype=first.dtype)
    for view, row in enumerate(steps):
        row[:] = _steps(reader.cells(view))
    return float(np.median(steps, overwrite_input=True))


def _steps(cells: Float[np.ndarray, "h w E"]) -> Float[np.ndarray, " n"]:
    """Distances of all cells to their right neighbours, row by row, and then to their lower ones."""
    across, down = cells[:, 1:] - cells[:, :-1], cells[1:] - cells[:-1]
    squares = [np.einsum("hwe,hwe->hw", step, step).ravel() for step in (across, down)]
    return np.sqrt(np.concatenate(squares))


def _view_regions(cells: Float[np.ndarray, "h w E"], limit: float, config: ClusteringConfig) -> Regions:
    """Regions of one view; one that a chain of small steps has made too wide is linked again, more strictly."""
    height, width, channels = cells.shape
    points, steps = cells.reshape(-1, channels), _steps(cells)
    linked = steps <= limit
    for attempt in range(1, ATTEMPTS + 1):
        index = _connected(linked, height, width)
        means, sizes, spreads = _moments(points, index.ravel())
        wide = np.logical_and(sizes >= config.min_cells, spreads > MAX_SPREAD * config.granularity)
        if attempt == ATTEMPTS or not wide.any():
            break
        limit *= SHRINKING
        linked &= (steps <= limit) | ~np.concatenate([wide[index[:, :-1]].ravel(), wide[index[:-1]].ravel()])
    kept = np.asarray(sizes >= config.min_cells)
    return Regions(means[kept], sizes[kept], _renumbered(index[None], kept))


def _connected(linked: Bool[np.ndarray, " n"], height: int, width: int) -> Int32[np.ndarray, "h w"]:
    """Connected component of every cell, with links in the order of `_steps`."""
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    first = np.concatenate([numbers[:, :-1].ravel(), numbers[:-1].ravel()])[linked]
    second = np.concatenate([numbers[:, 1:].ravel(), numbers[1:].ravel()])[linked]
    links = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(numbers.size, numbers.size))
    return connected_components(links, directed=False)[1].reshape(height, width)


def _moments(
    points: Float[np.ndarray, "n E"], groups: Int32[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "m E"], Int64[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Mean and size of every group, and the root mean square distance of its points to the mean."""
    sizes = np.bincount(groups)
    means = group_means(points, np.ones(len(points)), groups)
    squares = np.bincount(groups, (points**2).sum(axis=1)) / sizes
    return means, sizes, np.sqrt(np.maximum(squares - (means**2).sum(axis=1), 0))


def _renumbered(index: Int32[np.ndarray, "V h w"], kept: Bool[np.ndarray, " n"]) -> Int32[np.ndarray, "V h w"]:
    """Numbers among the kept ones, -1 for the others."""
    numbers = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1).astype(np.int32)
    return numbers[index]  # -1 is the last one


def group_means(
    points: Float[np.ndarray, "n E"], weights: Float[np.ndarray, " n"], groups: np.ndarray
) -> Float[np.ndarray, "m E"]:
    """Weighted mean of the points of every group, none of which is empty."""
    sums = [np.bincount(groups, weights * channel) for channel in points.T]
    return np.stack(sums, axis=1) / np.bincount(groups, weights)[:, None]


def _largest(sizes: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """The `MAX_REGIONS` largest regions or fewer: of equal ones all or none, unless nothing would be left."""
    if len(sizes) <= MAX_REGIONS:
        return np.ones(len(sizes), dtype=bool)
    larger = sizes > np.sort(sizes)[-MAX_REGIONS - 1]
    if larger.any():
        return larger
    return np.arange(len(sizes)) % -(-len(sizes) // MAX_REGIONS) == 0  # some of every view
