"""Captures: photos with the cameras of other tools and with instance masks.

The folder of a capture holds its photos (or ``images/``), ``transforms.json`` or a COLMAP model (``sparse/0``), and
perhaps ``masks/``. Captures have no depth, so they serve `tokengroups fit`, not training or evaluation. `find_capture`
takes recordings in ScanNet's layout, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

import torch

from tokengroups.data.augment import to_views
from tokengroups.data.readers.scannet import ScanNetScene
from tokengroups.data.splits import recorded_splits
from tokengroups.errors import UserError
from tokengroups.io.camera_files import KINDS, TRANSFORMS, has_cameras, load_camera_set
from tokengroups.io.decoding import MAX_MEGAPIXELS
from tokengroups.io.files import natural_key
from tokengroups.io.images import PHOTO_SUFFIXES, find_photos
from tokengroups.io.matching import find_masks, match_photos
from tokengroups.io.points import PointCloud, load_points
from tokengroups.io.posed_cameras import CameraSet, PosedCamera
from tokengroups.io.posed_photos import MaskSource, load_posed_photos
from tokengroups.reading import path_kind, shown
from tokengroups.types import SceneFrames, Views

_ANY_SIZE = 2**31
_NO_MASKS = "no masks: the groups are clusters of positions; --masks DIR gives instances"


@dataclass(frozen=True)
class Capture:
    """Posed photos of one scene, perhaps with masks; they are read when the capture is sliced or loaded."""

    name: str
    pairs: tuple[tuple[Path, PosedCamera], ...]
    masks: MaskSource | None  # None = nothing is labelled
    points: PointCloud | None = None  # in the world of the cameras
    classes: dict[int, str] = field(default_factory=dict)  # class name of group ids, as far as the files have them
    notes: tuple[str, ...] = ()  # for the user
    ignored: Mapping[Path, Path] | None = None  # masks of pixels that do not count, by photo

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, frames: slice) -> SceneFrames:
        loaded, _, _ = load_posed_photos(self.pairs[frames], _ANY_SIZE, self.masks, ignored=self.ignored)
        return replace(loaded, name=self.name, instance_classes=self.classes)

    def evenly_spaced(self, limit: int | None) -> Capture:
        """Keep at most so many photos, with a note if some are left out; None = all."""
        if limit is None or len(self) <= limit:
            return self
        note = f"used {limit} of {len(self)} photos, evenly spaced; --max-views allows more"
        pairs = tuple(self.pairs[i * len(self) // limit] for i in range(limit))
        return replace(self, pairs=pairs, notes=(*self.notes, note))

    def ignoring(self, folder: Path) -> Capture:
        """The capture without the pixels that masks in a folder ignore; see `tokengroups.io.ignored`.

        Raises:
            UserError: No mask for any photo.
        """
        return replace(self, ignored=find_masks(folder, [path for path, _ in self.pairs]))

    def load(self, size: int, max_megapixels: float = MAX_MEGAPIXELS) -> tuple[Views, list[Path], list[str]]:
        """Views with float64 cameras, their photo files, and notes; see `load_posed_photos`."""
        frames, paths, notes = load_posed_photos(self.pairs, size, self.masks, max_megapixels, self.ignored)
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
        self.folders = [root] if has_cameras(root) else [path for path in inside if has_cameras(path)]
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
    unlabelled: Sequence[int] = (0,),
) -> Capture:
    """Find all parts of a capture and read its cameras.

    Args:
        photos: Files, or one folder of them or of the whole capture.
        cameras: File or COLMAP folder; None = found in the folder.
        masks: Folder; None = found in the folder, if it has some.
        points: PLY; None = the points of the camera file.
        unlabelled: Mask values of no instance.

    Raises:
        UserError: Something is missing, does not fit together, or cannot be read.
    """
    for given in photos:
        if path_kind(given) not in ("file", "folder"):
            raise UserError(f"{shown(given)}: no such file or folder")
    folder = _only_folder(photos)
    name = (folder or Path(photos[0] if photos else ".").parent).resolve().name
    cloud = load_points(points) if points else None
    if folder is not None and cameras is None and (folder / "color").is_dir() and (folder / "pose").is_dir():
        return _recorded(name, folder, masks, cloud, unlabelled)
    found = _read_cameras(cameras, folder)
    files = photos_of_cameras(photos, found)
    pairs, notes = match_photos(found.cameras, files)
    if masks is None and folder is not None and (folder / "masks").is_dir():
        masks = str(folder / "masks")
    source = None if masks is None else MaskSource(Path(masks), find_masks(Path(masks), files), tuple(unlabelled))
    cloud = cloud or found.points
    all_notes = (*found.notes, *(cloud.notes if cloud else ()), *notes, *(() if source else (_NO_MASKS,)))
    return Capture(name, tuple(pairs), source, cloud, notes=all_notes)


def _only_folder(photos: Sequence[str]) -> Path | None:
    return Path(photos[0]) if len(photos) == 1 and path_kind(photos[0]) == "folder" else None


def _recorded(
    name: str, folder: Path, masks: str | None, cloud: PointCloud | None, unlabelled: Sequence[int]
) -> Capture:
    """A recording in ScanNet's layout, with its own instance maps unless others are given."""
    scene = ScanNetScene(folder)
    pairs, notes = tuple(scene.posed_photos()), cloud.notes if cloud else ()
    files = [path for path, _ in pairs]
    if masks is not None:
        source = MaskSource(Path(masks), find_masks(Path(masks), files), tuple(unlabelled))
        return Capture(name, pairs, source, cloud, notes=notes)
    own = folder / "instance-filt"
    if not own.is_dir():
        return Capture(name, pairs, None, cloud, notes=(*notes, _NO_MASKS))
    source = MaskSource(own, find_masks(own, files), first_id=-1)
    return Capture(name, pairs, source, cloud, scene.instance_classes(), notes)


