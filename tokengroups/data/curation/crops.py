"""Overlapping crops of a photo, in which a segmenter sees smaller things."""

from __future__ import annotations

from tokengroups.data.curation.base import Mask
from tokengroups.data.curation.suppression import mask_box

_OVERLAP, _EDGE_PX = 512 / 1500, 20


def crop_boxes(size_hw: tuple[int, ...], layers: int) -> list[tuple[int, int, int, int]]:
    """Top, left, height and width of the photo and of overlapping crops: 4 in the first layer, 16 in the second.

    Example:
        >>> from tokengroups.data.curation.crops import crop_boxes
        >>> crop_boxes((300, 600), 1)[:2]
        [(0, 0, 300, 600), (0, 0, 201, 351)]
    """
    height, width = size_hw
    boxes = [(0, 0, height, width)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(_OVERLAP * min(size_hw) * 2 / count)
        rows, columns = (-(-(overlap * (count - 1) + side) // count) for side in size_hw)
        starts = [(i * (rows - overlap), j * (columns - overlap)) for j in range(count) for i in range(count)]
        boxes += [(top, left, min(rows, height - top), min(columns, width - left)) for top, left in starts]
    return boxes


def is_cut_off(mask: Mask, box: tuple[int, int, int, int]) -> bool:
    """True if a mask comes near an edge of its crop that is no edge of the photo: it may go on beyond."""
    top, left, height, width = box
    first_row, first_column, last_row, last_column = mask_box(mask)
    gaps = (first_row - top, first_column - left, top + height - last_row, left + width - last_column)
    own = (first_row, first_column, mask.shape[0] - last_row, mask.shape[1] - last_column)
    return any(gap <= _EDGE_PX < edge for gap, edge in zip(gaps, own, strict=True))
