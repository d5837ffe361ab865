"""Photos from a user's disk: found, decoded, turned upright, resized and padded, with a record of these changes."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.geometry import central_square
from tokengroups.io.decoding import HEIF_SUFFIXES, MAX_MEGAPIXELS, TooManyPixels, exif_value, opened_photo
from tokengroups.io.files import natural_key
from tokengroups.io.lenses import Lens
from tokengroups.io.orientation import ORIENTATION_TAG, parse_orientation, turn
from tokengroups.io.rgb import blank_note, is_deep_color, is_dim, join_bytes, take_lower_bytes, to_rgb
from tokengroups.reading import path_kind, shown

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", *HEIF_SUFFIXES)
VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm")
MIN_SIDE_PX, MAX_SIDE_PX = 32, 8192
FULL_SIZE = 512  # largest side of the photos that refinements read beside those that an encoder reads
NAMED = 3  # photos with the same notes that have a line each
MAX_STRETCH = 0.03  # a photo is stretched by so much to fit whole patches, as VGGT does; beyond it is padded
PADDING = 255  # white, as in VGGT's own demo


@dataclass(frozen=True)
class Photo:
    """File, window and resizing of one photo."""

    path: Path
    size_hw: tuple[int, int]  # of the upright photo, before cropping
    exif_orientation: int  # 1 = was upright already; 2..8 as in the EXIF standard
    # Left, top, right, bottom of the model's image in the upright photo; padding lies beyond the photo.
    crop_box: tuple[float, float, float, float]
    notes: tuple[str, ...]
    photo_from_model: Float[np.ndarray, "3 3"]  # of homogeneous pixels (x, y, 1), to the upright photo
    lens: Lens | None = None  # whose distortion is undone in the model's image; None = none is
    pinhole: tuple[float, float, float, float] | None = None  # of the lens: fx, fy, cx, cy in widths and heights

    def shown_in(self, size_hw: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
        """Which pixels of the model's image show the photo, by their centres."""
        return pixels_inside(self.crop_box, self.size_hw, size_hw)


@dataclass(frozen=True)
class Photos:
    """The photos of one scene, ready for a model; the first one is the reference view."""

    images: Float[Tensor, "V 3 H W"]  # in [0, 1]
    photos: tuple[Photo, ...]
    notes: tuple[str, ...]  # about the set as a whole
    mask: Bool[Tensor, "V H W"] | None = None  # pixels that show a photo, not padding; None = all
    full_images: Float[Tensor, "V 3 F G"] | None = None  # the same with a multiple of the pixels; None = no more

    def select(self, indices: Sequence[int]) -> Photos:
        """Keep the photos with these indices, in this order."""
        chosen = list(indices)
        mask, full = (None if each is None else each[chosen] for each in (self.mask, self.full_images))
        photos = tuple(self.photos[i] for i in chosen)
        return replace(self, images=self.images[chosen], photos=photos, mask=mask, full_images=full)

    def messages(self) -> list[str]:
        """All notes for the user, one line each; what is true of many photos is one line."""
        alike: dict[str, list[str]] = {}
        for photo in self.photos:
            alike.setdefault(", ".join(photo.notes), []).append(shown(photo.path.name))
        about_photos = []
        for words, names in alike.items():
            some = [", ".join(names[:2]) + f" and {len(names) - 2} more"] if len(names) > NAMED else names
            about_photos += [f"{name}: {words}" for name in some if words]
        return [*about_photos, *self.notes]