def _read_cameras(given: str | None, folder: Path | None) -> CameraSet:
    if given is not None:
        return load_camera_set(Path(given), "--cameras")[0]
    if folder is None or not has_cameras(folder):
        raise UserError(f"no cameras given; name {KINDS} with --cameras")
    return load_camera_set(folder, "--cameras")[0]


def photos_of_cameras(given: Sequence[str], cameras: CameraSet) -> list[Path]:
    """The photos given; of one folder those in it, in its ``images``, or where the camera file says.

    Those of a folder are the ones right in it, and the ones that the camera file names in folders below.
    """
    folder = _only_folder(given)
    if folder is None and given:
        return find_photos(given)
    places = [] if folder is None else [folder, folder / "images"]
    for place in [*places, *([] if cameras.folder is None else [cameras.folder])]:
        direct = [path for path in place.glob("[!.]*") if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()]
        outside = place == cameras.folder
        named = {path for camera in cameras.cameras if (path := _named(place, camera.name, outside)) is not None}
        if direct or named:
            return sorted(named.union(direct), key=lambda path: natural_key(str(path)))
    return find_photos([] if folder is None else [places[1] if places[1].is_dir() else folder])


def _named(place: Path, name: str, outside: bool) -> Path | None:
    """Photo with a camera's name, or with the end of that path, in a folder; NeRF's files leave the suffix out.

    Args:
        place: The folder.
        name: Path of the photo as the camera file says it.
        outside: Whether an absolute path counts.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    suffixes = ("",) if path.suffix.lower() in PHOTO_SUFFIXES else ("", *PHOTO_SUFFIXES)
    for first in range(1 if path.is_absolute() and not outside else 0, len(path.parts)):
        tail = place / PurePosixPath(*path.parts[first:])
        found = (Path(f"{tail}{suffix}") for suffix in suffixes)
        photo = next((candidate for candidate in found if path_kind(candidate) == "file"), None)
        if photo is not None:
            return photo
    return None
