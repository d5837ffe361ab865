"""Intrinsics of photos from a given focal length or from EXIF data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.decoding import MAX_MEGAPIXELS, exif_value, opened_photo
from tokengroups.io.images import Photo, Photos
from tokengroups.reading import shown

DIAGONAL_35MM = math.hypot(36.0, 24.0)  # of 35 mm film, in mm
PLAUSIBLE = 0.1, 20.0  # focal lengths in units of the photo's longer side
_EXIF_IFD, _FOCAL_35MM_TAG = 0x8769, 0xA405


def photo_intrinsics(photos: Photos | Any, focal_px: float | Any = None) -> Float[Tensor, "V 3 3"]:
    """Intrinsics in pixels of the model's images; the principal point is the middle of the whole photo.

    `focal_px` is that of all photos, in pixels of the upright photo. If it is None, every photo's EXIF data give it.

    Raises:
        UserError: A photo has no such data, or a focal length is not plausible.
        ValueError: `photos` are not what `load_photos` returns, or `focal_px` is no number.
    """
    if not isinstance(photos, Photos):
        raise ValueError(f"photo_intrinsics takes the result of load_photos, got {type(photos).__name__}")
    try:
        focal_px = None if focal_px is None else float(focal_px)
    except (TypeError, ValueError):
        raise ValueError(f"focal_px must be a number of pixels or None, got {shown(repr(focal_px))}") from None
    matrices = []
    for photo in photos.photos:
        focal = exif_focal_px(photo) if focal_px is None else focal_px
        if focal is None:
            raise UserError(
                f"{shown(photo.path)}: its EXIF data have no 35 mm equivalent focal length; give --focal in pixels, "
                "or leave it out to have it predicted"
            )
        height, width = photo.size_hw
        shortest, longest = (factor * max(height, width) for factor in PLAUSIBLE)
        if not shortest <= focal <= longest:
            raise UserError(
                f"{shown(photo.path)}: a focal length of {focal:g} pixels is not plausible for {width}x{height} "
                f"pixels; between {shortest:.0f} and {longest:.0f} is"
            )
        pinhole = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        matrices.append(np.linalg.inv(photo.photo_from_model) @ pinhole)
    return torch.from_numpy(np.stack(matrices)).float()


def exif_focal_px(photo: Photo) -> float | None:
    """Focal length in pixels of the upright photo; None if its EXIF data have no 35 mm equivalent.

    The 35 mm equivalent compares diagonals (CIPA DCG-001).
    """
    limit = max(MAX_MEGAPIXELS, math.prod(photo.size_hw) / 1e6)  # it was read once already
    try:
        with opened_photo(photo.path, limit) as opened:
            equivalent = float(exif_value(opened, _FOCAL_35MM_TAG, _EXIF_IFD))  # pyright: ignore[reportArgumentType]
    except UserError:  # unreadable by now, or no number
        return None
    return equivalent * math.hypot(*photo.size_hw) / DIAGONAL_35MM if 0 < equivalent < math.inf else None
