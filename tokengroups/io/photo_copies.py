"""Copies of photos for other programs: byte by byte where every program shows the same picture, else written anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tokengroups.io.decoding import exif_value, opened_photo
from tokengroups.io.files import atomic_path
from tokengroups.io.orientation import ORIENTATION_TAG
from tokengroups.io.pixels import write_pixels

_FORMATS = {"JPEG": (".jpg", ".jpeg"), "MPO": (".jpg", ".jpeg"), "PNG": (".png",)}  # Pillow's names
_MODES = ("RGB", "L")
_LOSSY = (".jpg", ".jpeg", ".heic", ".heif")


def is_plain(path: Path) -> bool:
    """Tell whether a photo is JPEG or PNG, named so, of 8 bits without transparency, and not turned by EXIF.

    Raises:
        UserError: It cannot be read.
    """
    with opened_photo(path) as image:
        named = path.suffix.lower() in _FORMATS.get(image.format or "", ())
        return named and image.mode in _MODES and exif_value(image, ORIENTATION_TAG) in (None, 1)


def copy_name(path: Path, plain: bool) -> str:
    """Name of the copy: white space, which COLMAP's text format cannot hold, becomes "_"."""
    name = path.name if plain else path.stem + (".jpg" if path.suffix.lower() in _LOSSY else ".png")
    return "_".join(name.split())


def copy_photo(path: Path, image: Image.Image | None, target: Path) -> None:
    """Copy a photo's file, or write its decoded pixels as JPEG of quality 95 or PNG, by the suffix; atomically."""
    if image is not None:
        write_pixels(target, np.asarray(image))
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(path, temporary)
