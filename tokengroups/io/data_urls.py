"""Small pictures as data URLs, which a page holds without further files."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, features
from torch import Tensor

from tokengroups.io.images import resize_window
from tokengroups.io.pixels import jpeg_bytes
from tokengroups.io.scene_photos import ScenePhoto

_QUALITY, _SMALL_QUALITY = 95, 75  # of JPEGs
LARGEST_PX, SMALLEST_PX = 512, 64  # longer side of photos
_FEWEST_BYTES = 0.04  # of a pixel of a JPEG: blank ones have as many
_STEP = 0.85  # from one size that is tried to the next
_WEBP: dict[str, Any] = {"quality": 60, "alpha_quality": 50, "method": 6}  # 1 KB at 64 pixels; PNG takes 5 KB
Watch = Callable[[Iterable[Any], int, str], Iterable[Any]]  # shows progress: items, their number, what


def jpeg_url(pixels: UInt8[np.ndarray, "H W 3"]) -> str:
    """Data URL of a picture as JPEG of quality 95."""
    return _url("jpeg", jpeg_bytes(pixels, _QUALITY))


def cutout_url(picture: Float[Tensor, "H W 4"]) -> str:
    """Data URL of a picture with alpha, in [0, 1]: lossy WebP, or PNG where Pillow was built without WebP."""
    pixels = picture.mul(255).round().byte().cpu().numpy()
    stream, webp = io.BytesIO(), features.check("webp")
    Image.fromarray(pixels).save(stream, "WEBP" if webp else "PNG", **(_WEBP if webp else {"optimize": True}))
    return _url("webp" if webp else "png", stream.getvalue())


def photo_urls(
    photos: Sequence[ScenePhoto],
    size_hw: tuple[int, int],
    most_bytes: int,
    watch: Watch = lambda items, total, what: items,  # noqa: ARG005
) -> tuple[str | None, ...]:
    """Data URLs of what context views see: JPEGs of the largest size, 64 to 512 pixels, at which all fit together.

    They show what the views do, padding included, and are never larger than the photo. Where 64 pixels are still too
    large, only every second photo, or third, ... has a URL.

    Args:
        photos: One for each context view.
        size_hw: Of the context views, whose aspect the pictures have.
        most_bytes: Of all JPEGs together.
        watch: Shows progress.

    Raises:
        UserError: As `ScenePhoto.load`.
    """
    side = round(math.sqrt(most_bytes / _FEWEST_BYTES / max(len(photos), 1)))
    side = min(max(side, SMALLEST_PX), LARGEST_PX)
    pictures = [_window(photo, size_hw, side) for photo in watch(photos, len(photos), "photos")]
    while True:
        files = [jpeg_bytes(_reduced(picture, side), _SMALL_QUALITY) for picture in pictures]
        every = math.ceil(sum(map(len, files)) / most_bytes)
        if every <= 1 or side <= SMALLEST_PX:
            return tuple(None if view % every else _url("jpeg", file) for view, file in enumerate(files))
        side = max(round(_STEP * side), SMALLEST_PX)


def _window(photo: ScenePhoto, size_hw: tuple[int, int], side: int) -> UInt8[np.ndarray, "h w 3"]:
    """What the context view shows of a photo, its longer side at most `side` pixels and those of the photo."""
    image, (left, top, right, bottom) = photo.whole(size_hw)
    side = min(side, round(max(right - left, bottom - top)))
    return resize_window(image, (left, top, right, bottom), _fitted(size_hw, side))


def _reduced(picture: UInt8[np.ndarray, "H W 3"], side: int) -> UInt8[np.ndarray, "h w 3"]:
    height, width = picture.shape[:2]
    if max(height, width) <= side:
        return picture
    small_height, small_width = _fitted((height, width), side)
    return np.asarray(Image.fromarray(picture).resize((small_width, small_height), Image.Resampling.BICUBIC))


def _fitted(size_hw: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of the same aspect, up to whole pixels, whose longer side is `side`."""
    height, width = (max(round(each * side / max(size_hw)), 1) for each in size_hw)
    return height, width


def _url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
