"""Photos that a scene was made of, as its cameras see them; and pictures as bytes for other programs."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.images import decode_photo
from tokengroups.reading import shown

_JPEG_QUALITY = 92
_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class ScenePhoto:
    """A photo, and the part of it that a camera of the scene sees."""

    path: Path
    size_hw: tuple[int, int] | None  # of the upright photo; None = unknown, and used as it is stored
    crop_box: tuple[int, int, int, int] | None  # left, top, right, bottom; None = all of it


def read_scene_photo(photo: ScenePhoto, size_hw: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Read the part of a photo that the camera sees, resized.

    A reduced or enlarged copy of the photo serves as well.

    Raises:
        UserError: Unreadable, or of another shape than the photo that the scene was made of.
    """
    image, _, _ = decode_photo(photo.path, upright=photo.size_hw is not None)
    height, width = size_hw
    old_height, old_width = photo.size_hw or size_hw
    crop = photo.crop_box or (0, 0, old_width, old_height)
    if abs(math.log(image.width * old_height / (image.height * old_width))) > _ASPECT_TOLERANCE:
        size = f"{image.width}x{image.height} pixels, but the scene's photo has the shape {old_width}x{old_height}"
        raise UserError(f"{shown(photo.path)}: {size}; give the photos that the scene was made of")
    across, down = image.width / old_width, image.height / old_height
    box = (crop[0] * across, crop[1] * down, min(crop[2] * across, image.width), min(crop[3] * down, image.height))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC, box))


def jpeg_bytes(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """Encode a picture as JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=_JPEG_QUALITY)
    return stream.getvalue()
