"""Instance masks as people's tools write them: one picture per photo, the value of a pixel is its instance."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image, UnidentifiedImageError

from tokengroups.errors import UserError

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")
MAX_INSTANCES = 1000
_MODES = ("L", "P", "1")


def read_mask(path: str | os.PathLike[str]) -> Int64[np.ndarray, "H W"]:
    """Values of an 8 or 16-bit grey picture, or indices of one with a palette.

    Colour pictures count if their channels are equal.

    Raises:
        UserError: Unreadable, no picture, or a coloured one.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode in _MODES or image.mode.startswith("I"):
                return np.asarray(image).astype(np.int64)
            channels = np.asarray(image.convert("RGB")).astype(np.int64)
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not a picture; save masks as grey PNG, value = instance") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: a mask that cannot be read ({reason}); save it again") from error
    if (channels != channels[..., :1]).any():
        raise UserError(f"{path}: a coloured picture; save masks as 8 or 16-bit grey or palette PNG, value = instance")
    return channels[..., 0]


def resize_mask(ids: Int64[np.ndarray, "H W"], size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
    """The nearest pixel at another resolution of the same picture; ids are never mixed."""
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(np.int64) for n, m in zip(size_hw, ids.shape, strict=True))
    return ids[np.ix_(rows, columns)]


def find_mask(folder: Path, photo: Path) -> Path | None:
    """The mask of a photo: same stem, or the photo's whole name with a mask's suffix; None if there is none."""
    names = [stem + suffix for stem in (photo.stem, photo.name) for suffix in MASK_SUFFIXES]
    return next((folder / name for name in names if (folder / name).is_file()), None)
