"""``transforms.json``, as NeRF, instant-ngp and nerfstudio write it: reader, and writer of nerfstudio's form.

Poses are world-from-camera with OpenGL axes (y up, z backward). Intrinsics are ``fl_x fl_y cx cy w h``, for all photos
or per frame, or ``camera_angle_x`` with a central principal point. The first pixel's centre is at (0.5, 0.5), as in
COLMAP, where most of these files come from. Distortion is ``k1 k2 k3 k4 p1 p2``, of a fisheye ``k1 k2 k3 k4``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokengroups.errors import UserError
from tokengroups.io.files import write_text
from tokengroups.io.lenses import COEFFICIENTS, Lens, lens_of
from tokengroups.io.points import PointCloud, load_points
from tokengroups.io.posed_cameras import (
    CameraSet,
    PosedCamera,
    check_count,
    check_lens,
    check_pinhole,
    check_pose,
    matrix,
    number,
    other_lens,
    side_px,
)
from tokengroups.reading import malformed, path_kind, read_json, shown

_PINHOLES = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV", "PERSPECTIVE")
_FISHEYES = ("OPENCV_FISHEYE", "RADIAL_FISHEYE", "SIMPLE_RADIAL_FISHEYE")
_LISTED = ("k1", "k2", "k3", "k4", "p1", "p2")  # nerfstudio's order of `distortion_params`
_OTHER_LENSES = ("ftheta_p0", "latlong", "equirectangular", "orthographic")  # instant-ngp's marks
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_ADVICE = "give a transforms.json of NeRF or nerfstudio"


def load_transforms(path: str | os.PathLike[str]) -> CameraSet:
    """Read the cameras and, where ``ply_file_path`` names one, the point cloud.

    Raises:
        UserError: Unreadable, not such a file, a value that is missing, no number or not finite, or a lens that
            is not read.
    """
    path = Path(path)
    content = read_json(path, _ADVICE)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise UserError(f"{shown(path)}: no list 'frames' in it; {_ADVICE}")
    check_count(path, frames)
    cameras = tuple(_camera(f"{shown(path)}: frame {i}", content, frame) for i, frame in enumerate(frames))
    points, notes = _points(path, content.get("ply_file_path"))
    return CameraSet(cameras, points, path.parent, notes)


def save_transforms(path: str | os.PathLike[str], cameras: Sequence[PosedCamera], points: str = "") -> None:
    """Write cameras with intrinsics per frame, atomically; `points` is the path of a PLY in the same world."""
    content: dict[str, Any] = {"camera_model": "PINHOLE"}
    if points:
        content["ply_file_path"] = points
    content["frames"] = [_frame(camera) for camera in cameras]
    write_text(path, json.dumps(content, indent=1) + "\n")


def _frame(camera: PosedCamera) -> dict[str, Any]:
    assert camera.size_hw is not None, "give cameras whose pictures have a size"
    (height, width), k = camera.size_hw, camera.intrinsics
    world_from_cam = np.linalg.inv(camera.cam_from_world) @ _OPENCV_FROM_OPENGL
    focal = {"fl_x": float(k[0, 0]), "fl_y": float(k[1, 1]), "cx": float(k[0, 2]), "cy": float(k[1, 2])}
    frame = {"file_path": camera.name, "w": width, "h": height, **focal}
    return {**frame, "transform_matrix": world_from_cam.tolist()}


def _points(path: Path, name: Any) -> tuple[PointCloud | None, tuple[str, ...]]:
    """The point cloud that the file names, and a note if it is not there."""
    if name is None:
        return None, ()
    if not isinstance(name, str):
        raise UserError(f"{shown(path)}: 'ply_file_path' is no text; {_ADVICE}")
    if path_kind(path.parent / name) == "missing":
        return None, (f"{path.name} names the points {shown(name)}, but there is no such file; fitting without them",)
    return load_points(path.parent / name), ()


def _camera(where: str, content: dict[str, Any], frame: Any) -> PosedCamera:
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
        raise UserError(f"{where}: no 'file_path'; {_ADVICE}")
    where = f"{where} ({shown(frame['file_path'])})"
    with malformed(where, _ADVICE):
        values = {key: value for key, value in {**content, **frame}.items() if value is not None}
        lens = _lens(where, values)
        world_from_cam = matrix(frame["transform_matrix"], (4, 4), (3, 4))
        intrinsics, size_hw, in_widths = _intrinsics(values)
    check_pinhole(where, intrinsics, size_hw)
    cam_from_world = np.linalg.inv(check_pose(where, world_from_cam) @ _OPENCV_FROM_OPENGL)
    return PosedCamera(frame["file_path"], cam_from_world, intrinsics, size_hw, in_widths, lens=lens)


def _lens(where: str, values: Mapping[str, Any]) -> Lens | None:
    """Distortion of the photo; k4 is nerfstudio's, of the eighth power, unless the model is FULL_OPENCV."""
    model = values.get("camera_model", "PINHOLE")
    if model not in (*_PINHOLES, *_FISHEYES):
        raise other_lens(where, str(model))
    mark = values.get("is_fisheye", False)  # instant-ngp's
    if mark not in (False, True):
        raise TypeError(f"is_fisheye {shown(repr(mark))} is neither true nor false")
    fisheye = model in _FISHEYES or bool(mark)
    for mark in _OTHER_LENSES:
        if values.get(mark, False) not in (False, 0):
            raise other_lens(where, mark)
    coefficients = {name: number(values[name]) for name in COEFFICIENTS if name in values}
    listed = [number(value) for value in values.get("distortion_params", [])]  # nerfstudio's other way to write them
    if any(listed) and len(listed) != len(_LISTED):
        raise ValueError(f"distortion_params are {' '.join(_LISTED)}")
    coefficients |= dict(zip(_LISTED, listed, strict=False)) if any(listed) else {}
    rational = model == "FULL_OPENCV"
    foreign = ("k5", "k6", "p1", "p2") if fisheye else () if rational else ("k5", "k6")
    check_lens(where, str(model), {name: coefficients[name] for name in foreign if name in coefficients})
    return lens_of(coefficients, fisheye, rational)


def _intrinsics(values: Mapping[str, Any]) -> tuple[np.ndarray, tuple[int, int] | None, bool]:
    """Intrinsics, their image's size if it is known, and whether they are in widths of the photo."""
    if "w" in values and "h" in values:
        width, height = side_px(values["w"]), side_px(values["h"])
        fx = _focal(values, "x", width)
        fy = _focal(values, "y", height) if "fl_y" in values or "camera_angle_y" in values else fx
        cx, cy = number(values.get("cx", width / 2)), number(values.get("cy", height / 2))
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), (height, width), False
    if {"fl_x", "cx", "cy"} <= set(values):  # in pixels of photos that tell their size
        fx, cx, cy = (number(values[name]) for name in ("fl_x", "cx", "cy"))
        return np.array([[fx, 0, cx], [0, number(values.get("fl_y", fx)), cy], [0, 0, 1]]), None, False
    if "camera_angle_x" not in values:
        raise KeyError("w" if "w" not in values else "h")
    focal = 0.5 / math.tan(number(values["camera_angle_x"]) / 2)
    return np.diag([focal, focal, 1.0]), None, True


def _focal(values: Mapping[str, Any], axis: str, side: int) -> float:
    if f"fl_{axis}" in values or f"camera_angle_{axis}" not in values:
        return number(values[f"fl_{axis}"])
    return 0.5 * side / math.tan(number(values[f"camera_angle_{axis}"]) / 2)
