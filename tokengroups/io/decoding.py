"""Opening of picture files: advertised formats only, of bounded size, and one line for whatever a decoder raises."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import math
import os
import threading
import warnings
from collections.abc import Iterator

from PIL import Image, ImageFile, UnidentifiedImageError

from tokengroups.errors import UserError
from tokengroups.reading import check_file, shown

# Pillow's names. JPEG includes the MPO files of phones.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
HEIF_SUFFIXES = (".heic", ".heif")
MAX_MEGAPIXELS = 120.0  # holds the photos of phones; of any mode, they take less than 3 GB
_PHOTO_ADVICE = "take it out or get it again"
_TILE_WIDTH_TAG, _TILE_LENGTH_TAG = 322, 323
_STDERR = 2
_one_at_a_time = threading.RLock()

logging.getLogger("PIL").addHandler(logging.NullHandler())  # Python prints errors that nobody handles


class TooManyPixels(UserError):
    """A picture beyond the limit of pixels; the others of its set may do without it."""


@contextlib.contextmanager
def opened_picture(
    path: str | os.PathLike[str],
    formats: tuple[str, ...],
    advice: str,
    *,
    kind: str = "picture",
    max_megapixels: float = MAX_MEGAPIXELS,
    content: bytes | None = None,
) -> Iterator[ImageFile.ImageFile]:
    """Open a picture, not yet decoded; whatever a decoder raises in the block becomes one line.

    This is the only place that calls `Image.open`: a file must never choose its decoder among all that Pillow has, of
    which some start programs.

    Args:
        path: A regular file.
        formats: Pillow's names of those that are read.
        advice: What to do about an unusable file; the end of the line.
        kind: What the file should be, for the line.
        max_megapixels: Limit of its pixels, and of those of a TIFF's tiles, checked before they are decoded.
        content: The picture itself, if it is a part of the file; `path` is then for messages.

    Raises:
        UserError: No regular file, another format, damaged, or more memory is needed than there is.
        TooManyPixels: Above the limit.
    """
    source = check_file(path, advice) if content is None else io.BytesIO(content)
    limit = math.ceil(max_megapixels * 1e6)
    try:
        with _pillow_limit(limit), Image.open(source, formats=formats) as image, _quiet_libtiff(image):
            if min(image.size) < 1:
                raise ValueError(f"{image.width}x{image.height} pixels")
            if _tile_pixels(image) > limit:
                raise Image.DecompressionBombError
            yield image
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        cure = "reduce it, or raise --max-megapixels" if kind == "photo" else "reduce it"
        raise TooManyPixels(f"{shown(path)}: more than {max_megapixels:g} megapixels; {cure}") from error
    except UnidentifiedImageError as error:
        known = f"its content is none of {', '.join(formats)}"
        raise UserError(f"{shown(path)}: not a {kind} that can be read ({known}); {advice}") from error
    except MemoryError as error:
        raise UserError(f"{shown(path)}: decoding it needs more memory than there is; {advice}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"cannot read {shown(path)}: {error.strerror}; {advice}") from error
        raise UserError(f"{shown(path)}: damaged or truncated {kind} ({shown(error)}); {advice}") from error


def opened_photo(
    path: str | os.PathLike[str], max_megapixels: float = MAX_MEGAPIXELS
) -> contextlib.AbstractContextManager[ImageFile.ImageFile]:
    """Open a photo as `opened_picture` does; HEIC needs pillow-heif."""
    path, formats = check_file(path), PHOTO_FORMATS
    if path.suffix.lower() in HEIF_SUFFIXES:
        if importlib.util.find_spec("pillow_heif") is None:
            raise UserError(f"{shown(path)}: HEIC needs `pip install pillow-heif`; or convert the photo to JPEG")
        import pillow_heif

        pillow_heif.register_heif_opener()  # may be done twice
        formats = (*PHOTO_FORMATS, "HEIF")
    return opened_picture(path, formats, _PHOTO_ADVICE, kind="photo", max_megapixels=max_megapixels)


def exif_value(image: Image.Image, tag: int, ifd: int | None = None) -> object:
    """Value of an EXIF tag, of whatever type the file has; None = no such tag, or unreadable EXIF data."""
    try:
        exif = image.getexif()
        return (exif if ifd is None else exif.get_ifd(ifd)).get(tag)
    except Exception:  # damaged EXIF data spoil no pixel
        return None


@contextlib.contextmanager
def _pillow_limit(pixels: int) -> Iterator[None]:
    """Give Pillow our limit and silence its warnings; both are global, so only one thread at a time may be here."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = math.ceil(pixels / 2)  # Pillow refuses more than twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = theirs


@contextlib.contextmanager
def _quiet_libtiff(image: Image.Image) -> Iterator[None]:
    """Drop the lines that libtiff itself prints on stderr about damaged files."""
    try:
        kept = os.dup(_STDERR) if image.format == "TIFF" else None
    except OSError:  # there is no stderr
        kept = None
    if kept is None:
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), _STDERR)
    try:
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


def _tile_pixels(image: Image.Image) -> int:
    """Pixels of a TIFF's tiles, each of which is decoded whole, however small the picture is; 0 = it has none."""
    tags = getattr(image, "tag_v2", {})
    width, length = tags.get(_TILE_WIDTH_TAG), tags.get(_TILE_LENGTH_TAG)
    return width * length if isinstance(width, int) and isinstance(length, int) else 0
