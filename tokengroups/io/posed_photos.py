"""Posed photos with their masks as tensors of one size; aspect and cameras are kept, nothing is cropped."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.images import MIN_SIDE_PX, decode_photo
from tokengroups.io.masks import MAX_INSTANCES, find_mask, read_mask, resize_mask
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.types import Cameras, Views

_ASPECT_TOLERANCE = 0.01  # rounding of reduced copies


@dataclass(frozen=True)
class MaskSource:
    """Where masks are, and what their values mean."""

    folder: Path
    unlabelled: int = 0  # this value is no instance
    first_id: int = 0  # added to every other value; ScanNet's object id is the value - 1


@dataclass(frozen=True)
class PosedPhotos:
    """Photos of one scene, ready to be fitted; the first one's camera becomes the world."""

    views: Views  # depth is 0 = unknown
    names: tuple[str, ...]  # of the photos' files
    notes: tuple[str, ...]


def load_posed_photos(pairs: Sequence[tuple[Path, PosedCamera]], size: int, masks: MaskSource | None) -> PosedPhotos:
    """Load photos as stored (cameras know nothing of EXIF), reduced to `size` pixels along the longer side.

    Photos of another aspect than most are left out with a note. A photo without a mask is unlabelled.

    Args:
        pairs: Photo files with their cameras, at least one.
        size: Most pixels along the longer side; photos are never enlarged.
        masks: None = nothing is labelled.

    Raises:
        UserError: A photo or mask that cannot be read, or whose aspect is not its camera's or photo's; no mask at
            all in the folder, or nothing but unlabelled pixels; too many instances.
    """
    if size < MIN_SIDE_PX:
        raise UserError(f"--size {size}: must be at least {MIN_SIDE_PX}")
    images = [_read_photo(path, camera, size) for path, camera in pairs]
    width, height = Counter(image.size for image in images).most_common(1)[0][0]
    size_hw = (height, width)
    fits = [_same_aspect((image.height, image.width), size_hw) for image in images]
    kept = [pair for pair, fit in zip(pairs, fits, strict=True) if fit]
    notes = []
    if len(kept) < len(pairs):
        odd = [path.name for (path, _), fit in zip(pairs, fits, strict=True) if not fit]
        notes.append(f"left out {len(odd)} photos of another shape than most ({width}x{height}): {odd[0]}, ...")
    same = [image.resize((width, height)) for image, fit in zip(images, fits, strict=True) if fit]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in same]))
    paths = [path for path, _ in kept]
    ids = np.full((len(kept), *size_hw), -1, np.int64)
    if masks is not None:
        ids = _read_masks(paths, [_shape(images[i]) for i, fit in enumerate(fits) if fit], masks, size_hw, notes)
    cameras = Cameras(
        torch.from_numpy(np.stack([camera.cam_from_world for _, camera in kept])),
        torch.from_numpy(np.stack([camera.pinhole(size_hw) for _, camera in kept])),
        size_hw,
    )
    photos = rearrange(pixels, "v h w c -> v c h w").float() / 255
    views = Views(photos, cameras, torch.zeros(len(kept), *size_hw), torch.from_numpy(ids))
    return PosedPhotos(views, tuple(path.name for path in paths), tuple(notes))


def _read_photo(path: Path, camera: PosedCamera, size: int) -> Image.Image:
    """One photo, reduced, turned as its camera expects it: as stored, unless only the upright one fits."""
    image, wanted = decode_photo(path, upright=False)[0], camera.size_hw
    if wanted is not None and not _same_aspect(_shape(image), wanted):
        image = decode_photo(path)[0]
    width, height = image.size
    if min(width, height) < MIN_SIDE_PX:
        raise UserError(f"{path}: {width}x{height} pixels is too small; the shorter side needs {MIN_SIDE_PX}")
    if wanted is not None and not _same_aspect((height, width), wanted):
        expected = f"its camera is for {wanted[1]}x{wanted[0]}"
        raise UserError(f"{path}: {width}x{height} pixels, but {expected}; give the photo that it belongs to")
    factor = min(1.0, size / max(width, height))
    reduced = (max(round(width * factor), 1), max(round(height * factor), 1))
    return image if reduced == image.size else image.resize(reduced, Image.Resampling.BICUBIC)


def _read_masks(
    paths: Sequence[Path],
    shapes: Sequence[tuple[int, int]],
    source: MaskSource,
    size_hw: tuple[int, int],
    notes: list[str],
) -> np.ndarray:
    """Instance ids [V, H, W], -1 = unlabelled; adds to the notes."""
    if not source.folder.is_dir():
        raise UserError(f"{source.folder}: no such folder of masks")
    found = [find_mask(source.folder, path) for path in paths]
    ids = np.full((len(paths), *size_hw), -1, np.int64)
    if not any(found):
        wanted = f"{paths[0].stem}.png for {paths[0].name}"
        raise UserError(f"{source.folder}: no mask in it for any of the {len(paths)} photos, such as {wanted}")
    for view, (path, shape) in enumerate(zip(found, shapes, strict=True)):
        if path is None:
            continue
        mask = read_mask(path)
        if not _same_aspect(mask.shape, shape):
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            raise UserError(f"{path}: {size} pixels, another shape than its photo {paths[view].name}; export it again")
        values = resize_mask(mask, size_hw)
        ids[view] = np.where(values == source.unlabelled, -1, values + source.first_id)
    missing = [path.name for path, mask in zip(paths, found, strict=True) if mask is None]
    if missing:
        notes.append(f"no mask for {len(missing)} photos, which teach colour only: {', '.join(missing[:3])}")
    _check_ids(source, ids)
    return ids


def _check_ids(source: MaskSource, ids: np.ndarray) -> None:
    known = np.unique(ids[ids >= 0])
    if len(known) == 0:
        unlabelled = f"every pixel is {source.unlabelled}, which means unlabelled"
        raise UserError(f"{source.folder}: {unlabelled}; --unlabelled VALUE names another value")
    if len(known) > MAX_INSTANCES:
        raise UserError(
            f"{source.folder}: {len(known)} different values, more than {MAX_INSTANCES} instances; are these masks?"
        )


def _shape(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def _same_aspect(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two (height, width) differ by a factor alone, up to the rounding of either to whole pixels."""
    (height, width), (other_height, other_width) = one, other
    slack = _ASPECT_TOLERANCE + 1 / min(height, other_height) + 1 / min(width, other_width)
    return abs(math.log(height * other_width / (width * other_height))) <= slack
