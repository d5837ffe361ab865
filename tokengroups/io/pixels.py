"""Image files as plain arrays, for data sets and masks: bit depth and values stay as they are stored."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Shaped, UInt8
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.decoding import MAX_MEGAPIXELS, opened_picture
from tokengroups.io.files import atomic_path
from tokengroups.io.rgb import is_deep_color
from tokengroups.reading import shown

MASK_FORMATS = ("PNG", "TIFF", "BMP")  # lossless ones
_FRAME_FORMATS = ("JPEG", "PNG")
_JPEG_QUALITY = 95
_SAMPLE_FORMAT_TAG, _UNSIGNED = 339, (1,)  # of TIFFs
_ASPECT_TOLERANCE = 0.01  # rounding of reduced copies
_FRAME_ADVICE = "export the scene again"
_MASK_ADVICE = "save masks as 8 or 16-bit grey or palette PNG, value = instance"


def read_pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a JPEG or PNG: uint8 [H, W, 3] for colour, uint8 or uint16 [H, W] for one channel.

    Raises:
        UserError: The file is missing, damaged or of another kind.
    """
    with opened_picture(path, _FRAME_FORMATS, _FRAME_ADVICE) as image:
        image.load()  # NumPy would swallow a decoder's AttributeError
        if image.mode.startswith("I"):  # Pillow's modes of 16-bit grey, by version and byte order
            return np.asarray(image).astype(np.uint16)
        return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def read_mask(
    path: str | os.PathLike[str], max_megapixels: float = MAX_MEGAPIXELS, *, indices: bool = True
) -> Int64[np.ndarray, "H W"]:
    """Read a mask: whole numbers of any type, palette indices or colours, or the values of three equal channels.

    Raises:
        UserError: Unreadable, no picture, a coloured one, several in one file, or values that are not whole.
    """
    with opened_picture(path, MASK_FORMATS, _MASK_ADVICE, max_megapixels=max_megapixels) as image:
        wrong = "several pictures in one file" if getattr(image, "is_animated", False) else ""
        wrong = "16 bits in several channels" if is_deep_color(image) else wrong
        image.load()
        values = _mask_values(image if indices or image.mode not in ("P", "PA") else image.convert("RGB"))
        if values.ndim == 3 and (values != values[..., :1]).any():
            wrong = "a coloured picture"
        if values.dtype.kind == "f" and not ((np.abs(values) < 2**53) & (values == values.round())).all():
            wrong = "values that are no whole numbers"
        if wrong:
            raise UserError(f"{shown(path)}: {wrong}; {_MASK_ADVICE}")
    return (values[..., 0] if values.ndim == 3 else values).astype(np.int64)


def _mask_values(image: Image.Image) -> np.ndarray:
    """Numbers [H, W] as they are stored, palette indices included, or three channels [H, W, 3]."""
    if image.mode in ("LA", "PA"):
        image = image.getchannel(0)
    if image.mode == "I" and getattr(image, "tag_v2", {}).get(_SAMPLE_FORMAT_TAG) == _UNSIGNED:
        return np.asarray(image).view(np.uint32)  # Pillow has signed numbers only
    if image.mode in ("1", "L", "P", "F") or image.mode.startswith("I"):
        return np.asarray(image)
    return np.asarray(image.convert("RGB"))


def jpeg_bytes(pixels: UInt8[np.ndarray, "H W 3"], quality: int) -> bytes:
    """Encode a picture as JPEG of some quality, 1 to 95."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def write_pixels(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] or uint8 / uint16 [H, W]; the suffix names the format.

    JPEGs are written at quality 95 without chroma subsampling.
    """
    with atomic_path(path) as temporary:  # PNG ignores the options
        Image.fromarray(pixels).save(temporary, quality=_JPEG_QUALITY, subsampling=0)


def pixel_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width of an image, from its header.

    Raises:
        UserError: The file is missing or no image.
    """
    with opened_picture(path, _FRAME_FORMATS, _FRAME_ADVICE) as image:
        return image.height, image.width


def resize_photo(pixels: UInt8[np.ndarray, "H W 3"], size_hw: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """Resize a photo with Lanczos' filter."""
    if pixels.shape[:2] == size_hw:
        return pixels
    return np.array(Image.fromarray(pixels).resize((size_hw[1], size_hw[0]), Image.Resampling.LANCZOS))


def resize_nearest(pixels: Shaped[np.ndarray, "H W"], size_hw: tuple[int, int]) -> Shaped[np.ndarray, "h w"]:
    """Resize to the nearest pixels; values are never mixed."""
    rows, columns = (
        ((np.arange(n) + 0.5) * m / n).astype(np.int64) for n, m in zip(size_hw, pixels.shape, strict=True)
    )
    return pixels[np.ix_(rows, columns)]


def same_aspect(one: Sequence[int], other: Sequence[int]) -> bool:
    """Compare the aspects of two (height, width), up to the rounding of either to whole pixels."""
    (height, width), (other_height, other_width) = one, other
    slack = _ASPECT_TOLERANCE + 1 / min(height, other_height) + 1 / min(width, other_width)
    return abs(math.log(height * other_width / (width * other_height))) <= slack


def jpeg_round_trip(pixels: UInt8[np.ndarray, "H W 3"], quality: int) -> UInt8[np.ndarray, "H W 3"]:
    """What a JPEG of some quality, 1 to 95, keeps of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    with opened_picture("memory", ("JPEG",), "", content=buffer.getvalue()) as opened:
        return np.array(opened)
