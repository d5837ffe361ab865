"""Cameras of named photos, read from any file, and the checks that all readers of cameras share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tokengroups.errors import UserError
from tokengroups.io.lenses import NO_DISTORTION, Lens
from tokengroups.io.points import FARTHEST, PointCloud
from tokengroups.reading import shown

MAX_CAMERAS = 100_000  # of one file
MAX_SIDE_PX = 2**16  # of a photo, in a camera file
_LONGEST_FOCAL = 1e7  # and farthest principal point, in pixels
_SHORTEST_FOCAL = 1e-3  # in widths and heights of the photo: a field of view of 179.9 degrees
_LAST_ROW_TOLERANCE = 1e-6
_CENTRAL = 0.25  # the principal point is at least this share of a side away from the border
_UNDISTORT = "undistort the photos first, with `colmap image_undistorter` or your own tool, and give the new cameras"


@dataclass(frozen=True)
class PosedCamera:
    """Camera of one photo."""

    name: str  # of its photo: path as the camera file says it, with or without suffix
    cam_from_world: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]  # in pixels of size_hw, or as `in_widths` says
    size_hw: tuple[int, int] | None  # None: that of its photo, see `of_photo`
    in_widths: bool = False  # intrinsics are in widths of the photo, with a central principal point
    upright: bool = False  # it is for the photo as its EXIF tag turns it, even if the stored one has the same aspect
    lens: Lens | None = None  # distortion of its photo; None = a pinhole

    def of_photo(self, size_hw: tuple[int, int]) -> PosedCamera:
        """The same camera with the size of its photo, where the file does not say any.

        Raises:
            UserError: The photo cannot be the one that the intrinsics are for.
        """
        if self.size_hw is not None:
            return self
        height, width = size_hw
        pinhole = self.intrinsics.copy()
        if self.in_widths:
            pinhole[:2] *= width
            pinhole[:2, 2] = width / 2, height / 2
        centre = pinhole[:2, 2] / (width, height)
        if np.abs(centre - 0.5).max() > 0.5 - _CENTRAL:
            raise UserError(
                f"{shown(self.name)}: the principal point ({pinhole[0, 2]:g}, {pinhole[1, 2]:g}) is not near the middle"
                f" of its photo of {width}x{height} pixels; add the size 'w' and 'h' that the cameras are for"
            )
        return replace(self, intrinsics=pinhole, size_hw=size_hw, in_widths=False)

    def pinhole(self, size_hw: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
        """Intrinsics in pixels of a photo resized to `size_hw`."""
        known = self.of_photo(size_hw)
        assert known.size_hw is not None
        factors = np.array([size_hw[1] / known.size_hw[1], size_hw[0] / known.size_hw[0], 1.0])
        return known.intrinsics * factors[:, None]


@dataclass(frozen=True)
class CameraSet:
    """Content of a camera file: cameras in one world."""

    cameras: tuple[PosedCamera, ...]
    points: PointCloud | None = None  # of the scene, if the file has some
    folder: Path | None = None  # that the photos' names are relative to, if the file says so
    notes: tuple[str, ...] = ()  # for the user


def number(value: Any) -> float:
    """A finite number of a file.

    Raises:
        TypeError: It is a text, a truth value, or anything else that is no number.
        ValueError: It is not finite.
        OverflowError: No float is that large.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{shown(repr(value))} is no number")
    if not math.isfinite(value):
        raise ValueError(f"{value} is not finite")
    return float(value)


def side_px(value: Any) -> int:
    """A height or width of a file; errors as in `number`, or it is not a whole number in [1, `MAX_SIDE_PX`]."""
    side = number(value)
    if side != round(side) or not 1 <= side <= MAX_SIDE_PX:
        raise ValueError(f"{side:g} is no side of a picture, 1 to {MAX_SIDE_PX} pixels")
    return int(side)


