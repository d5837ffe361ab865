"""Camera lists as JSON: the ``cameras.json`` of 3D Gaussian Splatting, with the exact pinhole added.

Each camera is an object with ``id img_name width height position rotation fx fy`` (position and rows of the rotation
of world_from_cam, as in Kerbl et al. 2023's code) and our ``cx cy cam_from_world``, which other readers ignore.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tokengroups.errors import UserError
from tokengroups.geometry import invert_rigid
from tokengroups.io.files import write_text
from tokengroups.io.posed_cameras import CameraSet, PosedCamera, check_pinhole, check_pose
from tokengroups.reading import read_json
from tokengroups.types import Cameras

_KEYS = ("position", "rotation", "fx", "fy", "width", "height")
_ROTATION_TOLERANCE = 1e-3


def save_cameras(path: str | os.PathLike[str], cameras: Cameras, names: Sequence[str] = ()) -> None:
    """Write cameras with batch axis V; `names` are the photos' names, one per camera."""
    height, width = cameras.size_hw
    cameras = cameras.detach().to("cpu", torch.float64)
    entries = []
    for index, (pose, k) in enumerate(zip(cameras.cam_from_world, cameras.intrinsics, strict=True)):
        world_from_cam = invert_rigid(pose)
        entries.append(
            {
                "id": index,
                "img_name": names[index] if names else f"{index:03d}",
                "width": width,
                "height": height,
                "position": world_from_cam[:3, 3].tolist(),
                "rotation": world_from_cam[:3, :3].tolist(),
                "fx": float(k[0, 0]),
                "fy": float(k[1, 1]),
                "cx": float(k[0, 2]),
                "cy": float(k[1, 2]),
                "cam_from_world": pose.tolist(),
            }
        )
    write_text(path, json.dumps(entries, indent=1) + "\n")


def load_cameras(path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Cameras:
    """Read cameras, batch axis V.

    ``cam_from_world`` takes precedence over ``position`` and ``rotation``. Without ``cx cy`` the principal point is
    the centre of the image.

    Raises:
        UserError: Unreadable, not such a list, cameras of different sizes, or a pose that is no rigid motion.
    """
    return _read(Path(path))[0].to(dtype)


def load_named_cameras(path: str | os.PathLike[str]) -> CameraSet:
    """Read the same cameras with the names of their photos; errors as in `load_cameras`, or if names are missing."""
    cameras, names = _read(Path(path))
    cameras = cameras.to(torch.float32)
    if not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{path}: a camera has no img_name, the name of its photo")
    poses, pinholes = cameras.cam_from_world.double().numpy(), cameras.intrinsics.double().numpy()
    listed = zip(names, poses, pinholes, strict=True)
    return CameraSet(tuple(PosedCamera(name, pose, k, cameras.size_hw) for name, pose, k in listed))


def _read(path: Path) -> tuple[Cameras, list[Any]]:
    """Cameras and the values of ``img_name``."""
    content = read_json(path, f"give a list of cameras with {', '.join(_KEYS)}")
    entries = content.get("cameras") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: expected a list of cameras with {', '.join(_KEYS)}")
    try:
        poses = torch.stack([_pose(entry) for entry in entries])
        pinholes = torch.stack([_pinhole(entry) for entry in entries])
        sizes = {(int(entry["height"]), int(entry["width"])) for entry in entries}
    except KeyError as error:
        raise UserError(f"{path}: a camera lacks {error}; see CONVENTIONS.md for the format") from error
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise UserError(f"{path}: a camera's values have the wrong form ({error!r})") from error
    if len(sizes) > 1:
        raise UserError(f"{path}: cameras of different sizes {sorted(sizes)}; split the file by size")
    size_hw = sizes.pop()
    for index, (pose, pinhole) in enumerate(zip(poses.numpy(), pinholes.numpy(), strict=True)):
        check_pose(f"{path}: camera {index}", pose, _ROTATION_TOLERANCE)
        check_pinhole(f"{path}: camera {index}", pinhole, size_hw)
    return Cameras(poses, pinholes, size_hw), [entry.get("img_name") for entry in entries]


def _pose(entry: dict[str, Any]) -> torch.Tensor:
    if "cam_from_world" in entry:
        return torch.tensor(entry["cam_from_world"], dtype=torch.float64).reshape(4, 4)
    world_from_cam = torch.eye(4, dtype=torch.float64)
    world_from_cam[:3, :3] = torch.tensor(entry["rotation"], dtype=torch.float64)
    world_from_cam[:3, 3] = torch.tensor(entry["position"], dtype=torch.float64)
    return invert_rigid(world_from_cam)


def _pinhole(entry: dict[str, Any]) -> torch.Tensor:
    cx, cy = entry.get("cx", entry["width"] / 2), entry.get("cy", entry["height"] / 2)
    return torch.tensor([[entry["fx"], 0, cx], [0, entry["fy"], cy], [0, 0, 1]], dtype=torch.float64)
