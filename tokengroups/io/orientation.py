"""EXIF orientation: how a camera was held, as a number from 1 (upright) to 8."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import Image

from tokengroups.reading import shown

ORIENTATION_TAG = 0x0112
_TURNS = {  # what makes a stored photo upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_AXES = {  # where the axes of stored pixels point in the upright photo: x across and down, y across and down
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
_BACK = {6: 8, 8: 6}  # turns that are not their own inverse


def parse_orientation(tag: object, notes: list[str]) -> int:
    """Orientation that the value of an EXIF tag says; of another form or range it is ignored with a note."""
    if tag in range(1, 9):
        return int(tag)  # pyright: ignore[reportArgumentType]  # a number: equal to one of them
    if tag not in (None, 0):
        notes.append(f"EXIF orientation {shown(repr(tag))} ignored: it is no number from 1 to 8")
    return 1


def turn(image: Image.Image, orientation: int, back: bool = False) -> Image.Image:
    """Turn a stored photo upright, or back as it was stored."""
    if orientation == 1:
        return image
    return image.transpose(_TURNS[_BACK.get(orientation, orientation) if back else orientation])


def upright_from_stored(orientation: int, size_hw: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Homogeneous pixels (x, y, 1) of the upright photo from those of the stored one, whose size is given."""
    axes = np.array(_AXES[orientation], float).reshape(2, 2).T
    turned = np.eye(3)
    turned[:2, :2], turned[:2, 2] = axes, -np.minimum(axes * (size_hw[1], size_hw[0]), 0).sum(axis=1)
    return turned
