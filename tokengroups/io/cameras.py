"""Camera lists as JSON: the ``cameras.json`` of 3D Gaussian Splatting, with the exact pinhole added.

One object per camera: ``id img_name width height position rotation fx fy`` (world_from_cam: position and rows
of the rotation, as in Kerbl et al. 2023's code) and our ``cx cy cam_from_world``, which readers of the former
ignore.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokengroups.errors import UserError
from tokengroups.geometry import invert_rigid
from tokengroups.io.files import read_json, write_text
from tokengroups.io.posed_cameras import CameraSet, PosedCamera
from tokengroups.types import Cameras

_KEYS = ("position", "rotation", "fx", "fy", "width", "height")
_ORTHONORMAL_TOLERANCE = 1e-3


def save_cameras(path: str | os.PathLike[str], cameras: Cameras, names: Sequence[str] = ()) -> None:
    """Write cameras with batch axis V; `names` are the photos' names, one per camera."""
    height, width = cameras.size_hw
    entries = []
    for index, (pose, pinhole) in enumerate(zip(cameras.cam_from_world, cameras.intrinsics, strict=True)):
        world_from_cam = invert_rigid(pose.detach().double().cpu())
        k = pinhole.detach().double().cpu()
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
                "cam_from_world": pose.detach().double().cpu().tolist(),
            }
        )
    write_text(path, json.dumps(entries, indent=1) + "\n")


def load_cameras(path: str | os.PathLike[str]) -> Cameras:
    """Read cameras, batch axis V, float32.

    ``cam_from_world`` counts where given, else ``position`` and ``rotation``; without ``cx cy`` the centre of
    the image.

    Raises:
        UserError: Unreadable, not such a list, cameras of different sizes, or a pose that is no rigid motion.
    """
    path = Path(path)
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
    _check(path, poses, pinholes, size_hw)
    return Cameras(poses.float(), pinholes.float(), size_hw)


def load_named_cameras(path: str | os.PathLike[str]) -> CameraSet:
    """The same cameras with the names of their photos; errors as in `load_cameras`, or if names are missing."""
    cameras = load_cameras(path)
    content = read_json(path, "give a list of cameras")
    entries = content["cameras"] if isinstance(content, dict) else content
    names = [entry.get("img_name") for entry in entries]
    if not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{path}: a camera has no img_name, the name of its photo")
    poses, pinholes = cameras.cam_from_world.double().numpy(), cameras.intrinsics.double().numpy()
    listed = zip(names, poses, pinholes, strict=True)
    return CameraSet(tuple(PosedCamera(name, pose, k, cameras.size_hw) for name, pose, k in listed))


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


def _check(path: Path, poses: torch.Tensor, pinholes: torch.Tensor, size_hw: tuple[int, int]) -> None:
    rotations = poses[:, :3, :3]
    deviation = (rotations @ rotations.transpose(-1, -2) - torch.eye(3)).abs().amax(dim=(1, 2))
    mirrored = torch.linalg.det(rotations) < 0
    bad = np.flatnonzero(~(deviation < _ORTHONORMAL_TOLERANCE) | mirrored | ~poses.isfinite().all(dim=(1, 2)))
    if len(bad):
        raise UserError(f"{path}: camera {bad[0]}: its pose is not a rotation and a translation")
    if min(size_hw) < 1 or not bool((pinholes[:, 0, 0] > 0).all() and (pinholes[:, 1, 1] > 0).all()):
        raise UserError(f"{path}: width, height, fx and fy must be positive")
