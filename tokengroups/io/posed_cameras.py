"""Cameras of named photos, read from any file, and the matching of photos to cameras."""

from __future__ import annotations

import os.path
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from tokengroups.errors import UserError
from tokengroups.io.images import PHOTO_SUFFIXES
from tokengroups.io.points import PointCloud


@dataclass(frozen=True)
class PosedCamera:
    """Camera of one photo."""

    name: str  # of its photo: path as the camera file says it, with or without suffix
    cam_from_world: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]  # in pixels of size_hw; where that is None, in widths of the photo
    size_hw: tuple[int, int] | None

    def pinhole(self, size_hw: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
        """Intrinsics in pixels of a photo resized to `size_hw`; without a size of its own, centred."""
        height, width = size_hw
        if self.size_hw is None:
            fx, fy = self.intrinsics[0, 0] * width, self.intrinsics[1, 1] * width
            return np.array([[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1]])
        factors = np.array([width / self.size_hw[1], height / self.size_hw[0], 1.0])
        return self.intrinsics * factors[:, None]


@dataclass(frozen=True)
class CameraSet:
    """Content of a camera file: cameras in one world."""

    cameras: tuple[PosedCamera, ...]
    points: PointCloud | None = None  # of the scene, if the file has some
    folder: Path | None = None  # that the photos' names are relative to, if the file says so


def check_pose(where: str, cam_from_world: np.ndarray, tolerance: float = 1e-2) -> Float[np.ndarray, "4 4"]:
    """A 4x4 rigid motion without its rounding errors, which may be as large as the tolerance.

    Raises:
        UserError: It is no rigid motion; the line begins with `where`.
    """
    if cam_from_world.shape != (4, 4) or not np.isfinite(cam_from_world).all():
        raise UserError(f"{where}: its pose is not a 4x4 matrix of finite numbers")
    rotation = cam_from_world[:3, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > tolerance or np.linalg.det(rotation) < 0:
        raise UserError(f"{where}: its pose is not a rotation and a translation (scaled or mirrored?)")
    left, _, right = np.linalg.svd(rotation)
    exact = np.eye(4)
    exact[:3, :3], exact[:3, 3] = left @ right, cam_from_world[:3, 3]
    return exact


def check_pinhole(where: str, intrinsics: np.ndarray, size_hw: tuple[int, int] | None) -> None:
    """Refuse focal lengths and sizes that are not positive and finite.

    Raises:
        UserError: The line begins with `where`.
    """
    sides = size_hw or (1, 1)
    if not np.isfinite(intrinsics).all() or min(intrinsics[0, 0], intrinsics[1, 1], *sides) <= 0:
        raise UserError(f"{where}: focal lengths and sizes must be positive numbers")


def match_photos(
    cameras: Sequence[PosedCamera], photos: Sequence[Path]
) -> tuple[list[tuple[Path, PosedCamera]], list[str]]:
    """Pairs of photo and camera in the photos' order, and notes on what has no partner.

    Names are compared without suffix, from the file name upwards through the folders.

    Raises:
        UserError: No pair at all, or a photo that fits two cameras.
    """
    by_stem: dict[str, list[PosedCamera]] = defaultdict(list)
    for camera in cameras:
        by_stem[_parts(camera.name)[0]].append(camera)
    pairs, lone = [], []
    for photo in photos:
        parts = _parts(str(photo))
        candidates = by_stem.get(parts[0], [])
        if not candidates:
            lone.append(photo.name)
            continue
        common = [len(os.path.commonprefix([parts, _parts(camera.name)])) for camera in candidates]
        best = [camera for camera, n in zip(candidates, common, strict=True) if n == max(common)]
        if len(best) > 1:
            raise UserError(f"{photo}: fits the cameras of {best[0].name} and {best[1].name}; rename one of them")
        pairs.append((photo, best[0]))
    if not pairs:
        raise UserError(
            f"none of the {len(photos)} photos ({photos[0].name}, ...) has a camera "
            f"({cameras[0].name}, ...); names must agree up to the suffix"
        )
    used = {id(camera) for _, camera in pairs}
    without = [camera.name for camera in cameras if id(camera) not in used]
    return pairs, [*_note(lone, "photo", "without a camera"), *_note(without, "camera", "without a photo")]


def _parts(name: str) -> list[str]:
    """Path components, the last one first and without the suffix of a photo."""
    path = PurePosixPath(name.replace("\\", "/"))
    last = path.stem if path.suffix.lower() in PHOTO_SUFFIXES else path.name
    return [last, *(part for part in reversed(path.parts[:-1]) if part != ".")]


def _note(names: Sequence[str], kind: str, lack: str) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return [f"left out {len(names)} {kind}{'s' if len(names) > 1 else ''} {lack}: {shown}"]
