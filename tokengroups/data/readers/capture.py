"""Captures: photos with the cameras of somebody else's tool and instance masks, by option or by where they lie.

Without depth they serve `tokengroups fit`, not training or evaluation. The folder of a capture holds its photos (or
``images/``), ``transforms.json`` or a COLMAP model (``sparse/0``), and ``masks/``. `find_capture` takes a recording in
ScanNet's layout for one too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from einops import rearrange

from tokengroups.data.readers.scannet import ScanNetScene
from tokengroups.data.splits import recorded_splits
from tokengroups.errors import UserError
from tokengroups.io.cameras import load_named_cameras
from tokengroups.io.colmap import find_model, load_colmap
from tokengroups.io.files import natural_key, read_json
from tokengroups.io.images import PHOTO_SUFFIXES, find_photos
from tokengroups.io.points import PointCloud, load_points
from tokengroups.io.posed_cameras import CameraSet, PosedCamera, match_photos
from tokengroups.io.posed_photos import MaskSource, PosedPhotos, load_posed_photos
from tokengroups.io.transforms import load_transforms
from tokengroups.types import SceneFrames

TRANSFORMS = "transforms.json"
_KINDS = "a transforms.json, a COLMAP model or a cameras.json"
_ANY_SIZE = 2**31


@dataclass(frozen=True)
class CaptureFiles:
    """Where the parts of a capture are."""

    photos: Sequence[str]  # files, or one folder of them or of the whole capture
    cameras: str | None = None  # None = found in the folder
    masks: str | None = None  # folder; None = likewise
    points: str | None = None  # PLY; None = what the cameras' file knows
    unlabelled: int = 0  # mask value of no instance


@dataclass(frozen=True)
class Capture:
    """One scene of posed photos; they are read when it is sliced or loaded."""

    name: str
    pairs: tuple[tuple[Path, PosedCamera], ...]
    masks: MaskSource
    points: PointCloud | None = None  # in the world of the cameras
    classes: dict[int, str] = field(default_factory=dict)  # name of group ids, where known
    notes: tuple[str, ...] = ()  # what the user should know about the files

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, frames: slice) -> SceneFrames:
        views = load_posed_photos(self.pairs[frames], _ANY_SIZE, self.masks).views
        return SceneFrames(
            name=self.name,
            images=rearrange((views.images * 255).round().byte(), "v c h w -> v h w c").numpy(),
            depth=views.depth.numpy(),
            group_ids=views.group_ids.numpy(),
            cam_from_world=views.cameras.cam_from_world.numpy(),
            intrinsics=views.cameras.intrinsics.numpy(),
            instance_classes=self.classes,
        )

    def evenly_spaced(self, limit: int | None) -> Capture:
        """At most so many of the photos, with a note if some are left out; None = all."""
        if limit is None or len(self) <= limit:
            return self
        note = f"used {limit} of {len(self)} photos, evenly spaced; --max-views allows more"
        pairs = tuple(self.pairs[i * len(self) // limit] for i in range(limit))
        return replace(self, pairs=pairs, notes=(*self.notes, note))

    def load(self, size: int) -> PosedPhotos:
        """All photos at once, reduced to `size` pixels along the longer side; errors of `load_posed_photos`."""
        return load_posed_photos(self.pairs, size, self.masks)


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
        return find_capture(CaptureFiles([str(self.folders[index])]))


@dataclass(frozen=True)
class _Sources:
    """Photos with the cameras of a file, and where their masks are."""

    photos: list[Path]
    cameras: CameraSet
    masks: MaskSource | None
    classes: dict[int, str] = field(default_factory=dict)


def find_capture(files: CaptureFiles) -> Capture:
    """Find all parts of a capture and read its cameras.

    Raises:
        UserError: Something is missing, does not fit together, or cannot be read.
    """
    for given in files.photos:
        if not Path(given).exists():
            raise UserError(f"{given}: no such file or folder")
    folder = Path(files.photos[0]) if len(files.photos) == 1 and Path(files.photos[0]).is_dir() else None
    sources = _sources(folder, files)
    pairs, notes = match_photos(sources.cameras.cameras, sources.photos)
    if sources.masks is None:
        raise UserError("no masks given; name their folder with --masks DIR (one PNG per photo, same stem)")
    points = load_points(files.points) if files.points else sources.cameras.points
    name = (folder or Path(files.photos[0] if files.photos else ".").parent).resolve().name
    return Capture(name, tuple(pairs), sources.masks, points, sources.classes, tuple(notes))


def _sources(folder: Path | None, files: CaptureFiles) -> _Sources:
    masks = Path(files.masks) if files.masks else None
    recorded = folder is not None and (folder / "color").is_dir() and (folder / "pose").is_dir()
    if folder is not None and recorded and files.cameras is None:
        scene = ScanNetScene(folder)
        photos, cameras = zip(*scene.posed_photos(), strict=True)
        if masks is not None:
            return _Sources(list(photos), CameraSet(cameras), MaskSource(masks, files.unlabelled))
        source = MaskSource(folder / "instance-filt", 0, -1)
        return _Sources(list(photos), CameraSet(cameras), source, scene.instance_classes())
    cameras = _read_cameras(Path(files.cameras) if files.cameras else _cameras_in(folder))
    if masks is None and folder is not None and (folder / "masks").is_dir():
        masks = folder / "masks"
    source = None if masks is None else MaskSource(masks, files.unlabelled)
    return _Sources(_photos(files.photos, folder, cameras), cameras, source)


def _has_cameras(folder: Path) -> bool:
    return folder.is_dir() and ((folder / TRANSFORMS).is_file() or find_model(folder) is not None)


def _cameras_in(folder: Path | None) -> Path:
    """Camera file of a folder that somebody else's tool made."""
    if folder is None or not _has_cameras(folder):
        raise UserError(f"no cameras given; name {_KINDS} with --cameras")
    return folder / TRANSFORMS if (folder / TRANSFORMS).is_file() else folder


def _read_cameras(path: Path) -> CameraSet:
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
    if folder is not None and any(path.suffix.lower() in PHOTO_SUFFIXES for path in folder.glob("[!.]*")):
        return find_photos([folder])
    if folder is None and given:
        return find_photos(given)
    if cameras.folder is not None:
        named = [_named_photo(cameras.folder, camera) for camera in cameras.cameras]
        found = [path for path in named if path is not None]
        if found:
            return sorted(found, key=lambda path: natural_key(str(path)))
    if folder is not None and (folder / "images").is_dir():
        return find_photos([folder / "images"])
    return find_photos([folder] if folder is not None else [])


def _named_photo(folder: Path, camera: PosedCamera) -> Path | None:
    """The file of a camera's name; NeRF's files leave the suffix out."""
    path = folder / camera.name
    return next((p for p in (path, *(Path(f"{path}{end}") for end in PHOTO_SUFFIXES)) if p.is_file()), None)
