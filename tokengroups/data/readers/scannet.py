"""Reader and writer of ScanNet's exported-frames layout, one folder a scene.

    color/{i}.jpg            photos
    depth/{i}.png            uint16, z in millimetres, 0 = unknown; may be smaller than the photos
    pose/{i}.txt             4x4 camera-to-world, OpenCV axes, metres; -inf where tracking failed
    intrinsic/intrinsic_color.txt, intrinsic_depth.txt   4x4
    instance-filt/{i}.png    uint8, object id + 1, 0 = unlabelled
    label-filt/{i}.png       uint16, class number, 0 = unlabelled
    instances.json           ours: names of instances and class numbers (ScanNet: *.aggregation.json)

ScanNet's intrinsics put the first pixel's centre at (0, 0); `SceneFrames` has it at (0.5, 0.5).
"""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from tokengroups.data.readers.scannet_files import (
    INSTANCES_FILE,
    MILLIMETRES,
    matrix_text,
    photo_path,
    posed_stems,
    read_classes,
    read_depth,
    read_instances,
    read_matrix,
    read_pinhole,
)
from tokengroups.data.splits import SPLITS, recorded_splits
from tokengroups.errors import UserError
from tokengroups.geometry import invert_rigid
from tokengroups.io.files import make_folder, natural_key, staged_folder, write_text
from tokengroups.io.pixels import read_pixels, write_pixels
from tokengroups.io.posed_cameras import PosedCamera, check_pose
from tokengroups.types import SceneFrames

MAX_INSTANCES = 255


class ScanNet:
    """A folder of recordings in ScanNet's layout, or a single recording.

    Args:
        root: See `find_scenes` for its content, and `recorded_splits` for the splits.

    Raises:
        UserError: There is no scene.
    """

    class_names: ClassVar[tuple[str, ...]] = (
        "wall", "floor", "ceiling", "chair", "table", "sofa", "bed", "other",
    )  # fmt: skip  # LSM's; 'other' stands for all classes not listed

    def __init__(self, root: str | os.PathLike[str]) -> None:
        folders = find_scenes(root)
        self.scenes = [ScanNetScene(folder) for folder in folders]
        self.splits, self.split_source = recorded_splits(Path(root), folders)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> ScanNetScene:
        return self.scenes[index]


