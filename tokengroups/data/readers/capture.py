"""Captures: photos with the cameras of other tools and with instance masks.

The folder of a capture holds its photos (or ``images/``), ``transforms.json`` or a COLMAP model (``sparse/0``), and
``masks/``. Captures have no depth, so they serve `tokengroups fit`, not training or evaluation. `find_capture` takes
recordings in ScanNet's layout, too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import torch

from tokengroups.data.augment import to_views
from tokengroups.data.readers.scannet import ScanNetScene
from tokengroups.data.splits import recorded_splits
from tokengroups.errors import UserError
from tokengroups.io.cameras import load_named_cameras
from tokengroups.io.colmap import find_model, load_colmap
from tokengroups.io.files import natural_key
from tokengroups.io.images import PHOTO_SUFFIXES, find_photos
from tokengroups.io.points import PointCloud, load_points
from tokengroups.io.posed_cameras import CameraSet, PosedCamera, match_photos
from tokengroups.io.posed_photos import MaskSource, load_posed_photos
from tokengroups.io.transforms import load_transforms
from tokengroups.reading import read_json
from tokengroups.types import SceneFrames, Views

TRANSFORMS = "transforms.json"
_KINDS = "a transforms.json, a COLMAP model or a cameras.json"
_ANY_SIZE = 2**31


@dataclass(frozen=True)
class Capture:
    """Posed photos of one scene with masks; they are read when the capture is sliced or loaded."""

    name: str
    pairs: tuple[tuple[Path, PosedCamera], ...]
    masks: MaskSource
    points: PointCloud | None = None  # in the world of the cameras
    classes: dict[int, str] = field(default_factory=dict)  # class name of group ids, as far as the files have them
    notes: tuple[str, ...] = ()  # for the user

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, frames: slice) -> SceneFrames:
        loaded, _, _ = load_posed_photos(self.pairs[frames], _ANY_SIZE, self.masks)
        return replace(loaded, name=self.name, instance_classes=self.classes)

    def evenly_spaced(self, limit: int | None) -> Capture:
        """Keep at most so many photos, with a note if some are left out; None = all."""
        if limit is None or len(self) <= limit:
            return self
        note = f"used {limit} of {len(self)} photos, evenly spaced; --max-views allows more"
        pairs = tuple(self.pairs[i * len(self) // limit] for i in range(limit))
        return replace(self, pairs=pairs, notes=(*self.notes, note))

    def load(self, size: int) -> tuple[Views, list[Path], list[str]]:
        """Views with float64 cameras, their photo files, and notes; see `load_posed_photos`."""
        frames, paths, notes = load_posed_photos(self.pairs, size, self.masks)
        views = to_views(frames, range(len(frames)))
        poses, pinholes = torch.from_numpy(frames.cam_from_world), torch.from_numpy(frames.intrinsics)
        cameras = replace(views.cameras, cam_from_world=poses, intrinsics=pinholes)
        return replace(views, cameras=cameras), paths, [*self.notes, *notes]


class Captures:
    """A folder of captures, or a single one. Their classes have no names.

    Raises:
        UserError: There is none.
    """

    class_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: str | os.PathLike[str]) -> None:
        root = Path(root)
        inside = sorted(root.glob("[!.]*"), key=lambda path: natural_key(path.name))
        self.folders = [root] if _has_cameras(root) else [path for path in inside if _has_cameras(path)]
        if not self.folders:
            raise UserError(f"{root}: no capture in it; give a folder with {TRANSFORMS} or a COLMAP model")
        self.splits, self.split_source = recorded_splits(root, self.folders)

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> Capture:
        return find_capture([str(self.folders[index])])


def find_capture(
    photos: Sequence[str],
    cameras: str | None = None,
    masks: str | None = None,
    points: str | None = None,
    unlabelled: int = 0,
) -> Capture:
    """Find all parts of a capture and read its cameras.

    Args:
        photos: Files, or one folder of them or of the whole capture.
        cameras: File or COLMAP folder; None = found in the folder.
        masks: Folder; None = found in the folder.
        points: PLY; None = the points of the camera file.
        unlabelled: Mask value of no instance.

    Raises:
        UserError: Something is missing, does not fit together, or cannot be read.
    """
    for given in photos:
        if not Path(given).exists():
            raise UserError(f"{given}: no such file or folder")
    folder = Path(photos[0]) if len(photos) == 1 and Path(photos[0]).is_dir() else None
    name = (folder or Path(photos[0] if photos else ".").parent).resolve().name
    source = MaskSource(Path(masks), unlabelled) if masks else None
    if folder is not None and cameras is None and (folder / "color").is_dir() and (folder / "pose").is_dir():
        scene, cloud = ScanNetScene(folder), load_points(points) if points else None
        if source is not None:
            return Capture(name, tuple(scene.posed_photos()), source, cloud)
        ids = MaskSource(folder / "instance-filt", first_id=-1)
        return Capture(name, tuple(scene.posed_photos()), ids, cloud, scene.instance_classes())
    found = _read_cameras(cameras, folder)
    pairs, notes = match_photos(found.cameras, _photos(photos, folder, found))
    if source is None and folder is not None and (folder / "masks").is_dir():
        source = MaskSource(folder / "masks", unlabelled)
    if source is None:
        raise UserError("no masks given; name their folder with --masks DIR (one PNG per photo, same stem)")
    return Capture(name, tuple(pairs), source, load_points(points) if points else found.points, notes=tuple(notes))


def _has_cameras(folder: Path) -> bool:
    return folder.is_dir() and ((folder / TRANSFORMS).is_file() or find_model(folder) is not None)


def _read_cameras(given: str | None, folder: Path | None) -> CameraSet:
    path = folder if given is None else Path(given)
    if path is None or (given is None and not _has_cameras(path)):
        raise UserError(f"no cameras given; name {_KINDS} with --cameras")
    if path.is_dir():
        return load_transforms(path / TRANSFORMS) if (path / TRANSFORMS).is_file() else load_colmap(path)
    if not path.is_file():
        raise UserError(f"--cameras {path}: no such file or folder; give {_KINDS}")
    if path.suffix.lower() != ".json":
        raise UserError(f"--cameras {path}: give {_KINDS} (for COLMAP its folder)")
    content = read_json(path, f"give {_KINDS}")
    return load_transforms(path) if isinstance(content, dict) and "frames" in content else load_named_cameras(path)


def _photos(given: Sequence[str], folder: Path | None, cameras: CameraSet) -> list[Path]:
    """The photos given, else those that the camera file names, else the folder ``images`` beside a COLMAP model."""
    if folder is None and given:
        return find_photos(given)
    if folder is not None and any(path.suffix.lower() in PHOTO_SUFFIXES for path in folder.glob("[!.]*")):
        return find_photos([folder])
    if cameras.folder is not None:
        named = [cameras.folder / camera.name for camera in cameras.cameras]
        # NeRF's files leave the suffix out.
        candidates = ([path, *(Path(f"{path}{suffix}") for suffix in PHOTO_SUFFIXES)] for path in named)
        found = [next((path for path in paths if path.is_file()), None) for paths in candidates]
        if any(found):
            return sorted((path for path in found if path is not None), key=lambda path: natural_key(str(path)))
    if folder is None:
        return find_photos([])
    return find_photos([folder / "images" if (folder / "images").is_dir() else folder])
