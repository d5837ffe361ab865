"""Image files as plain arrays, for data sets and masks: bit depth and values stay as they are stored."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped, UInt8
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.files import atomic_path
from tokengroups.reading import check_file, shown

_JPEG_QUALITY = 95
_MASK_MODES = ("L", "P", "1")
_MASK_ADVICE = "save masks as 8 or 16-bit grey or palette PNG, value = instance"


def read_pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image: uint8 [H, W, 3] for colour, uint8 or uint16 [H, W] for one channel.

    Raises:
        UserError: The file is missing, damaged or of another kind.
    """
    image = _decode(Path(path), "export the scene again")
    if image.mode.startswith("I"):  # Pillow's modes of 16-bit grey, by version and byte order
        return np.asarray(image).astype(np.uint16)
    return np.asarray(image if image.mode == "L" else image.convert("RGB"))


def read_mask(path: str | os.PathLike[str]) -> Int64[np.ndarray, "H W"]:
    """Read an instance mask: grey values, palette indices, or the values of three equal channels.

    Raises:
        UserError: Unreadable, no picture, or a coloured one.
    """
    image = _decode(Path(path), _MASK_ADVICE)
    if image.mode in _MASK_MODES or image.mode.startswith("I"):
        return np.asarray(image).astype(np.int64)
    channels = np.asarray(image.convert("RGB")).astype(np.int64)
    if (channels != channels[..., :1]).any():
        raise UserError(f"{path}: a coloured picture; {_MASK_ADVICE}")
    return channels[..., 0]


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
    try:
        with Image.open(check_file(path)) as image:
            return image.height, image.width
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError(f"{shown(path)}: not a picture that can be read ({shown(error)})") from error


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


def _decode(path: Path, advice: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; {advice}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not a picture that can be read ({reason}); {advice}") from error
