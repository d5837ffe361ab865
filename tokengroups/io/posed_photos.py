"""Posed photos with their masks as frames of one size, without lens distortion; nothing is cropped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.decoding import MAX_MEGAPIXELS, TooManyPixels
from tokengroups.io.ignored import missing_notes, read_counted
from tokengroups.io.images import MIN_SIDE_PX, check_side, decode_photo
from tokengroups.io.lenses import undistort_photo, undistort_values
from tokengroups.io.pixels import read_mask, resize_nearest, same_aspect
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.reading import shown
from tokengroups.types import SceneFrames

MAX_INSTANCES = 1000
_BENT_SIZE = 2  # photos are undistorted at so many times the size wanted: reducing them then hides the interpolation
_ALL_SHOWN = 0.99  # weight of true pixels in a reduced one that counts
MAX_PIXELS = 36 * 2**20  # of all photos, reduced; a fit takes about 70 bytes for each


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
    ignored: Mapping[Path, Path] | None = None,
) -> tuple[SceneFrames, list[Path], list[str]]:
    """Load photos as stored (most camera files ignore EXIF tags), reduced to `size` pixels along the longer side.

    Lens distortion is undone: the photo and its masks become those of the pinhole of the same intrinsics. Photos of
    another aspect than most are left out with a note. A photo without a mask is unlabelled.

    Args:
        pairs: Photo files with their cameras, at least one.
        size: Most pixels along the longer side; photos are never enlarged.
        masks: None = nothing is labelled.
        max_megapixels: Larger photos are left out with a note, if others remain.
        ignored: Masks of pixels that do not count (0), by photo; None = all count.

    Returns:
        Frames without a name and with unknown depth (0), the files of their photos, and notes for the user.

    Raises:
        UserError: A photo or mask that cannot be read, or whose aspect is not its camera's or photo's; nothing but
            unlabelled pixels; too many instances, or pixels in all.
    """
    if size < MIN_SIDE_PX:
        raise UserError(f"--size {size}: must be at least {MIN_SIDE_PX}")
    loaded, notes = _read_photos(pairs, size, max_megapixels)
    size_hw = height, width = Counter(_size_hw(photo.image) for photo in loaded).most_common(1)[0][0]
    odd = [photo.path.name for photo in loaded if not same_aspect(_size_hw(photo.image), size_hw)]
    if odd:
        notes.append(f"left out {len(odd)} photos of another shape than most ({width}x{height}): {odd[0]}, ...")
    kept = [photo for photo in loaded if same_aspect(_size_hw(photo.image), size_hw)]
    ids = np.full((len(kept), *size_hw), -1, np.int64)
    if masks is not None:
        notes += _read_masks(kept, masks, ids)
    counted = np.stack([resize_nearest(photo.shown, size_hw) for photo in kept])
    if ignored is not None:
        notes += _read_ignored(kept, ignored, counted)
        ids[~counted] = -1
    frames = SceneFrames(
        name="",
        images=np.stack([np.asarray(photo.image.resize((width, height))) for photo in kept]),
        depth=np.zeros(ids.shape, np.float32),
        group_ids=ids,
        cam_from_world=np.stack([photo.camera.cam_from_world for photo in kept]),
        intrinsics=np.stack([photo.camera.pinhole(size_hw) for photo in kept]),
        instance_classes={},
        mask=None if counted.all() else counted,
    )
    return frames, [photo.path for photo in kept], notes


@dataclass(frozen=True)
class _Loaded:
    """A photo, reduced and undistorted."""

    path: Path
    camera: PosedCamera  # with a size, and still with its lens
    image: Image.Image
    shown: Bool[np.ndarray, "H W"]  # pixels that the photo has something for


def _read_photos(
    pairs: Sequence[tuple[Path, PosedCamera]], size: int, max_megapixels: float
) -> tuple[list[_Loaded], list[str]]:
    """Read photos, and what was done to their pixels as notes."""
    loaded, changed, pixels, too_large = [], defaultdict(list), 0, []
    for path, camera in pairs:
        try:
            photo, notes = _read_photo(path, camera, size, max_megapixels)
        except TooManyPixels as error:
            too_large.append(error)
            continue
        loaded.append(photo)
        for note in notes:
            changed[note].append(path.name)
        pixels += photo.shown.size
        if pixels > MAX_PIXELS:
            many = f"{len(pairs)} photos have more than {MAX_PIXELS / 1e6:.0f} megapixels at --size {size}"
            raise UserError(f"{many}, too many for memory; give a smaller --size, or fewer photos with --max-views")
    if not loaded:
        raise too_large[0]
    left_out = [f"left out {error}" for error in too_large]
    return loaded, [*left_out, *(f"{note}: {_some(names)}" for note, names in changed.items())]


def _read_photo(path: Path, camera: PosedCamera, size: int, max_megapixels: float) -> tuple[_Loaded, list[str]]:
    """Read one photo, and notes: as stored, unless its camera is for the upright one."""
    (image, _, notes), wanted = decode_photo(path, camera.upright, max_megapixels), camera.size_hw
    if wanted is not None and not same_aspect(_size_hw(image), wanted):
        image, _, notes = decode_photo(path, True, max_megapixels)
    width, height = image.size
    check_side(path, image)
    if wanted is not None and not same_aspect((height, width), wanted):
        expected = f"its camera is for {wanted[1]}x{wanted[0]}"
        raise UserError(f"{shown(path)}: {width}x{height} pixels, but {expected}; give the photo that it belongs to")
    camera = camera.of_photo((height, width))
    if camera.lens is None:
        small = _reduced(image, size)
        return _Loaded(path, camera, small, np.ones(_size_hw(small), bool)), notes
    bent = _reduced(image, _BENT_SIZE * size)
    try:
        straight, inside = undistort_photo(np.asarray(bent), camera.lens, camera.pinhole(_size_hw(bent)))
    except UserError as error:
        raise UserError(f"{shown(path)}: {error}; are the coefficients right?") from None
    small = _reduced(Image.fromarray(straight), size)
    weights = Image.fromarray(inside.astype(np.float32)).resize(small.size, Image.Resampling.BICUBIC)
    return _Loaded(path, camera, small, np.asarray(weights) >= _ALL_SHOWN), [*notes, "lens distortion undone"]


def _reduced(image: Image.Image, size: int) -> Image.Image:
    """At most so many pixels along the longer side."""
    factor = min(1.0, size / max(image.size))
    reduced = (max(round(image.width * factor), 1), max(round(image.height * factor), 1))
    return image if reduced == image.size else image.resize(reduced, Image.Resampling.BICUBIC)


def _read_ignored(photos: Sequence[_Loaded], files: Mapping[Path, Path], counted: np.ndarray) -> list[str]:
    """Take ignored pixels out of those that count, [V, H, W]; return notes."""
    before = counted.sum()
    for view, photo in enumerate(photos):
        if (path := files.get(photo.path)) is not None:
            mask = read_counted(path, photo.path.name, _size_hw(photo.image))
            counted[view] &= resize_nearest(_straightened(mask, photo.camera, fill=0), counted.shape[1:])
            if not counted[view].any():
                raise UserError(
                    f"{shown(path)}: ignores all of its photo; 0 = ignored, so invert it, or leave the photo out"
                )
    note = f"{1 - counted.sum() / before:.1%} of the pixels are ignored"
    return [note, *missing_notes([photo.path for photo in photos if photo.path not in files])]


def _straightened(values: np.ndarray, camera: PosedCamera, fill: int) -> np.ndarray:
    """Values of a photo's pixels without its lens distortion."""
    size_hw = (values.shape[0], values.shape[1])
    return values if camera.lens is None else undistort_values(values, camera.lens, camera.pinhole(size_hw), fill)


def _read_masks(photos: Sequence[_Loaded], source: MaskSource, ids: np.ndarray) -> list[str]:
    """Fill the instance ids [V, H, W] of labelled pixels; return notes."""
    missing = []
    for view, photo in enumerate(photos):
        path = source.files.get(photo.path)
        if path is None:
            missing.append(photo.path.name)
            continue
        mask = read_mask(path)
        if not same_aspect(mask.shape, _size_hw(photo.image)):
            size = f"{mask.shape[1]}x{mask.shape[0]}"
            where = f"{shown(path)}: {size} pixels"
            raise UserError(f"{where}, another shape than its photo {shown(photo.path.name)}; export it again")
        labelled = np.where(np.isin(mask, source.unlabelled), -1, mask + source.first_id)
        ids[view] = resize_nearest(_straightened(labelled, photo.camera, fill=-1), ids.shape[1:])
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
