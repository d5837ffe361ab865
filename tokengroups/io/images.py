"""Photos from a user's disk: found, decoded, turned upright, cropped and resized, with a record of these changes."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.geometry import central_square
from tokengroups.io.decoding import HEIF_SUFFIXES, MAX_MEGAPIXELS, TooManyPixels, exif_value, opened_photo
from tokengroups.io.files import natural_key
from tokengroups.io.orientation import ORIENTATION_TAG, parse_orientation, turn
from tokengroups.io.rgb import blank_note, is_deep_color, is_dim, join_bytes, take_lower_bytes, to_rgb
from tokengroups.reading import path_kind, shown

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", *HEIF_SUFFIXES)
_VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
MIN_SIDE_PX, MAX_SIDE_PX = 32, 8192


@dataclass(frozen=True)
class Photo:
    """File, crop and resizing of one photo."""

    path: Path
    size_hw: tuple[int, int]  # of the upright photo, before cropping
    exif_orientation: int  # 1 = was upright already; 2..8 as in the EXIF standard
    crop_box: tuple[int, int, int, int]  # left, top, right, bottom in the upright photo
    notes: tuple[str, ...]
    photo_from_model: Float[np.ndarray, "3 3"]  # of homogeneous pixels (x, y, 1), to the upright photo


@dataclass(frozen=True)
class Photos:
    """The photos of one scene, ready for a model; the first one is the reference view."""

    images: Float[Tensor, "V 3 H W"]  # in [0, 1]
    photos: tuple[Photo, ...]
    notes: tuple[str, ...]  # about the set as a whole

    def messages(self) -> list[str]:
        """All notes for the user, one line each."""
        about_photos = [f"{shown(photo.path.name)}: {', '.join(photo.notes)}" for photo in self.photos if photo.notes]
        return [*about_photos, *self.notes]


def load_photos(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    size: SupportsIndex,
    *,
    patch_size: int = 1,
    max_views: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Photos:
    """Load photos as square images for a model.

    Photos are turned upright by their EXIF tag, numbers other than bytes are scaled (see `io.rgb`), transparency is
    composited on white, and the central square is resized with antialiasing. One photo is held at a time.

    Args:
        sources: Photo files, in the order given, and folders, whose photos come in natural order of their names.
        size: Side of the result in pixels.
        patch_size: The model's patch side; `size` must be a multiple of it.
        max_views: Most photos, evenly spaced over all; None = all.
        max_megapixels: Larger photos are left out with a note, if others remain.

    Raises:
        UserError: No photo, an unreadable, truncated, too small or too large one, or a size that does not fit.
        ValueError: A size that is no whole number.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> import tokengroups as tg
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (320, 240), "teal").save(f"{folder}/a.jpg")
        ...     Image.new("RGB", (320, 240), "wheat").save(f"{folder}/b.jpg")
        ...     photos = tg.load_photos([folder], size=128)
        >>> photos.images.shape
        torch.Size([2, 3, 128, 128])
        >>> photos.photos[0].crop_box
        (40, 0, 280, 240)
    """
    side = _check_size(size, patch_size)
    paths = find_photos(sources)
    kept = chosen_photos(paths, max_views)
    loaded, too_large = [], []
    for path in kept:
        try:
            loaded.append(_load_photo(path, side, max_megapixels))
        except TooManyPixels as error:
            too_large.append(error)
    if not loaded:
        raise too_large[0]
    notes = [f"left out {error}" for error in too_large]
    if len(kept) < len(paths):
        notes.append(f"used {len(kept)} of {len(paths)} photos, evenly spaced; --max-views allows more")
    if len(paths) - len(too_large) == 1:
        notes.append("only one photo: its depth is a guess; two or more, 0.2-1.2 m apart, give better scenes")
    pixels = torch.from_numpy(np.stack([image for image, _ in loaded]))
    images = rearrange(pixels, "v h w c -> v c h w").float() / 255
    return Photos(images, tuple(photo for _, photo in loaded), tuple(notes))


def chosen_photos(paths: Sequence[Path], max_views: int | None) -> list[Path]:
    """At most so many photos, evenly spaced over all; None = all.

    Raises:
        UserError: Less than one.
    """
    if max_views is not None and max_views < 1:
        raise UserError(f"--max-views {max_views}: must be at least 1")
    if max_views is None or len(paths) <= max_views:
        return list(paths)
    return [paths[round(i)] for i in np.linspace(0, len(paths) - 1, max_views)]


def _check_size(given: SupportsIndex, multiple: int) -> int:
    """Refuse sides that are no whole number, no multiple, or beyond `MAX_SIDE_PX`."""
    try:
        size = operator.index(given)
    except TypeError:
        raise ValueError(f"size must be a whole number of pixels, got {shown(repr(given))}") from None
    if size < multiple or size % multiple:
        near = min(max(size, multiple), MAX_SIDE_PX) // multiple * multiple
        raise UserError(f"--size {size}: must be a multiple of {multiple}, such as {near} or {near + multiple}")
    if size > MAX_SIDE_PX:
        raise UserError(f"--size {size}: must be at most {MAX_SIDE_PX}")
    return size


def find_photos(sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Photo files among files and folders.

    Raises:
        UserError: A path does not exist, a folder holds no photo, or nothing was given.
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    if not sources:
        raise UserError("no photo given; name photo files or a folder of them")
    paths: list[Path] = []
    for source in map(Path, sources):
        kind = path_kind(source)
        if kind == "missing":
            raise UserError(f"no such file or folder: {shown(source)}")
        paths += _photos_in(source) if kind == "folder" else [source]
    return paths


def _photos_in(folder: Path) -> list[Path]:
    """Photo files of a folder in natural order."""
    try:
        files = [path for path in folder.iterdir() if path_kind(path) == "file" and not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot read {shown(folder)}: {error.strerror}") from error
    photos = [path for path in files if path.suffix.lower() in PHOTO_SUFFIXES]
    if not photos:
        videos = [path.name for path in files if path.suffix.lower() in _VIDEO_SUFFIXES]
        hint = f"photos end in {', '.join(PHOTO_SUFFIXES)}"
        if videos:
            hint = f"take frames from {shown(videos[0])} first, e.g. with ffmpeg"
        raise UserError(f"no photo in the folder {shown(folder)} ({len(files)} other files); {hint}")
    return sorted(photos, key=lambda path: natural_key(path.name))


def _load_photo(path: Path, size: int, max_megapixels: float) -> tuple[UInt8[np.ndarray, "H W 3"], Photo]:
    image, orientation, notes = decode_photo(path, max_megapixels=max_megapixels)
    check_side(path, image)
    width, height = image.size
    top, left, side = central_square((height, width))
    box = (left, top, left + side, top + side)
    if width != height:
        lost = 1 - side / max(width, height)
        notes.append(f"cropped from {width}x{height} to the central {side}x{side} ({lost:.0%} not used)")
    if side != size:
        notes.append(f"{'reduced' if side > size else 'enlarged'} from {side}x{side} to {size}x{size}")
    square = image.crop(box) if side == size else image.resize((size, size), Image.Resampling.BICUBIC, box)
    scale = side / size
    photo_from_model = np.array([[scale, 0, left], [0, scale, top], [0, 0, 1]], np.float64)
    photo = Photo(path, (height, width), orientation, box, tuple(notes), photo_from_model)
    return np.asarray(square), photo


def check_side(path: Path, image: Image.Image) -> None:
    """Refuse photos whose shorter side is below `MIN_SIDE_PX`."""
    width, height = image.size
    if min(width, height) < MIN_SIDE_PX:
        raise UserError(f"{shown(path)}: {width}x{height} pixels is too small; the shorter side needs {MIN_SIDE_PX}")


def decode_photo(
    path: Path, upright: bool = True, max_megapixels: float = MAX_MEGAPIXELS
) -> tuple[Image.Image, int, list[str]]:
    """Decode a photo to RGB, turned upright by its EXIF tag or as it is stored.

    Returns:
        The image, the EXIF orientation that was undone (1 = none), and notes.

    Raises:
        UserError: A video or another file that is not read, damaged or truncated.
        TooManyPixels: More than the limit.
    """
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        command = f"ffmpeg -i {path.name} -r 2 frame_%03d.jpg"
        raise UserError(f"{shown(path)}: videos are not read; take frames first, e.g. {shown(command)}")
    notes: list[str] = []
    with opened_photo(path, max_megapixels) as opened:
        if getattr(opened, "is_animated", False) and opened.format != "MPO":  # phones' MPO: a photo and its companions
            notes.append("several pictures in one file, of which only the main one is used")
        deep = is_deep_color(opened)
        stored_tag = exif_value(opened, ORIENTATION_TAG) if opened.format == "TIFF" else None
        opened.load()
        tag = exif_value(opened, ORIENTATION_TAG)
        image = to_rgb(_all_bits(path, opened, max_megapixels, notes) if deep else opened, notes)
        is_upright = opened.format == "TIFF" and tag != stored_tag  # Pillow turns TIFFs, and drops the tag
    orientation = parse_orientation(stored_tag if is_upright else tag, notes)
    if upright != is_upright:
        image = turn(image, orientation, back=is_upright)
    if orientation > 1 and upright:
        notes.append(f"turned upright (EXIF orientation {orientation})")
    blank = blank_note(image)
    return image, orientation if upright else 1, notes if blank is None else [*notes, blank]


def _all_bits(path: Path, opened: Image.Image, max_megapixels: float, notes: list[str]) -> Image.Image:
    """Take a photo with 16 bits per colour as Pillow reads it, or with all its bits if it would be nearly black."""
    if not is_dim(opened):
        notes.append("16-bit colour reduced to 8 bits")
        return opened
    with opened_photo(path, max_megapixels) as again:
        return join_bytes(opened, take_lower_bytes(again), notes)
