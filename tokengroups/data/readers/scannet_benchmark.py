"""Truth and frames of ScanNet's 3D instance benchmark, from the official files of one scan.

    *_vh_clean_2.ply                        the mesh, whose vertices are the points
    *_vh_clean_2.0.010000.segs.json         `segIndices`: the superpoint of every vertex
    *.aggregation.json                      `segGroups`: superpoints and label of every annotated object
    color/ depth/ pose/ intrinsic/          exported frames (see `scannet`), depth at its own resolution

Mesh and poses are in one frame, without the release's `axisAlignment`. The aggregation of the finer mesh
(``*_vh_clean.aggregation.json``) belongs to other superpoints and is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8

from tokengroups.data.readers.scannet_files import (
    MILLIMETRES,
    one_channel,
    photo_path,
    photo_stems,
    read_matrix,
    read_pinhole,
)
from tokengroups.errors import UserError
from tokengroups.io.pixels import read_pixels, resize_photo
from tokengroups.io.ply_table import read_table
from tokengroups.io.posed_cameras import check_pinhole, check_pose
from tokengroups.reading import malformed, path_kind, read_json, shown

MESH, SEGMENTS, OBJECTS = "_vh_clean_2.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json"
_FINE_OBJECTS = "_vh_clean.aggregation.json"
_ADVICE = "get the scan's file again"
_LARGEST_ID = 2**31 - 2


@dataclass(frozen=True)
class ScanTruth:
    """Points of a scan with their superpoints and annotated objects."""

    points: Float[np.ndarray, "N 3"]  # in metres, in the world of the poses
    segments: Int64[np.ndarray, " N"]  # superpoint, from 0 on without gaps
    instance_ids: Int64[np.ndarray, " N"]  # object; -1 = not annotated
    labels: dict[int, str]  # of the objects, as annotators wrote them


def truth_files(folder: Path) -> tuple[Path, Path, Path]:
    """Mesh, superpoints and objects of a scan.

    Raises:
        UserError: One is missing.
    """
    return _find(folder, MESH), _find(folder, SEGMENTS), _find(folder, OBJECTS)


def read_truth(folder: Path) -> ScanTruth:
    """Read the official files of a scan.

    A vertex of several objects belongs to the last of them, as in the official export.

    Raises:
        UserError: A file is missing, damaged, or one of another scan.
    """
    mesh, segments_file, objects_file = truth_files(folder)
    vertices = read_table(mesh)
    with malformed(mesh, _ADVICE):
        points = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
        if not len(points) or not np.isfinite(points).all():
            raise ValueError("points that are none or infinite")
    content, groups = read_json(segments_file, _ADVICE), read_json(objects_file, _ADVICE)
    with malformed(segments_file, _ADVICE):
        numbers = _whole(content["segIndices"])
    if len(numbers) != len(points):
        where = (
            f"{shown(segments_file)}: {len(numbers)} superpoint numbers for the {len(points)} vertices of {mesh.name}"
        )
        raise UserError(f"{where}; give files of one scan")
    names, segments = np.unique(numbers, return_inverse=True)
    with malformed(objects_file, _ADVICE):
        objects = [
            (int(_whole([group["objectId"]])[0]), str(group["label"]), _whole(group["segments"]))
            for group in groups["segGroups"]
        ]
    owner = np.full(len(names), -1)
    for identity, _, own in objects:
        owner[np.isin(names, own)] = identity
    if objects and (owner < 0).all():
        raise UserError(
            f"{shown(objects_file)}: no object has a superpoint of {segments_file.name}; give files of one scan"
        )
    return ScanTruth(points, segments, owner[segments], {identity: label for identity, label, _ in objects})


class ScanFrames:
    """Every n-th exported frame of a scan, those without a valid pose left out.

    Args:
        folder: The scan.
        every: The distance of the frames, counted over all exported photos.

    Raises:
        UserError: No such frame has a pose.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        poses = {stem: _read_pose(folder, stem) for stem in photo_stems(folder)[::every]}
        self.poses = {stem: pose for stem, pose in poses.items() if pose is not None}
        self.stems = tuple(self.poses)
        if not self.stems:
            raise UserError(f"{shown(folder)}: no frame with a camera pose (pose/*.txt); export the scene's poses")

    @cached_property
    def cam_from_world(self) -> Float[np.ndarray, "V 4 4"]:
        """Inverse of the files' poses."""
        return np.linalg.inv(np.stack(list(self.poses.values())))

    @cached_property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Pinhole of the depth maps, with our pixel centres; the official evaluation uses it for masks, too."""
        pinhole = read_pinhole(self.folder, "depth")
        check_pinhole(f"{shown(self.folder)}/intrinsic/intrinsic_depth.txt", pinhole, None)
        return pinhole

    def depth(self, view: int) -> Float[np.ndarray, "h w"]:
        """Depth of one frame in metres at its own resolution; 0 = no reading."""
        return (one_channel(self.folder / "depth" / f"{self.stems[view]}.png") / MILLIMETRES).astype(np.float32)

    def photos(self, side: int, multiple: int) -> UInt8[np.ndarray, "V H W 3"]:
        """Whole photos, resized by Pillow's Lanczos filter to a size by `photo_size`; one at a time is held whole.

        Raises:
            UserError: Photos of several sizes.
        """
        resized, first = [], None
        for stem in self.stems:
            photo = read_pixels(photo_path(self.folder, stem))
            first = photo.shape if first is None else first
            if photo.shape != first or photo.ndim != 3:
                where = f"{shown(self.folder)}/color/{stem}"
                raise UserError(f"{where}: size {photo.shape[:2]} is not that of the first, {first[:2]}")
            resized.append(resize_photo(photo, photo_size((photo.shape[0], photo.shape[1]), side, multiple)))
        return np.stack(resized)


def photo_size(size_hw: tuple[int, int], side: int, multiple: int) -> tuple[int, int]:
    """Height and width of a whole photo whose longer side becomes `side`; both are rounded to multiples.

    Example:
        >>> from tokengroups.data.readers.scannet_benchmark import photo_size
        >>> photo_size((968, 1296), 518, 14)
        (392, 518)
    """
    longer = max(round(side / multiple), 1) * multiple
    height, width = (max(round(pixels * longer / max(size_hw) / multiple), 1) * multiple for pixels in size_hw)
    return height, width


def _read_pose(folder: Path, stem: str) -> np.ndarray | None:
    """Camera-to-world matrix; None where there is none or tracking was lost (-inf)."""
    path = folder / "pose" / f"{stem}.txt"
    if path_kind(path) == "missing":
        return None
    pose = read_matrix(path)
    return check_pose(shown(path), pose) if np.isfinite(pose).all() else None


def _find(folder: Path, suffix: str) -> Path:
    """The one official file of a scan with this ending."""
    found = [path for path in folder.glob(f"*{suffix}") if not path.name.endswith(_FINE_OBJECTS)]
    if len(found) != 1:
        what = "no file" if not found else "several files"
        raise UserError(f"{shown(folder)}: {what} *{suffix}; give a scan with the one of ScanNet's release")
    return found[0]


def _whole(values: Any) -> Int64[np.ndarray, " n"]:
    """A list of whole numbers from 0 on; ValueError for anything else."""
    if not isinstance(values, list) or not all(type(value) is int and 0 <= value <= _LARGEST_ID for value in values):
        raise ValueError("numbers that are not whole or negative")
    return np.array(values, np.int64)
