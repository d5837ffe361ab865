"""ScanNet's exported-frames layout: one folder a scene, read and written as `SceneFrames`.

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
import shutil
import tempfile
from pathlib import Path

import numpy as np

from tokengroups.data.readers.scannet_files import (
    INSTANCES_FILE,
    MILLIMETRES,
    matrix_text,
    read_classes,
    read_depth,
    read_instances,
    read_matrix,
    read_pinhole,
)
from tokengroups.errors import UserError
from tokengroups.io.files import make_folder, natural_key, write_error, write_text
from tokengroups.io.pixels import read_pixels, write_pixels
from tokengroups.types import SceneFrames

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_INSTANCES = 255


def find_scenes(folder: str | os.PathLike[str]) -> list[Path]:
    """Scene folders (those with a ``color`` in them): `folder` itself or those right below it, in order.

    Raises:
        UserError: There is none.
    """
    folder = Path(folder)
    if (folder / "color").is_dir():
        return [folder]
    scenes = [path.parent for path in folder.glob("*/color") if not path.parent.name.startswith(".")]
    if not scenes:
        raise UserError(
            f"{folder}: no scene in ScanNet's layout (SCENE/color/0.jpg, SCENE/pose/0.txt, ...);"
            " give the folder of a scene or of scenes"
        )
    return sorted(scenes, key=lambda path: natural_key(path.name))


def read_scannet(folder: str | os.PathLike[str], frames: slice = slice(None)) -> SceneFrames:
    """Read a scene at the resolution of its photos.

    Frames without a valid pose are skipped. Depth is resampled (nearest pixel) to the photos' pinhole.
    Missing depth reads as 0, missing instance maps as -1.

    Args:
        folder: The scene's folder.
        frames: Which of the frames with a pose, in order; a long scan does not fit in memory.

    Raises:
        UserError: The folder is no such scene, or a file is damaged.
    """
    folder = Path(folder)
    stems = _posed_stems(folder)[frames]
    if not stems:
        raise UserError(f"{folder}: no frame with a camera pose (pose/*.txt); export the scene's poses")
    photos = [read_pixels(_photo_path(folder, stem)) for stem in stems]
    shape = photos[0].shape
    for stem, photo in zip(stems, photos, strict=True):
        if photo.shape != shape or len(shape) != 3:
            raise UserError(
                f"{folder}/color/{stem}: size {photo.shape[:2]} is not that of the first, {shape[:2]}"
            )
    pinhole = read_pinhole(folder, "color")
    poses = np.stack([read_matrix(folder / "pose" / f"{stem}.txt") for stem in stems])
    ids = np.stack([read_instances(folder, stem, shape[:2]) for stem in stems])
    return SceneFrames(
        name=folder.resolve().name,
        images=np.stack(photos),
        depth=np.stack([read_depth(folder, stem, pinhole, shape[:2]) for stem in stems]),
        group_ids=ids,
        cam_from_world=_inverse_rigid(poses),
        intrinsics=np.tile(pinhole, (len(stems), 1, 1)),
        instance_classes=read_classes(folder, stems, ids),
    )


def count_frames(folder: str | os.PathLike[str]) -> int:
    """How many frames of a scene have a valid pose; errors as in `read_scannet`."""
    return len(_posed_stems(Path(folder)))


def find_frames(folder: str | os.PathLike[str]) -> list[Path]:
    """Photos of a scene's frames that have a valid pose, in order; errors as in `read_scannet`."""
    return [_photo_path(Path(folder), stem) for stem in _posed_stems(Path(folder))]


def write_scannet(folder: str | os.PathLike[str], scene: SceneFrames) -> None:
    """Write a scene; the folder appears when it is complete.

    Depth is rounded to millimetres and photos are JPEGs, as in ScanNet.

    Raises:
        UserError: The folder exists and is not empty, it cannot be written, or there are over 255 instances.
        ValueError: The frames do not share one pinhole, which the layout cannot say.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; remove it or choose another folder")
    if int(scene.group_ids.max()) >= MAX_INSTANCES:
        raise UserError(
            f"scene {scene.name} has more than {MAX_INSTANCES} instances, the most that 8-bit maps hold"
        )
    if not (scene.intrinsics == scene.intrinsics[0]).all():
        raise ValueError("ScanNet's layout holds one pinhole for all frames of a scene")
    make_folder(folder.parent)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_frames(unfinished, scene)
        unfinished.chmod(0o755)
        os.replace(unfinished, folder)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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
    poses = _inverse_rigid(scene.cam_from_world)
    for view, ids in enumerate(scene.group_ids):
        write_pixels(folder / "color" / f"{view}.jpg", scene.images[view])
        write_pixels(folder / "depth" / f"{view}.png", millimetres[view])
        write_pixels(folder / "instance-filt" / f"{view}.png", (ids + 1).astype(np.uint8))
        write_pixels(folder / "label-filt" / f"{view}.png", label_of[ids])
        write_text(folder / "pose" / f"{view}.txt", matrix_text(poses[view]))
    tables = {
        "instances": scene.instance_classes,
        "labels": {number: name for name, number in numbers.items()},
    }
    write_text(folder / INSTANCES_FILE, json.dumps(tables, indent=1) + "\n")


def _posed_stems(folder: Path) -> list[str]:
    """Frames with a pose; ScanNet writes -inf where tracking was lost."""
    return [s for s in _frame_stems(folder) if np.isfinite(read_matrix(folder / "pose" / f"{s}.txt")).all()]


def _frame_stems(folder: Path) -> list[str]:
    photos = [path for path in folder.glob("color/*") if path.suffix.lower() in PHOTO_SUFFIXES]
    stems = [path.stem for path in photos if (folder / "pose" / f"{path.stem}.txt").is_file()]
    if not stems:
        raise UserError(
            f"{folder}: no photo color/N.jpg with its pose/N.txt; is this a scene in ScanNet's layout?"
        )
    return sorted(stems, key=natural_key)


def _photo_path(folder: Path, stem: str) -> Path:
    return next(path for path in folder.glob(f"color/{stem}.*") if path.suffix.lower() in PHOTO_SUFFIXES)


def _inverse_rigid(poses: np.ndarray) -> np.ndarray:
    inverse = np.tile(np.eye(4), (len(poses), 1, 1))
    rotations = poses[:, :3, :3].transpose(0, 2, 1)
    inverse[:, :3, :3] = rotations
    inverse[:, :3, 3] = -(rotations @ poses[:, :3, 3:])[..., 0]
    return inverse
