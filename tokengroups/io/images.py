"""Photos from a user's disk: found, decoded, turned upright, cropped and resized, with a record of these changes."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.geometry import central_square
from tokengroups.io.files import natural_key

_HEIF_SUFFIXES = (".heic", ".heif")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", *_HEIF_SUFFIXES)
_VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
MIN_SIDE_PX = 32
_ORIENTATION_TAG = 0x0112
_DEEP_MODES = ("I;16", "I;16B", "I;16L", "I")


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
        about_photos = [f"{photo.path.name}: {', '.join(photo.notes)}" for photo in self.photos if photo.notes]
        return [*about_photos, *self.notes]


def load_photos(
    sources: Sequence[str | os.PathLike[str]], size: int, *, patch_size: int = 1, max_views: int | None = None
) -> Photos:
    """Load photos as square images for a model.

    Photos are turned upright by their EXIF tag, transparency is composited on white, and the central square is resized
    with antialiasing. One photo is held at a time.

    Args:
        sources: Photo files, in the order given, and folders, whose photos come in natural order of their names.
        size: Side of the result in pixels.
        patch_size: The model's patch side; `size` must be a multiple of it.
        max_views: Most photos, evenly spaced over all; None = all.

    Raises:
        UserError: No photo, an unreadable, truncated or too small one, or a size that does not fit.

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
    if size < patch_size or size % patch_size:
        near = max(size // patch_size, 1) * patch_size
        raise UserError(f"--size {size}: must be a multiple of {patch_size}, such as {near} or {near + patch_size}")
    paths = kept = find_photos(sources)
    if max_views is not None and max_views < 1:
        raise UserError(f"--max-views {max_views}: must be at least 1")
    if max_views is not None and len(paths) > max_views:
        kept = [paths[round(i)] for i in np.linspace(0, len(paths) - 1, max_views)]
    notes = []
    if len(kept) < len(paths):
        notes.append(f"used {len(kept)} of {len(paths)} photos, evenly spaced; --max-views allows more")
    if len(paths) == 1:
        notes.append("only one photo: its depth is a guess; two or more, 0.2-1.2 m apart, give better scenes")
    loaded = [_load_photo(path, size) for path in kept]
    pixels = torch.from_numpy(np.stack([image for image, _ in loaded]))
    images = rearrange(pixels, "v h w c -> v c h w").float() / 255
    return Photos(images, tuple(photo for _, photo in loaded), tuple(notes))


def find_photos(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Photo files among files and folders.

    Raises:
        UserError: A path does not exist, a folder holds no photo, or nothing was given.
    """
    if not sources:
        raise UserError("no photo given; name photo files or a folder of them")
    paths: list[Path] = []
    for source in map(Path, sources):
        if not source.exists():
            raise UserError(f"no such file or folder: {source}")
        if not source.is_dir():
            paths.append(source)
            continue
        files = [path for path in source.iterdir() if path.is_file() and not path.name.startswith(".")]
        photos = [path for path in files if path.suffix.lower() in PHOTO_SUFFIXES]
        if not photos:
            videos = [path.name for path in files if path.suffix.lower() in _VIDEO_SUFFIXES]
            hint = f"photos end in {', '.join(PHOTO_SUFFIXES)}"
            if videos:
                hint = f"take frames from {videos[0]} first, e.g. with ffmpeg"
            raise UserError(f"no photo in the folder {source} ({len(files)} other files); {hint}")
        paths += sorted(photos, key=lambda path: natural_key(path.name))
    return paths


def _load_photo(path: Path, size: int) -> tuple[UInt8[np.ndarray, "H W 3"], Photo]:
    image, orientation, notes = decode_photo(path)
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
        raise UserError(f"{path}: {width}x{height} pixels is too small; the shorter side needs {MIN_SIDE_PX}")


def decode_photo(path: Path, upright: bool = True) -> tuple[Image.Image, int, list[str]]:
    """Decode a photo to RGB, turned upright by its EXIF tag or as it is stored.

    Returns:
        The image, the EXIF orientation that was undone (1 = none), and notes.

    Raises:
        UserError: Unreadable, damaged or truncated.
    """
    _check_kind(path)
    notes: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                orientation = int(opened.getexif().get(_ORIENTATION_TAG, 1))
                image = ImageOps.exif_transpose(opened) if upright else opened.copy()
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: not a photo that can be read (its content is no known image format)") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: too many pixels; reduce the photo first") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise for damaged files
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged or truncated photo ({reason}); take it out or get it again") from error
    if upright and orientation in range(2, 9):
        notes.append(f"turned upright (EXIF orientation {orientation})")
    else:
        orientation = 1
    return _to_rgb(image, notes), orientation, notes


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode in _DEEP_MODES:
        notes.append("16-bit grey reduced to 8 bits")
        image = Image.fromarray((np.asarray(image, np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            notes.append("transparency composited on white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _check_kind(path: Path) -> None:
    """Refuse videos; register pillow-heif's decoder for HEIC files, which may be done twice."""
    if path.suffix.lower() in _VIDEO_SUFFIXES:
        command = f"ffmpeg -i {path.name} -r 2 frame_%03d.jpg"
        raise UserError(f"{path}: videos are not read; take frames first, e.g. {command}")
    if path.suffix.lower() not in _HEIF_SUFFIXES:
        return
    if importlib.util.find_spec("pillow_heif") is None:
        raise UserError(f"{path}: HEIC needs `pip install pillow-heif`; or convert the photo to JPEG")
    import pillow_heif

    pillow_heif.register_heif_opener()
