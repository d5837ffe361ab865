"""Connected regions of masks."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int32, Int64
from scipy import ndimage

from tokengroups.data.curation.base import Mask

_EIGHT = np.ones((3, 3), bool)  # neighbours of a pixel


def without_small_regions(mask: Mask, min_area: int) -> Mask:
    """Fill holes and drop islands of fewer pixels; of a mask of small islands the largest stays."""
    filled = mask | _small(~mask, min_area)
    islands = _small(filled, min_area)
    if filled.any() and (islands == filled).all():
        labels = _labels(filled)
        return labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    return filled & ~islands


def boundary(mask: Mask) -> Int64[np.ndarray, "N 2"]:
    """Row and column of every pixel of a mask that has a neighbour outside of it, the picture's border included."""
    inner = np.asarray(ndimage.binary_erosion(mask, border_value=0), bool)
    return np.argwhere(mask & ~inner)


def _small(mask: Mask, min_area: int) -> Mask:
    labels = _labels(mask)
    small = np.bincount(labels.ravel()) < min_area
    small[0] = False
    return small[labels]


def _labels(mask: Mask) -> Int32[np.ndarray, "H W"]:
    """Number of every pixel's region, from 1 on; 0 = outside."""
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, _EIGHT, output=labels)
    return labels
