"""Intrinsics of photos from a given focal length or from EXIF data."""

from __future__ import annotations

import math
import struct

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.images import Photo, Photos

DIAGONAL_35MM = math.hypot(36.0, 24.0)  # of 35 mm film, in mm
PLAUSIBLE = 0.1, 20.0  # focal lengths in units of the photo's longer side
_EXIF_IFD, _FOCAL_35MM_TAG = 0x8769, 0xA405


def photo_intrinsics(photos: Photos, focal_px: float | None = None) -> Float[Tensor, "V 3 3"]:
    """Intrinsics in pixels of the model's images; the principal point is the middle of the whole photo.

    `focal_px` is that of all photos, in pixels of the upright photo. If it is None, every photo's EXIF data give it.

    Raises:
        UserError: A photo has no such data, or a focal length is not plausible.
    """
    matrices = []
    for photo in photos.photos:
        focal = exif_focal_px(photo) if focal_px is None else focal_px
        if focal is None:
            raise UserError(
                f"{photo.path}: its EXIF data have no 35 mm equivalent focal length; give --focal in pixels, "
                "or leave it out to have it predicted"
            )
        height, width = photo.size_hw
        shortest, longest = (factor * max(height, width) for factor in PLAUSIBLE)
        if not shortest <= focal <= longest:
            raise UserError(
                f"{photo.path}: a focal length of {focal:g} pixels is not plausible for {width}x{height} pixels; "
                f"between {shortest:.0f} and {longest:.0f} is"
            )
        pinhole = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        matrices.append(np.linalg.inv(photo.photo_from_model) @ pinhole)
    return torch.from_numpy(np.stack(matrices)).float()


def exif_focal_px(photo: Photo) -> float | None:
    """Focal length in pixels of the upright photo; None if its EXIF data have no 35 mm equivalent.

    The 35 mm equivalent compares diagonals (CIPA DCG-001).
    """
    try:
        with Image.open(photo.path) as opened:
            equivalent = float(opened.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM_TAG, 0))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):  # damaged, or not a number
        return None
    return equivalent * math.hypot(*photo.size_hw) / DIAGONAL_35MM if equivalent > 0 else None
