"""Maps that a model makes of its images, back on the photos as they were."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from tokengroups.io.images import Photo


def on_photo(
    values: Shaped[np.ndarray, "h w"], photo: Photo, fill: float, size_hw: tuple[int, int] | None = None
) -> Shaped[np.ndarray, "H W"]:
    """Values at the nearest pixels of the upright photo, `fill` outside its crop; values are never mixed.

    Args:
        values: Map of the crop, of any size.
        photo: The photo.
        fill: Value outside the crop.
        size_hw: Size of a resized copy of the photo; None = the photo's own.
    """
    size_hw = size_hw or photo.size_hw
    left, top, right, bottom = photo.crop_box
    rows, in_rows = _nearest(size_hw[0], photo.size_hw[0], top, bottom, values.shape[0])
    columns, in_columns = _nearest(size_hw[1], photo.size_hw[1], left, right, values.shape[1])
    mapped = np.full(size_hw, fill, values.dtype)
    mapped[np.ix_(in_rows, in_columns)] = values[np.ix_(rows, columns)]
    return mapped


def _nearest(
    pixels: int, side: int, first: float, end: float, cells: int
) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " m"]]:
    """Cell of every pixel inside a crop, and which pixels these are, along one side of a photo."""
    centres = (np.arange(pixels) + 0.5) * side / pixels
    inside = (centres >= first) & (centres < end)
    return ((centres[inside] - first) * cells / (end - first)).astype(np.int64), inside
