"""Front end of clustering: connected regions of cells inside each view, whose features hardly change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tokengroups.systems.iggt.clustering.cells import FieldReader

MAX_REGIONS = 4000  # what follows costs their square: 4000 are 2 CPU seconds and 130 MB
ROUNDING = 1e-4  # neighbours this close are always linked, also where most of a field is constant


@dataclass(frozen=True)
class Regions:
    """Regions of all views: R means and sizes, and which cell belongs to which one."""

    means: Float[np.ndarray, "R E"]
    sizes: Int64[np.ndarray, " R"]  # in cells
    index: Int32[np.ndarray, "V h w"]  # region of every cell, -1 = none


def find_regions(reader: FieldReader, link: float, min_cells: int) -> Regions:
    """Link neighbouring cells of a view that are hardly apart, and keep the connected regions that are large enough.

    Args:
        reader: The field.
        link: Largest distance of linked neighbours, in medians over all neighbours of all views.
        min_cells: Smaller regions are left out; more of them, if there would be more than `MAX_REGIONS`.
    """
    distances = np.concatenate([_steps(reader.cells(view)) for view in range(reader.num_views)])
    limit = max(link * float(np.median(distances)), ROUNDING) if len(distances) else 0.0
    parts = [_view_regions(reader.cells(view), limit, min_cells) for view in range(reader.num_views)]
    means, sizes, index = (np.concatenate([getattr(part, name) for part in parts]) for name in ("means", "sizes", "index"))
    starts = np.cumsum([0, *(len(part.sizes) for part in parts[:-1])], dtype=np.int32)
    index += np.where(index >= 0, starts[:, None, None], 0)
    kept = _largest(sizes)
    return Regions(means[kept], sizes[kept], _renumbered(index, kept))


def _steps(cells: Float[np.ndarray, "h w E"]) -> Float[np.ndarray, " n"]:
    """Distances of all cells to their right neighbours, row by row, and then to their lower ones."""
    across, down = cells[:, 1:] - cells[:, :-1], cells[1:] - cells[:-1]
    squares = [np.einsum("hwe,hwe->hw", step, step).ravel() for step in (across, down)]
    return np.sqrt(np.concatenate(squares))


def _view_regions(cells: Float[np.ndarray, "h w E"], limit: float, min_cells: int) -> Regions:
    """Regions of one view."""
    height, width, channels = cells.shape
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    linked = _steps(cells) <= limit
    first = np.concatenate([numbers[:, :-1].ravel(), numbers[:-1].ravel()])[linked]
    second = np.concatenate([numbers[:, 1:].ravel(), numbers[1:].ravel()])[linked]
    links = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(numbers.size, numbers.size))
    count, region = connected_components(links, directed=False)
    means = group_means(cells.reshape(-1, channels), np.ones(numbers.size), region, count)
    sizes = np.bincount(region, minlength=count)
    kept = sizes >= min_cells
    return Regions(means[kept], sizes[kept], _renumbered(region.reshape(1, height, width), kept))


def _renumbered(index: Int32[np.ndarray, "V h w"], kept: Bool[np.ndarray, " n"]) -> Int32[np.ndarray, "V h w"]:
    """Numbers among the kept ones, -1 for the others."""
    numbers = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1).astype(np.int32)
    return numbers[index]  # -1 is the last one


def group_means(
    points: Float[np.ndarray, "n E"], weights: Float[np.ndarray, " n"], groups: np.ndarray, count: int
) -> Float[np.ndarray, "m E"]:
    """Weighted mean of the points of every group 0 ... count - 1, none of which is empty."""
    sums = [np.bincount(groups, weights * channel, minlength=count) for channel in points.T]
    return np.stack(sums, axis=1) / np.bincount(groups, weights, minlength=count)[:, None]


def _largest(sizes: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """The `MAX_REGIONS` largest regions or fewer: of equal ones all or none, unless nothing would be left."""
    if len(sizes) <= MAX_REGIONS:
        return np.ones(len(sizes), dtype=bool)
    larger = sizes > np.sort(sizes)[-MAX_REGIONS - 1]
    if larger.any():
        return larger
    return np.arange(len(sizes)) % -(-len(sizes) // MAX_REGIONS) == 0  # some of every view