class ScanNetScene:
    """One recording, whose frames are read at the resolution of the photos when it is sliced.

    Frames without a valid pose are skipped. Depth is resampled (nearest pixel) to the photos' pinhole. Missing depth
    reads as 0, missing instance maps as -1.

    Raises:
        UserError: The folder is no such scene, or a file is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.name = self.folder.resolve().name

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """Names of the frames, in order."""
        return tuple(posed_stems(self.folder))

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, frames: slice) -> SceneFrames:
        folder, stems = self.folder, self.stems[frames]
        photos = [read_pixels(photo_path(folder, stem)) for stem in stems]
        shape = photos[0].shape
        for stem, photo in zip(stems, photos, strict=True):
            if photo.shape != shape or len(shape) != 3:
                raise UserError(f"{folder}/color/{stem}: size {photo.shape[:2]} is not that of the first, {shape[:2]}")
        pinhole = read_pinhole(folder, "color")
        poses = np.stack([read_matrix(folder / "pose" / f"{stem}.txt") for stem in stems])
        ids = np.stack([read_instances(folder, stem, shape[:2]) for stem in stems])
        return SceneFrames(
            name=self.name,
            images=np.stack(photos),
            depth=np.stack([read_depth(folder, stem, pinhole, shape[:2]) for stem in stems]),
            group_ids=ids,
            cam_from_world=invert_rigid(torch.from_numpy(poses)).numpy(),
            intrinsics=np.tile(pinhole, (len(stems), 1, 1)),
            instance_classes=read_classes(folder, stems, ids),
        )

    def posed_photos(self) -> list[tuple[Path, PosedCamera]]:
        """Photo files with their cameras, for fits, which take photos of any size."""
        pinhole, pairs = read_pinhole(self.folder, "color"), []
        height, width = read_pixels(photo_path(self.folder, self.stems[0])).shape[:2]
        for stem in self.stems:
            pose = self.folder / "pose" / f"{stem}.txt"
            cam_from_world = np.linalg.inv(check_pose(str(pose), read_matrix(pose)))
            camera = PosedCamera(stem, cam_from_world, pinhole, (height, width))
            pairs.append((photo_path(self.folder, stem), camera))
        return pairs

    def instance_classes(self) -> dict[int, str]:
        """Class name of every instance of the recording, as far as its files have them."""
        maps = {stem: self.folder / "instance-filt" / f"{stem}.png" for stem in self.stems}
        maps = {stem: path for stem, path in maps.items() if path.is_file()}
        ids = (read_pixels(path).astype(np.int32) - 1 for path in maps.values())
        return read_classes(self.folder, maps, ids) if maps else {}


def find_scenes(root: str | os.PathLike[str]) -> list[Path]:
    """Scene folders (those with a ``color`` in them), in order of their names.

    They are `root` itself, or lie in it or in its sub-folders ``train``, ``val`` and ``test``.

    Raises:
        UserError: There is none.
    """
    root = Path(root)
    if (root / "color").is_dir():
        return [root]
    patterns = ("*/color", *(f"{split}/*/color" for split in SPLITS))
    scenes = [path.parent for pattern in patterns for path in root.glob(pattern)]
    scenes = [path for path in scenes if not path.name.startswith(".")]
    if not scenes:
        raise UserError(
            f"{root}: no scene in ScanNet's layout (SCENE/color/0.jpg, SCENE/pose/0.txt, ...);"
            " give the folder of a scene or of scenes"
        )
    return sorted(scenes, key=lambda path: natural_key(path.name))


def write_scannet(folder: str | os.PathLike[str], scene: SceneFrames) -> None:
    """Write a scene; the folder appears when it is complete.

    Depth is rounded to millimetres and photos are JPEGs, as in ScanNet.

    Raises:
        UserError: The folder exists and is not empty, it cannot be written, or there are over 255 instances.
        ValueError: The frames do not share one pinhole, as the layout demands.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; remove it or choose another folder")
    if int(scene.group_ids.max()) >= MAX_INSTANCES:
        raise UserError(f"scene {scene.name} has more than {MAX_INSTANCES} instances, the most that 8-bit maps hold")
    if not (scene.intrinsics == scene.intrinsics[0]).all():
        raise ValueError("ScanNet's layout holds one pinhole for all frames of a scene")
    with staged_folder(folder) as unfinished:
        _write_frames(unfinished, scene)


def _write_frames(folder: Path, scene: SceneFrames) -> None:
    for name in ("color", "depth", "pose", "intrinsic", "instance-filt", "label-filt"):
        make_folder(folder / name)
    names = sorted(set(scene.instance_classes.values()))
    numbers = {name: number for number, name in enumerate(names, start=1)}
    label_of = np.zeros(MAX_INSTANCES + 1, np.uint16)  # the last entry stays 0: id -1
    for instance, name in scene.instance_classes.items():
        label_of[instance] = numbers[name]
    pinhole = np.eye(4)
    pinhole[:3, :3] = scene.intrinsics[0]
    pinhole[:2, 2] -= 0.5
    for kind in ("color", "depth"):
        write_text(folder / "intrinsic" / f"intrinsic_{kind}.txt", matrix_text(pinhole))
        write_text(folder / "intrinsic" / f"extrinsic_{kind}.txt", matrix_text(np.eye(4)))
    millimetres = (scene.depth.astype(np.float64) * MILLIMETRES).round().clip(0, 65535).astype(np.uint16)
    poses = invert_rigid(torch.from_numpy(scene.cam_from_world)).numpy()
    for view, ids in enumerate(scene.group_ids):
        write_pixels(folder / "color" / f"{view}.jpg", scene.images[view])
        write_pixels(folder / "depth" / f"{view}.png", millimetres[view])
        write_pixels(folder / "instance-filt" / f"{view}.png", (ids + 1).astype(np.uint8))
        write_pixels(folder / "label-filt" / f"{view}.png", label_of[ids])
        write_text(folder / "pose" / f"{view}.txt", matrix_text(poses[view]))
    tables = {"instances": scene.instance_classes, "labels": {number: name for name, number in numbers.items()}}
    write_text(folder / INSTANCES_FILE, json.dumps(tables, indent=1) + "\n")
