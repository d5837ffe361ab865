"""Reader of ``transforms.json``, which NeRF, instant-ngp and nerfstudio write.

Poses are world-from-camera with OpenGL axes (y up, z backward). Intrinsics are ``fl_x fl_y cx cy w h``, for all photos
or per frame, or ``camera_angle_x`` with a central principal point. The first pixel's centre is at (0.5, 0.5), as in
COLMAP, where most of these files come from.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tokengroups.errors import UserError
from tokengroups.io.points import load_points
from tokengroups.io.posed_cameras import CameraSet, PosedCamera, check_pinhole, check_pose
from tokengroups.reading import read_json

_DISTORTION = ("k1", "k2", "k3", "k4", "p1", "p2")
_NO_DISTORTION = 1e-4  # of coefficients: well under a tenth of a pixel
_PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_ADVICE = "give a transforms.json of NeRF or nerfstudio"


def load_transforms(path: str | os.PathLike[str]) -> CameraSet:
    """Read the cameras and, where ``ply_file_path`` names one, the point cloud.

    Raises:
        UserError: Unreadable, not such a file, a value that is missing, no number or not finite, or lens distortion.
    """
    path = Path(path)
    content = read_json(path, _ADVICE)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise UserError(f"{path}: no list 'frames' in it; {_ADVICE}")
    cameras = tuple(_camera(f"{path}: frame {i}", content, frame) for i, frame in enumerate(frames))
    cloud = content.get("ply_file_path")
    points = None
    if isinstance(cloud, str) and (path.parent / cloud).is_file():
        points = load_points(path.parent / cloud)
    return CameraSet(cameras, points, path.parent)


def _camera(where: str, content: dict[str, Any], frame: Any) -> PosedCamera:
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
        raise UserError(f"{where}: no 'file_path'; {_ADVICE}")
    where = f"{where} ({frame['file_path']})"
    values = {**content, **frame}
    model = values.get("camera_model", "PINHOLE")
    if model not in _PINHOLES:
        raise UserError(f"{where}: camera model {model}; only pinhole photos work: undistort them first")
    try:
        world_from_cam = np.array(frame["transform_matrix"], dtype=np.float64)
        bent = [key for key in _DISTORTION if abs(float(values.get(key) or 0)) > _NO_DISTORTION]
        intrinsics, size_hw = _intrinsics(values)
    except KeyError as error:
        raise UserError(f"{where}: {error} is missing; {_ADVICE}") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: a value has the wrong form ({error}); {_ADVICE}") from error
    if bent:
        lens = f"lens distortion {bent[0]} = {values[bent[0]]:g}"
        raise UserError(f"{where}: {lens}; undistort the photos first, e.g. with colmap image_undistorter")
    check_pinhole(where, intrinsics, size_hw)
    pose = check_pose(where, world_from_cam)
    return PosedCamera(frame["file_path"], np.linalg.inv(pose @ _OPENCV_FROM_OPENGL), intrinsics, size_hw)


def _intrinsics(values: Mapping[str, Any]) -> tuple[np.ndarray, tuple[int, int] | None]:
    """Intrinsics and their image's size; without ``w h``, intrinsics in widths of the photo and None."""
    if "w" not in values or "h" not in values:
        if "camera_angle_x" not in values:
            raise KeyError("w" if "w" not in values else "h")
        focal = 0.5 / math.tan(float(values["camera_angle_x"]) / 2)
        return np.diag([focal, focal, 1.0]), None
    width, height = int(values["w"]), int(values["h"])
    fx = _focal(values, "x", width)
    fy = _focal(values, "y", height) if "fl_y" in values or "camera_angle_y" in values else fx
    cx, cy = float(values.get("cx", width / 2)), float(values.get("cy", height / 2))
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), (height, width)


def _focal(values: Mapping[str, Any], axis: str, side: int) -> float:
    if f"fl_{axis}" in values or f"camera_angle_{axis}" not in values:
        return float(values[f"fl_{axis}"])
    return 0.5 * side / math.tan(float(values[f"camera_angle_{axis}"]) / 2)
