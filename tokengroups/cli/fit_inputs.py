"""What `tokengroups fit` reads: which files are photos, cameras, masks and points, by option or by where they lie."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tokengroups.errors import UserError

if TYPE_CHECKING:
    from tokengroups.io.points import PointCloud
    from tokengroups.io.posed_cameras import CameraSet, PosedCamera
    from tokengroups.io.posed_photos import MaskSource
    from tokengroups.types import Views

TRANSFORMS = "transforms.json"
_KINDS = "a transforms.json, a COLMAP model or a cameras.json"


@dataclass(frozen=True)
class FitInputs:
    """All that a fit needs, and what the user should know about it."""

    views: Views
    names: tuple[str, ...]
    points: PointCloud | None
    classes: dict[int, str] = field(default_factory=dict)  # name of group ids, where known
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Sources:
    """Photos with the cameras of a file, and where their masks are."""

    photos: list[Path]
    cameras: CameraSet
    masks: MaskSource | None
    classes: dict[int, str] = field(default_factory=dict)


def read_inputs(args: argparse.Namespace) -> FitInputs:
    """Find and read everything.

    Raises:
        UserError: Something is missing, does not fit together, or cannot be read.
    """
    from tokengroups.io.points import load_points
    from tokengroups.io.posed_cameras import match_photos
    from tokengroups.io.posed_photos import load_posed_photos

    sources = _sources(args)
    pairs, notes = match_photos(sources.cameras.cameras, sources.photos)
    if args.max_views is not None and len(pairs) > args.max_views:
        notes.append(f"used {args.max_views} of {len(pairs)} photos, evenly spaced; --max-views allows more")
        pairs = [pairs[i * len(pairs) // args.max_views] for i in range(args.max_views)]
    if sources.masks is None:
        raise UserError("no masks given; name their folder with --masks DIR (one PNG per photo, same stem)")
    loaded = load_posed_photos(pairs, args.size, sources.masks)
    points = load_points(args.points) if args.points else sources.cameras.points
    return FitInputs(loaded.views, loaded.names, points, sources.classes, [*notes, *loaded.notes])


def _sources(args: argparse.Namespace) -> _Sources:
    from tokengroups.io.posed_photos import MaskSource

    for given in args.photos:
        if not Path(given).exists():
            raise UserError(f"{given}: no such file or folder")
    folder = Path(args.photos[0]) if len(args.photos) == 1 and Path(args.photos[0]).is_dir() else None
    if (
        folder is not None
        and args.cameras is None
        and (folder / "color").is_dir()
        and (folder / "pose").is_dir()
    ):
        return _recorded(folder, args)
    where = Path(args.cameras) if args.cameras else _cameras_in(folder)
    cameras = _read_cameras(where)
    masks = Path(args.masks) if args.masks else None
    if masks is None and folder is not None and (folder / "masks").is_dir():
        masks = folder / "masks"
    source = None if masks is None else MaskSource(masks, args.unlabelled)
    return _Sources(_photos(args.photos, folder, cameras), cameras, source)


def _cameras_in(folder: Path | None) -> Path:
    """Camera file of a folder that somebody else's tool made."""
    from tokengroups.io.colmap import find_model

    if folder is not None and (folder / TRANSFORMS).is_file():
        return folder / TRANSFORMS
    if folder is not None and find_model(folder) is not None:
        return folder
    raise UserError(f"no cameras given; name {_KINDS} with --cameras")


def _read_cameras(path: Path) -> CameraSet:
    from tokengroups.io.cameras import load_named_cameras
    from tokengroups.io.colmap import load_colmap
    from tokengroups.io.files import read_json
    from tokengroups.io.transforms import load_transforms

    if path.is_dir():
        return load_transforms(path / TRANSFORMS) if (path / TRANSFORMS).is_file() else load_colmap(path)
    if not path.is_file():
        raise UserError(f"--cameras {path}: no such file or folder; give {_KINDS}")
    if path.suffix.lower() != ".json":
        raise UserError(f"--cameras {path}: give {_KINDS} (for COLMAP its folder)")
    content = read_json(path, f"give {_KINDS}")
    if isinstance(content, dict) and "frames" in content:
        return load_transforms(path)
    return load_named_cameras(path)


def _photos(given: Sequence[str], folder: Path | None, cameras: CameraSet) -> list[Path]:
    """The photos given, else those that the camera file names, else the folder ``images`` beside a COLMAP model."""
    from tokengroups.io.files import natural_key
    from tokengroups.io.images import PHOTO_SUFFIXES, find_photos

    if folder is not None and _holds_photos(folder, PHOTO_SUFFIXES):
        return find_photos([folder])
    if folder is None and given:
        return find_photos(given)
    if cameras.folder is not None:
        named = [_named_photo(cameras.folder, camera, PHOTO_SUFFIXES) for camera in cameras.cameras]
        found = [path for path in named if path is not None]
        if found:
            return sorted(found, key=lambda path: natural_key(str(path)))
    if folder is not None and (folder / "images").is_dir():
        return find_photos([folder / "images"])
    return find_photos([folder] if folder is not None else [])


def _holds_photos(folder: Path, suffixes: tuple[str, ...]) -> bool:
    return any(path.suffix.lower() in suffixes for path in folder.glob("[!.]*"))


def _named_photo(folder: Path, camera: PosedCamera, suffixes: tuple[str, ...]) -> Path | None:
    """The file of a camera's name; NeRF's files leave the suffix out."""
    path = folder / camera.name
    return next((p for p in (path, *(Path(f"{path}{suffix}") for suffix in suffixes)) if p.is_file()), None)


def _recorded(folder: Path, args: argparse.Namespace) -> _Sources:
    """A scene in ScanNet's exported-frames layout: its own ids and names unless other masks are given."""
    import numpy as np

    from tokengroups.data.readers.scannet import find_frames
    from tokengroups.data.readers.scannet_files import read_classes, read_matrix, read_pinhole
    from tokengroups.io.masks import find_mask, read_mask
    from tokengroups.io.posed_cameras import CameraSet, PosedCamera, check_pose
    from tokengroups.io.posed_photos import MaskSource

    photos = find_frames(folder)
    pinhole, cameras = read_pinhole(folder, "color"), []
    for photo in photos:
        pose = folder / "pose" / f"{photo.stem}.txt"
        cam_from_world = np.linalg.inv(check_pose(str(pose), read_matrix(pose)))
        cameras.append(PosedCamera(photo.stem, cam_from_world, pinhole, _size_hw(photo)))
    if args.masks:
        return _Sources(photos, CameraSet(tuple(cameras)), MaskSource(Path(args.masks), args.unlabelled))
    instances = folder / "instance-filt"
    found = [mask for mask in (find_mask(instances, photo) for photo in photos) if mask is not None]
    classes = {}
    if found:
        classes = read_classes(folder, [m.stem for m in found], np.stack([read_mask(m) - 1 for m in found]))
    return _Sources(photos, CameraSet(tuple(cameras)), MaskSource(instances, 0, -1), classes)


def _size_hw(photo: Path) -> tuple[int, int]:
    from tokengroups.io.images import decode_photo

    image, _, _ = decode_photo(photo, upright=False)
    return image.height, image.width