def matrix(value: Any, *shapes: tuple[int, int]) -> Float[np.ndarray, "m n"]:
    """Rows of numbers of a file; errors as in `number`, or the shape is not one of `shapes`."""
    rows = np.array([[number(entry) for entry in row] for row in value])
    if rows.shape not in shapes:
        wanted = " or ".join(f"{m}x{n}" for m, n in shapes)
        raise ValueError(f"not a {wanted} matrix")
    return rows


def check_pose(where: str, pose: np.ndarray, tolerance: float = 1e-2) -> Float[np.ndarray, "4 4"]:
    """A rigid motion of 3 or 4 rows without its rounding errors, which may be as large as the tolerance.

    Raises:
        UserError: It is no rigid motion; the line begins with `where`.
    """
    if pose.shape not in ((3, 4), (4, 4)) or not np.isfinite(pose).all():
        raise UserError(f"{where}: its pose is not a 4x4 or 3x4 matrix of finite numbers")
    if np.abs(pose[3:] - np.eye(4)[3 : len(pose)]).max(initial=0) > _LAST_ROW_TOLERANCE:
        raise UserError(f"{where}: the last row of its pose is not 0 0 0 1; give a rotation and a translation")
    rotation = pose[:3, :3]
    wrong = np.abs(rotation).max() > 1 + tolerance or np.abs(rotation @ rotation.T - np.eye(3)).max() > tolerance
    if wrong or np.linalg.det(rotation) < 0:
        raise UserError(f"{where}: its pose is not a rotation and a translation (scaled or mirrored?)")
    if np.abs(pose[:3, 3]).max() > FARTHEST:
        raise UserError(f"{where}: its position is more than {FARTHEST:g} units away; give cameras near the origin")
    left, _, right = np.linalg.svd(rotation)
    exact = np.eye(4)
    exact[:3, :3], exact[:3, 3] = left @ right, pose[:3, 3]
    return exact


def check_pinhole(where: str, intrinsics: np.ndarray, size_hw: tuple[int, int] | None) -> None:
    """Refuse focal lengths and sizes that are not positive and finite, or that no photo has.

    Raises:
        UserError: The line begins with `where`.
    """
    sides, focal = size_hw or (1, 1), (intrinsics[0, 0], intrinsics[1, 1])
    if not np.isfinite(intrinsics).all() or min(*focal, *sides) <= 0:
        raise UserError(f"{where}: focal lengths and sizes must be positive numbers")
    shortest = min(focal[0] / sides[1], focal[1] / sides[0])
    if np.abs(intrinsics).max() > _LONGEST_FOCAL or shortest < _SHORTEST_FOCAL or max(sides) > MAX_SIDE_PX:
        limits = f"focal lengths and centres of at most {_LONGEST_FOCAL:g} pixels, sides of at most {MAX_SIDE_PX}"
        raise UserError(f"{where}: no such camera exists; give {limits}, and a field of view below 180 degrees")


def check_count(where: object, cameras: Sequence[Any]) -> None:
    """Refuse more cameras than `MAX_CAMERAS`."""
    if len(cameras) > MAX_CAMERAS:
        raise UserError(f"{shown(where)}: {len(cameras):,} cameras, more than {MAX_CAMERAS:,}; split the file")


def check_lens(where: str, model: str, coefficients: Mapping[str, float]) -> None:
    """Refuse distortion that is not undone.

    Args:
        where: Begin of the line.
        model: Name of the camera model.
        coefficients: Those that `Lens` has no place for; nearly zero ones are none.

    Raises:
        UserError: A coefficient is not zero.
    """
    bent = next((name for name, value in coefficients.items() if abs(value) > NO_DISTORTION), None)
    if bent is not None:
        lens = f"camera model {shown(model)} has lens distortion {bent} = {coefficients[bent]:g}"
        raise UserError(f"{where}: its {lens}; {_UNDISTORT}")


def other_lens(where: str, model: str) -> UserError:
    """Error about a camera model that `Lens` has no place for."""
    return UserError(f"{where}: its camera model {shown(model)} is not read; {_UNDISTORT}")
