"""Pictures of any of Pillow's modes as 8-bit RGB; notes say what was changed. Large ones are converted in bands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageFile

_BAND_PIXELS = 2**20  # converted at a time
_RANGES = (255.0, 4095.0, 65535.0)  # of 8, 12 and 16 bits
_DIM = 16  # values below are black in every one of these ranges
_BLANK_CONTRAST = 16  # of 255
_SAMPLE_SIDE_PX = 64
_OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}

Box = tuple[int, int, int, int]  # left, top, right, bottom


def to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """Convert to RGB: numbers other than bytes are scaled by `value_range`, transparency is composited on white."""
    if image.mode == "F" or image.mode.startswith("I"):  # Pillow's modes of 16-bit grey vary by version and byte order
        numbers = image
        image = _from_numbers("L", image.size, lambda box: np.asarray(numbers.crop(box), np.float64), notes)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        return _on_white(image, notes)
    return image if image.mode == "RGB" else image.convert("RGB")


def value_range(maximum: float) -> float:
    """Value that stands for white, by the largest one of a picture of numbers.

    It is 1 for fractions, else the smallest of 255, 4095 and 65535 that holds the maximum. Larger maxima, and those
    between 1 and 16, which are black in every range, stand for white themselves.
    """
    if maximum <= 1:
        return 1.0
    return maximum if maximum < _DIM else next((top for top in _RANGES if maximum <= top), maximum)


def is_deep_color(image: ImageFile.ImageFile) -> bool:
    """Whether a picture that is not decoded yet has 16 bits per channel, of which Pillow keeps the upper 8."""
    return image.mode in ("RGB", "RGBA", "LA") and any(";16" in _raw_mode(tile) for tile in image.tile)


def is_dim(upper: Image.Image) -> bool:
    """Whether 16-bit colours, given by their upper bytes, have at most 12 bits."""
    return upper.mode in ("RGB", "RGBA") and int(np.max(upper.getextrema()[:3])) < _DIM


def take_lower_bytes(image: ImageFile.ImageFile) -> Image.Image:
    """Decode 16-bit colours to their lower instead of their upper bytes, by pretending the other byte order."""
    tiles: list[Any] = image.tile  # (decoder, box, offset, raw mode or tuple that begins with it)
    for index, tile in enumerate(tiles):
        raw_mode = _raw_mode(tile)[:-1] + _OTHER_BYTE[_raw_mode(tile)[-1]]
        args = raw_mode if isinstance(tile[3], str) else (raw_mode, *tile[3][1:])
        tiles[index] = tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)
    image.load()
    return image


def join_bytes(upper: Image.Image, lower: Image.Image, notes: list[str]) -> Image.Image:
    """Scale 16-bit colours, given as upper and lower bytes, by `value_range`, and so their alpha."""

    def values(box: Box) -> np.ndarray:
        return 256.0 * np.asarray(upper.crop(box)) + np.asarray(lower.crop(box))

    image = _from_numbers("RGB", upper.size, lambda box: values(box)[..., :3], notes)
    if upper.mode == "RGBA":
        image.putalpha(_from_numbers("L", upper.size, lambda box: values(box)[..., 3], []))
    return image


def blank_note(image: Image.Image) -> str | None:
    """Note about an RGB picture that has nearly the same colour everywhere; None for others."""
    size = (_SAMPLE_SIDE_PX, _SAMPLE_SIDE_PX)
    sample = np.asarray(image.resize(size, Image.Resampling.NEAREST)).reshape(-1, 3)
    low, high = np.quantile(sample, [0.01, 0.99], axis=0)
    if (high - low).max() >= _BLANK_CONTRAST:
        return None
    color = "black" if high.max() < 2 * _BLANK_CONTRAST else "one colour"
    color = "white" if low.min() >= 256 - 2 * _BLANK_CONTRAST else color
    return f"nearly {color} all over; there is nothing to reconstruct in it"


def _from_numbers(mode: str, size: tuple[int, int], read: Callable[[Box], np.ndarray], notes: list[str]) -> Image.Image:
    """Scale the numbers that `read` gives for a box to 8 bits; what is negative or no number is black."""
    lowest = highest = 0.0
    unknown = 0
    for box in _bands(size):
        values = read(box)
        known = values[np.isfinite(values)]
        lowest, highest = known.min(initial=lowest), known.max(initial=highest)
        unknown += values.size - known.size
    white = value_range(float(highest))
    picture = Image.new(mode, size)
    for box in _bands(size):
        values = np.nan_to_num(read(box), nan=0.0, posinf=white, neginf=0.0) / (white / 255)
        picture.paste(Image.fromarray(values.round().clip(0, 255).astype(np.uint8)), box)
    if white == _RANGES[-1]:
        notes.append("16-bit grey reduced to 8 bits")
    else:
        notes.append(f"values up to {highest:g} taken for a range of 0 to {white:g}")
    if lowest < 0:
        notes.append("negative values made black")
    if unknown:
        notes.append(f"{unknown} values that are no finite numbers made black or white")
    return picture


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    picture, opaque = Image.new("RGB", image.size), True
    for box in _bands(image.size):
        band = image.crop(box).convert("RGBA")
        opaque &= band.getchannel("A").getextrema() == (255, 255)
        picture.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), box)
    if not opaque:
        notes.append("transparency composited on white")
    return picture


def _bands(size: tuple[int, int]) -> Iterator[Box]:
    width, height = size
    rows = max(_BAND_PIXELS // width, 1)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)


def _raw_mode(tile: Any) -> str:
    """Arrangement of the bytes that Pillow's decoder of a tile expects; "" = none."""
    args = tile[3] if isinstance(tile[3], (tuple, list)) else (tile[3],)
    return args[0] if args and isinstance(args[0], str) else ""
