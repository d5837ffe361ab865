"""Posed photos with their masks as frames of one size; aspect and cameras are kept, nothing is cropped."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.decoding import MAX_MEGAPIXELS, TooManyPixels
from tokengroups.io.images import MIN_SIDE_PX, check_side, decode_photo
from tokengroups.io.pixels import read_mask, resize_nearest
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.reading import shown
from tokengroups.types import SceneFrames

MAX_INSTANCES = 1000
MAX_PIXELS = 36 * 2**20  # of all photos, reduced; a fit takes about 70 bytes for each
_ASPECT_TOLERANCE = 0.01  # rounding of reduced copies


@dataclass(frozen=True)
class MaskSource:
    """Masks of photos and the encoding of their values."""

    folder: Path  # for messages
    files: Mapping[Path, Path]  # mask of each photo that has one; see `io.matching.find_masks`
    unlabelled: tuple[int, ...] = (0,)  # these values are no instance
    first_id: int = 0  # added to every other value; ScanNet's object id is the value - 1


def load_posed_photos(
    pairs: Sequence[tuple[Path, PosedCamera]],
    size: int,
    masks: MaskSource | None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> tuple[SceneFrames, list[Path], list[str]]:
    """Load photos as stored (most camera files ignore EXIF tags), reduced to `size` pixels along the longer side.

    Photos of another aspect than most are left out with a note. A photo without a mask is unlabelled.

    Args:
        pairs: Photo files with their cameras, at least one.
        size: Most pixels along the longer side; photos are never enlarged.
        masks: None = nothing is labelled.
        max_megapixels: Larger photos are left out with a note, if others remain.

    Returns:
        Frames without a name and with unknown depth (0), the files of their photos, and notes for the user.

    Raises:
        UserError: A photo or mask that cannot be read, or whose aspect is not its camera's or photo's; nothing but
            unlabelled pixels; too many instances, or pixels in all.
    """
    if size < MIN_SIDE_PX:
        raise UserError(f"--size {size}: must be at least {MIN_SIDE_PX}")
    loaded, notes = _read_photos(pairs, size, max_megapixels)
    size_hw = height, width = Counter(_size_hw(image) for _, _, image in loaded).most_common(1)[0][0]
    odd = [path.name for path, _, image in loaded if not same_aspect(_size_hw(image), size_hw)]
    if odd:
        notes.append(f"left out {len(odd)} photos of another shape than most ({width}x{height}): {odd[0]}, ...")
    paths, kept, images = zip(*(row for row in loaded if same_aspect(_size_hw(row[2]), size_hw)), strict=True)
    ids = np.full((len(paths), *size_hw), -1, np.int64)
    if masks is not None:
        notes += _read_masks(paths, [_size_hw(image) for image in images], masks, ids)
    frames = SceneFrames(
        name="",
        images=np.stack([np.asarray(image.resize((width, height))) for image in images]),
        depth=np.zeros(ids.shape, np.float32),
        group_ids=ids,
        cam_from_world=np.stack([camera.cam_from_world for camera in kept]),
        intrinsics=np.stack([camera.pinhole(size_hw) for camera in kept]),
        instance_classes={},
    )
    return frames, list(paths), notes


def _read_photos(
    pairs: Sequence[tuple[Path, PosedCamera]], size: int, max_megapixels: float
) -> tuple[list[tuple[Path, PosedCamera, Image.Image]], list[str]]:
    """Read photos, reduced, with their cameras, which now have a size; and what was done to their pixels as notes."""
    loaded, changed, pixels, too_large = [], defaultdict(list), 0, []
    for path, camera in pairs:
        try:
            image, original_hw, notes = _read_photo(path, camera, size, max_megapixels)
        except TooManyPixels as error:
            too_large.append(error)
            continue
        loaded.append((path, camera.of_photo(original_hw), image))
        for note in notes:
            changed[note].append(path.name)
        pixels += image.width * image.height
        if pixels > MAX_PIXELS:
            many = f"{len(pairs)} photos have more than {MAX_PIXELS / 1e6:.0f} megapixels at --size {size}"
            raise UserError(f"{many}, too many for memory; give a smaller --size, or fewer photos with --max-views")
    if not loaded:
        raise too_large[0]
    left_out = [f"left out {error}" for error in too_large]
    return loaded, [*left_out, *(f"{note}: {_some(names)}" for note, names in changed.items())]


def _read_photo(
    path: Path, camera: PosedCamera, size: int, max_megapixels: float
) -> tuple[Image.Image, tuple[int, int], list[str]]:
    """Read one photo, reduced: as stored, unless its camera is for the upright one.

    Returns:
        The photo, its height and width before, and notes.
    """
    (image, _, notes), wanted = decode_photo(path, camera.upright, max_megapixels), camera.size_hw
    if wanted is not None and not same_aspect(_size_hw(image), wanted):
        image, _, notes = decode_photo(path, True, max_megapixels)
    width, height = image.size
    check_side(path, image)
    if wanted is not None and not same_aspect((height, width), wanted):
        expected = f"its camera is for {wanted[1]}x{wanted[0]}"
        raise UserError(f"{shown(path)}: {width}x{height} pixels, but {expected}; give the photo that it belongs to")
    factor = min(1.0, size / max(width, height))
    reduced = (max(round(width * factor), 1), max(round(height * factor), 1))
    small = image if reduced == image.size else image.resize(reduced, Image.Resampling.BICUBIC)
    return small, (height, width), notes


def _read_masks(
    photos: Sequence[Path], sizes: Sequence[tuple[int, int]], source: MaskSource, ids: np.ndarray
) -> list[str]:
    """Fill the instance ids [V, H, W] of labelled pixels; return notes."""
    missing = []
    for view, (photo, size_hw) in enumerate(zip(photos, sizes, strict=True)):
        path = source.files.get(photo)
        if path is None:
            missing.append(photo.name)
            continue
        mask = read_mask(path)
        if not same_aspect(mask.shape, size_hw):
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            where = f"{shown(path)}: {size} pixels"
            raise UserError(f"{where}, another shape than its photo {shown(photo.name)}; export it again")
        values = resize_nearest(mask, ids.shape[1:])
        ids[view] = np.where(np.isin(values, source.unlabelled), -1, values + source.first_id)
    count = len(np.unique(ids[ids >= 0]))
    if count == 0:
        values = ", ".join(map(str, source.unlabelled))
        unlabelled = f"every pixel of the photos used is {values}, which means unlabelled, or has no mask"
        raise UserError(f"{shown(source.folder)}: {unlabelled}; --unlabelled VALUE names another value")
    if count > MAX_INSTANCES:
        wrong = f"{count} different values, more than {MAX_INSTANCES} instances"
        raise UserError(f"{shown(source.folder)}: {wrong}; are these masks?")
    return [f"no mask for {len(missing)} photos, which teach colour only: {_some(missing)}"] if missing else []


def _some(names: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")


def _size_hw(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def same_aspect(one: Sequence[int], other: Sequence[int]) -> bool:
    """Compare the aspects of two (height, width), up to the rounding of either to whole pixels."""
    (height, width), (other_height, other_width) = one, other
    slack = _ASPECT_TOLERANCE + 1 / min(height, other_height) + 1 / min(width, other_width)
    return abs(math.log(height * other_width / (width * other_height))) <= slack