def load_photos(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    size: SupportsIndex,
    *,
    patch_size: int = 1,
    square: bool = False,
    full_size: int = FULL_SIZE,
    max_views: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Photos:
    """Load photos as images of one size for a model.

    Photos are turned upright by their EXIF tag, numbers other than bytes are scaled (see `io.rgb`), transparency is
    composited on white, and the whole photo is resized with antialiasing. Where its shorter side then is no multiple
    of a patch, the photo is stretched by up to 3 %, as VGGT does, or padded. Photos of other shapes than the largest
    one are padded around their middle. One photo is held at a time.

    Args:
        sources: Photo files, in the order given, and folders, whose photos come in natural order of their names.
        size: Longer side of the photos in the result, in pixels.
        patch_size: The model's patch side; `size` must be a multiple of it.
        square: Cut the central square out of every photo instead.
        full_size: Largest side of `Photos.full_images`, which has a whole multiple of the pixels.
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
        torch.Size([2, 3, 96, 128])
        >>> photos.photos[0].crop_box
        (0.0, 0.0, 320.0, 240.0)
    """
    side = _check_size(size, patch_size)
    paths = find_photos(sources)
    kept = chosen_photos(paths, max_views)
    loaded, too_large = [], []
    for path in kept:
        try:
            loaded.append(_load_photo(path, side, patch_size, square, full_size, max_megapixels))
        except TooManyPixels as error:
            too_large.append(error)
    if not loaded:
        raise too_large[0]
    notes = [f"left out {error}" for error in too_large]
    if len(kept) < len(paths):
        notes.append(f"used {len(kept)} of {len(paths)} photos, evenly spaced; --max-views allows more")
    if len(paths) - len(too_large) == 1:
        notes.append("only one photo: its depth is a guess; two or more, 0.2-1.2 m apart, give better scenes")
    shapes = [image.shape[:2] for image, _, _ in loaded]
    size_hw = tuple(-(-max(sides) // patch_size) * patch_size for sides in zip(*shapes, strict=True))
    if len(set(shapes)) > 1:
        notes.append(f"photos of {len(set(shapes))} shapes: all are padded to {size_hw[1]}x{size_hw[0]}")
    padded = [_pad(image, photo, size_hw) for image, _, photo in loaded]
    photos = tuple(photo for _, photo in padded)
    mask = torch.from_numpy(np.stack([photo.shown_in(size_hw) for photo in photos]))
    full, factor = None, max(image.shape[0] // small.shape[0] for small, image, _ in loaded)
    if factor > 1:
        full_hw = (factor * size_hw[0], factor * size_hw[1])
        full = _to_tensor([_pad(_enlarged(each, small, factor), photo, full_hw)[0] for small, each, photo in loaded])
    images = _to_tensor([image for image, _ in padded])
    return Photos(images, photos, tuple(notes), None if bool(mask.all()) else mask, full)


def _enlarged(
    pixels: UInt8[np.ndarray, "F G 3"], small: UInt8[np.ndarray, "h w 3"], factor: int
) -> UInt8[np.ndarray, "H W 3"]:
    """A photo with `factor` times the pixels of a small copy of it, if it has fewer."""
    height, width = factor * small.shape[0], factor * small.shape[1]
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def _to_tensor(images: Sequence[UInt8[np.ndarray, "H W 3"]]) -> Float[Tensor, "V 3 H W"]:
    return rearrange(torch.from_numpy(np.stack(images)), "v h w c -> v c h w").float() / 255


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


def find_photos(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, videos: bool = False
) -> list[Path]:
    """Photo files among files and folders; with `videos`, a folder without photos stands for its videos.

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
        paths += _photos_in(source, videos) if kind == "folder" else [source]
    return paths


def _photos_in(folder: Path, or_videos: bool) -> list[Path]:
    """Photo files of a folder in natural order, or its videos if there are none."""
    try:
        files = [path for path in folder.iterdir() if path_kind(path) == "file" and not path.name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot read {shown(folder)}: {error.strerror}") from error
    photos = [path for path in files if path.suffix.lower() in PHOTO_SUFFIXES]
    videos = [path for path in files if is_video(path)]
    if not photos and or_videos:
        photos = videos
    if not photos:
        hint = f"photos end in {', '.join(PHOTO_SUFFIXES)}"
        if videos:
            hint = f"take frames from {shown(videos[0].name)} first, e.g. with ffmpeg"
        raise UserError(f"no photo in the folder {shown(folder)} ({len(files)} other files); {hint}")
    return sorted(photos, key=lambda path: natural_key(path.name))


def is_video(path: Path) -> bool:
    """Tell by the name whether a file is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def _load_photo(
    path: Path, size: int, patch_size: int, square: bool, full_size: int, max_megapixels: float
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "F G 3"], Photo]:
    """One photo, or its central square, resized but not yet padded; and the same with a multiple of the pixels.

    Its longer side has `full_size` pixels at most, and no more than the photo.
    """
    image, orientation, notes = decode_photo(path, max_megapixels=max_megapixels)
    check_side(path, image)
    width, height = image.size
    box = (0, 0, width, height)
    if square:
        top, left, side = central_square((height, width))
        box = (left, top, left + side, top + side)
        if width != height:
            lost = 1 - side / max(width, height)
            notes.append(f"cropped from {width}x{height} to the central {side}x{side} ({lost:.0%} not used)")
    cut_hw = (box[3] - box[1], box[2] - box[0])
    model_hw = fitted_size(cut_hw, size, patch_size)
    if max(cut_hw) != size:
        change = "reduced" if max(cut_hw) > size else "enlarged"
        notes.append(f"{change} from {cut_hw[1]}x{cut_hw[0]} to {model_hw[1]}x{model_hw[0]}")
    box = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    photo = Photo(path, (height, width), orientation, box, tuple(notes), _map(box, model_hw))
    small = resize_window(image, box, model_hw)
    factor = min(full_size, max(cut_hw)) // size
    full = small if factor < 2 else resize_window(image, box, (factor * model_hw[0], factor * model_hw[1]))
    return small, full, photo


def pixels_inside(
    box: tuple[float, float, float, float], photo_hw: tuple[int, int], size_hw: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """Which pixels of an image of a window (left, top, right, bottom) have their centres in the photo."""
    left, top, right, bottom = box
    y = top + (np.arange(size_hw[0]) + 0.5) * (bottom - top) / size_hw[0]
    x = left + (np.arange(size_hw[1]) + 0.5) * (right - left) / size_hw[1]
    return ((y > 0) & (y < photo_hw[0]))[:, None] & ((x > 0) & (x < photo_hw[1]))


def resize_window(
    image: Image.Image, box: tuple[float, float, float, float], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Resize a window (left, top, right, bottom) of an RGB image with antialiasing; white where it reaches beyond."""
    across, down = (box[2] - box[0]) / size_hw[1], (box[3] - box[1]) / size_hw[0]
    inner = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], float(image.width)), min(box[3], float(image.height)))
    left, right = round((inner[0] - box[0]) / across), round((inner[2] - box[0]) / across)
    top, bottom = round((inner[1] - box[1]) / down), round((inner[3] - box[1]) / down)
    small_wh = (max(right - left, 1), max(bottom - top, 1))
    same = small_wh == (inner[2] - inner[0], inner[3] - inner[1])
    small = image.crop(inner) if same else image.resize(small_wh, Image.Resampling.BICUBIC, inner)
    if (small.height, small.width) == size_hw:
        return np.asarray(small)
    pixels = np.full((*size_hw, 3), PADDING, np.uint8)
    pixels[top : top + small.height, left : left + small.width] = np.asarray(small)
    return pixels


def fitted_size(size_hw: tuple[int, int], size: int, patch_size: int) -> tuple[int, int]:
    """Height and width of a photo whose longer side is resized to `size`.

    The shorter one is the nearest multiple of a patch, if that stretches the photo by `MAX_STRETCH` at most.
    """
    longer = max(size_hw)
    sides = []
    for side in size_hw:
        exact = side * size / longer
        whole = max(round(exact / patch_size), 1) * patch_size
        even = max(round(exact / 2), 1) * 2  # so that padding is the same on both sides
        sides.append(whole if abs(whole / exact - 1) <= MAX_STRETCH else even)
    return sides[0], sides[1]


def _pad(
    image: UInt8[np.ndarray, "h w 3"], photo: Photo, size_hw: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "H W 3"], Photo]:
    """Put a photo into the middle of a larger image."""
    own_hw = (image.shape[0], image.shape[1])
    if own_hw == size_hw:
        return image, photo
    top, left = ((large - small) // 2 for large, small in zip(size_hw, own_hw, strict=True))
    padded = np.full((*size_hw, 3), PADDING, np.uint8)
    padded[top : top + own_hw[0], left : left + own_hw[1]] = image
    (across, _, x), (_, down, y), _ = photo.photo_from_model.tolist()
    x, y = x - left * across, y - top * down
    box = (x, y, x + size_hw[1] * across, y + size_hw[0] * down)
    return padded, replace(photo, crop_box=box, photo_from_model=_map(box, size_hw))


def _map(box: tuple[float, float, float, float], size_hw: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Homogeneous pixels of an image, to those of the photo in which the image is a box."""
    across, down = (box[2] - box[0]) / size_hw[1], (box[3] - box[1]) / size_hw[0]
    return np.array([[across, 0, box[0]], [0, down, box[1]], [0, 0, 1]], np.float64)


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
    if is_video(path):
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
