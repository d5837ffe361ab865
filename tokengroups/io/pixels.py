"""Image files as plain arrays, for data sets: bit depth and values stay as they are stored."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.files import atomic_path

JPEG_QUALITY = 95


def read_pixels(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an image: uint8 [H, W, 3] for colour, uint8 or uint16 [H, W] for one channel.

    Raises:
        UserError: The file is missing, damaged or of another kind.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode.startswith("I"):  # Pillow's modes of 16-bit grey, by version and byte order
                return np.asarray(image).astype(np.uint16)
            return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; the scene is incomplete") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: not an image that can be read ({reason}); export the scene again") from error


def write_pixels(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
    """Write uint8 [H, W, 3] or uint8 / uint16 [H, W]; the suffix names the format.

    JPEGs are written at quality 95 without chroma subsampling.
    """
    with atomic_path(path) as temporary:  # PNG takes no notice of the options
        Image.fromarray(pixels).save(temporary, quality=JPEG_QUALITY, subsampling=0)
