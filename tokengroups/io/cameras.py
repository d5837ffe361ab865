"""Camera lists as JSON: the ``cameras.json`` of 3D Gaussian Splatting, with the exact pinhole added.

Each camera is an object with ``id img_name width height position rotation fx fy`` (position and rows of the rotation
of world_from_cam, as in Kerbl et al. 2023's code) and our ``cx cy cam_from_world``, which other readers ignore.
``"upright": true`` says that the camera is for the photo as its EXIF tag turns it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tokengroups.errors import UserError
from tokengroups.geometry import invert_rigid
from tokengroups.io.files import write_text
from tokengroups.io.posed_cameras import (
    CameraSet,
    PosedCamera,
    check_count,
    check_pinhole,
    check_pose,
    matrix,
    number,
    side_px,
)
from tokengroups.reading import malformed, read_json, shown
from tokengroups.types import Cameras

_KEYS = ("position", "rotation", "fx", "fy", "width", "height")
_ADVICE = "see CONVENTIONS.md for the format"
_ROTATION_TOLERANCE = 1e-3


def save_cameras(path: str | os.PathLike[str], cameras: Cameras, names: Sequence[str] = ()) -> None:
    """Write cameras with batch axis V; `names` are the photos' names, one per camera."""
    cameras = cameras.detach().to("cpu", torch.float64)
    poses, pinholes = cameras.cam_from_world.numpy(), cameras.intrinsics.numpy()
    names = names or [f"{index:03d}" for index in range(len(poses))]
    parts = zip(names, poses, pinholes, strict=True)
    save_posed_cameras(path, [PosedCamera(name, pose, k, cameras.size_hw) for name, pose, k in parts])


def save_posed_cameras(path: str | os.PathLike[str], cameras: Sequence[PosedCamera]) -> None:
    """Write cameras of photos, which may differ in size."""
    write_text(path, json.dumps([_entry(index, camera) for index, camera in enumerate(cameras)], indent=1) + "\n")


def _entry(index: int, camera: PosedCamera) -> dict[str, Any]:
    assert camera.size_hw is not None, "give cameras whose pictures have a size"
    (height, width), k = camera.size_hw, camera.intrinsics
    world_from_cam = invert_rigid(torch.from_numpy(camera.cam_from_world))
    entry = {
        "id": index,
        "img_name": camera.name,
        "width": width,
        "height": height,
        "position": world_from_cam[:3, 3].tolist(),
        "rotation": world_from_cam[:3, :3].tolist(),
        "fx": float(k[0, 0]),
        "fy": float(k[1, 1]),
        "cx": float(k[0, 2]),
        "cy": float(k[1, 2]),
        "cam_from_world": camera.cam_from_world.tolist(),
    }
    return {**entry, "upright": True} if camera.upright else entry


def load_cameras(path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Cameras:
    """Read cameras, batch axis V.

    ``cam_from_world`` takes precedence over ``position`` and ``rotation``. Without ``cx cy`` the principal point is
    the centre of the image.

    Raises:
        UserError: Unreadable, not such a list, cameras of different sizes, or a pose that is no rigid motion.
    """
    return same_size(path, load_named_cameras(path)).to(dtype)


def load_named_cameras(path: str | os.PathLike[str]) -> CameraSet:
    """Read the same cameras with the names of their photos, "" = none; errors as in `load_cameras`."""
    content = read_json(path, f"give a list of cameras with {', '.join(_KEYS)}")
    entries = content.get("cameras") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{shown(path)}: expected a list of cameras with {', '.join(_KEYS)}")
    check_count(path, entries)
    where = f"{shown(path)}: camera"
    return CameraSet(tuple(parse_camera(f"{where} {index}", entry) for index, entry in enumerate(entries)))


def same_size(path: str | os.PathLike[str], found: CameraSet) -> Cameras:
    """Cameras of one file as a batch, axis V, float64.

    Raises:
        UserError: Their sizes differ, or the file does not say them.
    """
    sizes = sorted({camera.size_hw for camera in found.cameras if camera.size_hw is not None})
    if not all(camera.size_hw for camera in found.cameras):
        raise UserError(f"{shown(path)}: its cameras have no picture size; add 'w' and 'h', in pixels")
    if len(sizes) > 1:
        raise UserError(f"{shown(path)}: cameras of different sizes {shown(sizes)}; split the file by size")
    poses = torch.from_numpy(np.stack([camera.cam_from_world for camera in found.cameras]))
    pinholes = torch.from_numpy(np.stack([camera.intrinsics for camera in found.cameras]))
    return Cameras(poses, pinholes, sizes[0])


def parse_camera(where: str, entry: Any) -> PosedCamera:
    """Read one camera of a JSON list; the line of a `UserError` begins with `where`."""
    with malformed(where, _ADVICE):
        if not isinstance(entry, dict):
            raise TypeError(f"{shown(repr(entry))} is no camera")
        size_hw = side_px(entry["height"]), side_px(entry["width"])
        pose, pinhole, name = _pose(entry), _pinhole(entry, size_hw), entry.get("img_name", "")
    check_pinhole(where, pinhole, size_hw)
    check_pose(where, pose, _ROTATION_TOLERANCE)
    cam_from_world = np.eye(4)
    cam_from_world[:3] = pose[:3]  # every bit: what `save_cameras` wrote comes back
    name = name if isinstance(name, str) else ""
    return PosedCamera(name, cam_from_world, pinhole, size_hw, upright=entry.get("upright") is True)


def _pose(entry: dict[str, Any]) -> np.ndarray:
    if "cam_from_world" in entry:
        return matrix(entry["cam_from_world"], (4, 4), (3, 4))
    rotation, position = matrix(entry["rotation"], (3, 3)), matrix([entry["position"]], (1, 3))[0]
    return np.concatenate([rotation.T, -rotation.T @ position[:, None]], axis=1)


def _pinhole(entry: dict[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    fx, fy = number(entry["fx"]), number(entry["fy"])
    cx, cy = number(entry.get("cx", size_hw[1] / 2)), number(entry.get("cy", size_hw[0] / 2))
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
