"""Single files of a scene in ScanNet's exported-frames layout (see `scannet`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tokengroups.errors import UserError
from tokengroups.io.files import natural_key
from tokengroups.io.pixels import read_pixels, resize_nearest

_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
MILLIMETRES = 1000
INSTANCES_FILE = "instances.json"


def photo_stems(folder: Path) -> list[str]:
    """All frames with a photo, in natural order."""
    photos = [path for path in folder.glob("color/*") if path.suffix.lower() in _PHOTO_SUFFIXES]
    return sorted((path.stem for path in photos), key=natural_key)


def posed_stems(folder: Path) -> list[str]:
    """Frames with a pose, in natural order; ScanNet writes -inf where tracking was lost."""
    stems = [stem for stem in photo_stems(folder) if (folder / "pose" / f"{stem}.txt").is_file()]
    if not stems:
        raise UserError(f"{folder}: no photo color/N.jpg with its pose/N.txt; is this a scene in ScanNet's layout?")
    stems = [stem for stem in stems if np.isfinite(read_matrix(folder / "pose" / f"{stem}.txt")).all()]
    if not stems:
        raise UserError(f"{folder}: no frame with a camera pose (pose/*.txt); export the scene's poses")
    return stems


def photo_path(folder: Path, stem: str) -> Path:
    """The photo of a frame."""
    return next(path for path in folder.glob(f"color/{stem}.*") if path.suffix.lower() in _PHOTO_SUFFIXES)


def read_matrix(path: Path) -> np.ndarray:
    """Read a 4x4 matrix from a text file."""
    try:
        matrix = np.array(path.read_text().split(), dtype=np.float64)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a matrix of numbers; export the scene again") from error
    if matrix.size != 16:
        raise UserError(f"{path}: {matrix.size} numbers where a 4x4 matrix has 16; export the scene again")
    return matrix.reshape(4, 4)


def matrix_text(matrix: np.ndarray) -> str:
    """Format a matrix as text that reads back exactly."""
    return "\n".join(" ".join(repr(float(value)) for value in row) for row in matrix) + "\n"


def read_pinhole(folder: Path, kind: str) -> np.ndarray:
    """Intrinsics [3, 3] of the photos ("color") or depth maps ("depth"), converted to our pixel centres."""
    pinhole = read_matrix(folder / "intrinsic" / f"intrinsic_{kind}.txt")[:3, :3].copy()
    pinhole[:2, 2] += 0.5
    return pinhole


def read_depth(folder: Path, stem: str, pinhole: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Depth in metres, resampled to the pinhole and size of the photos; 0 where unknown or missing."""
    path = folder / "depth" / f"{stem}.png"
    if not path.is_file():
        return np.zeros(size, np.float32)
    millimetres, source = one_channel(path), read_pinhole(folder, "depth")
    index, inside = [], []
    for axis, count in ((1, size[0]), (0, size[1])):  # rows use fy, cy; columns fx, cx
        slope = (np.arange(count) + 0.5 - pinhole[axis, 2]) / pinhole[axis, axis]
        position = np.floor(slope * source[axis, axis] + source[axis, 2] + 1e-9).astype(np.int64)
        limit = millimetres.shape[1 - axis]
        inside.append((position >= 0) & (position < limit))
        index.append(position.clip(0, limit - 1))
    nearest = np.where(np.logical_and.outer(*inside), millimetres[np.ix_(*index)], 0)
    return (nearest.astype(np.float64) / MILLIMETRES).astype(np.float32)


def one_channel(path: Path) -> np.ndarray:
    """Numbers of a picture with one channel, as they are stored."""
    pixels = read_pixels(path)
    if pixels.ndim != 2:
        raise UserError(f"{path}: a colour picture where numbers in one channel are expected; export the scene again")
    return pixels


def read_instances(folder: Path, stem: str, size: tuple[int, int]) -> np.ndarray:
    """Object ids int32 at the size of the photos; -1 where unlabelled or missing."""
    path = folder / "instance-filt" / f"{stem}.png"
    if not path.is_file():
        return np.full(size, -1, np.int32)
    return resize_nearest(one_channel(path), size).astype(np.int32) - 1


def read_classes(folder: Path, stems: Iterable[str], ids: Iterable[np.ndarray]) -> dict[int, str]:
    """Class names from ``instances.json`` or ScanNet's aggregation file; else "label N" from the label maps."""
    ours = folder / INSTANCES_FILE
    aggregations = sorted(folder.glob("*.aggregation.json"), key=lambda path: len(path.name))
    try:
        if ours.is_file():
            return {int(number): str(name) for number, name in json.loads(ours.read_text())["instances"].items()}
        if aggregations:
            groups = json.loads(aggregations[0].read_text())["segGroups"]
            return {int(group["objectId"]): str(group["label"]) for group in groups}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: its table of instances is damaged; export the scene again") from error
    votes: dict[int, np.ndarray] = {}
    for stem, instances in zip(stems, ids, strict=True):
        path = folder / "label-filt" / f"{stem}.png"
        labels = resize_nearest(one_channel(path), instances.shape) if path.is_file() else np.zeros_like(instances)
        for instance in np.unique(instances[instances >= 0]).tolist():
            counts = np.bincount(labels[instances == instance].astype(np.int64), minlength=65536)
            votes[instance] = votes.get(instance, 0) + counts
    return {instance: f"label {int(counts.argmax())}" for instance, counts in sorted(votes.items())}
