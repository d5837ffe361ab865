"""Back end of clustering: every pixel takes its nearest prototype.

In large photos, a cell whose neighbours all have its label gives it to all of its pixels. Only the pixels of the other
cells are looked at one by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.systems.iggt.clustering.cells import FieldReader

PIXELS_AT_ONCE = 16384  # their distances to 50 prototypes fit into a processor's cache
LARGE_CELL = 4  # from this size on, cells inside an instance decide for their pixels


@dataclass(frozen=True)
class Labelling:
    """Label of every pixel, and how much farther the second nearest prototype is."""

    labels: Int64[Tensor, "V H W"]
    margins: Float[Tensor, "V H W"]
    prototypes: Float[np.ndarray, "M E"]  # the largest instance first
    sizes: Int64[np.ndarray, " M"]  # in pixels


def label_pixels(
    reader: FieldReader, prototypes: Float[np.ndarray, "M E"], min_pixels: int, lone_margin: float
) -> Labelling:
    """Label all pixels, and drop prototypes with fewer than `min_pixels` of them until there is none.

    The largest one stays. `lone_margin` is the margin of all pixels where only one is left.
    """
    shape = (reader.num_views, *reader.size_hw)
    labels, margins = torch.empty(shape, dtype=torch.int64), torch.empty(shape)
    while True:
        sizes = np.zeros(len(prototypes), dtype=np.int64)
        for view in range(reader.num_views):
            _label_view(reader, view, prototypes, labels[view].numpy(), margins[view].numpy())
            sizes += np.bincount(labels[view].flatten().numpy(), minlength=len(prototypes))
        kept = sizes >= min_pixels
        kept[sizes.argmax()] = True
        if kept.all():
            break
        prototypes = prototypes[kept]
    if len(prototypes) == 1:
        margins.fill_(lone_margin)
    order = np.argsort(-sizes, kind="stable")
    rank = torch.from_numpy(np.argsort(order, kind="stable"))
    for view in labels:
        view.copy_(rank[view])
    return Labelling(labels, margins, prototypes[order], sizes[order])


def nearest_two(
    features: Float[np.ndarray, "n E"], prototypes: Float[np.ndarray, "M E"]
) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Index of the nearest prototype, and the distance to the second nearest minus that to the nearest.

    The margin to a second prototype that does not exist is 0.
    """
    prototypes = prototypes.astype(np.float32)
    half_squares = (prototypes**2).sum(axis=1) / 2
    labels, margins = np.empty(len(features), dtype=np.int64), np.zeros(len(features), dtype=np.float32)
    for start in range(0, len(features), PIXELS_AT_ONCE):
        part = slice(start, start + PIXELS_AT_ONCE)
        scores = features[part] @ prototypes.T
        scores -= half_squares
        rows = np.arange(len(scores))
        labels[part] = best = scores.argmax(axis=1)
        if len(prototypes) > 1:
            squares = (features[part] ** 2).sum(axis=1) / 2
            first = squares - scores[rows, best]
            scores[rows, best] = -np.inf
            second = squares - scores.max(axis=1)
            margins[part] = np.sqrt(np.maximum(2 * second, 0)) - np.sqrt(np.maximum(2 * first, 0))
    return labels, margins


def _label_view(
    reader: FieldReader,
    view: int,
    prototypes: Float[np.ndarray, "M E"],
    labels: Int64[np.ndarray, "H W"],
    margins: Float[np.ndarray, "H W"],
) -> None:
    """Fill in the labels and margins of one view."""
    pixels = reader.pixels(view)
    if reader.cell < LARGE_CELL:
        found = nearest_two(pixels.reshape(-1, pixels.shape[-1]), prototypes)
        labels[:], margins[:] = (values.reshape(labels.shape) for values in found)
        return
    cells = reader.cells(view)
    found = nearest_two(cells.reshape(-1, cells.shape[-1]), prototypes)
    cell_labels, cell_margins = (values.reshape(cells.shape[:2]) for values in found)
    labels[:], margins[:] = reader.to_pixels(cell_labels), reader.to_pixels(cell_margins)
    border = reader.to_pixels(_borders(cell_labels))
    labels[border], margins[border] = nearest_two(pixels[border], prototypes)


def _borders(labels: Int64[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Cells of which one of the four neighbours has another label."""
    border = np.zeros(labels.shape, dtype=bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    return border
