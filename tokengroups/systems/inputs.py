"""Checks of what a user passes to a system; every message ends in the cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.bounds import Between, Settings
from tokengroups.geometry import rigid

_ROUNDING = 1e-3  # of colours, beyond [0, 1]
_SAME_SHAPE = 0.02  # relative difference of the ratio of the sides, from rounding
_BRIGHTEST = 2.0  # colours above it are not in [0, 1] at all


@dataclass(frozen=True)
class TrainingPhotos(Settings):
    """The photos that a system was trained on."""

    size: Annotated[int, Between(1, 4096)]  # longer side in pixels
    square: bool = True  # whether all were


def check_photos(photos: Any, multiple: int, device: torch.device | None) -> Float[Tensor, "V 3 H W"]:
    """Photos as float32, after a check of type, shape, range and device (None = any).

    Raises:
        ValueError: They are no tensor of one scene's photos in [0, 1], their sides are no multiples, or they lie on
            another device.
    """
    photos = _check_tensor("photos", "[V, 3, H, W]", photos, device)
    if problem := _shape_problem(photos, multiple):
        raise ValueError(f"photos must be a tensor [V, 3, H, W], got {list(photos.shape)}; {problem}")
    if not photos.is_floating_point():
        raise ValueError(f"photos must be floats in [0, 1], got {photos.dtype}; give photos.float() / 255")
    if not photos.isfinite().all():
        raise ValueError("photos must be finite numbers in [0, 1], got NaN or infinity; look how they were made")
    low, high = (float(value) for value in photos.aminmax())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        cure = "divide them by 255" if high > _BRIGHTEST and low >= 0 else "undo a normalisation, or clamp(0, 1)"
        raise ValueError(f"photos must be in [0, 1], got values from {low:g} to {high:g}; {cure}")
    return photos.float()


def check_intrinsics(intrinsics: Any, photos: Tensor) -> Float[Tensor, "V 3 3"]:
    """Intrinsics as float32, after a check of type, shape, values and device.

    Raises:
        ValueError: They are no tensor of finite pinholes with positive focal lengths, one for each photo, or they lie
            on another device than the photos.
    """
    intrinsics = _check_tensor("intrinsics", "[V, 3, 3]", intrinsics, photos.device)
    if intrinsics.shape != (len(photos), 3, 3):
        cure = f"give one matrix for each of the {len(photos)} photos"
        raise ValueError(f"intrinsics must be a tensor [V, 3, 3], got {list(intrinsics.shape)}; {cure}")
    intrinsics = intrinsics.float()
    last_row = intrinsics.new_tensor([0.0, 0.0, 1.0])
    focal = intrinsics[:, [0, 1], [0, 1]]
    if not (intrinsics.isfinite().all() and (focal > 0).all() and (intrinsics[:, 2] == last_row).all()):
        raise ValueError(
            "intrinsics must be finite pinholes with positive focal lengths; "
            "give [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels of the photos"
        )
    return intrinsics


def check_poses(cam_from_world: Any, photos: Tensor, intrinsics: Tensor | None) -> Float[Tensor, "V 4 4"]:
    """Poses as float64, after a check of type, shape, values and device, and that intrinsics are given.

    Raises:
        ValueError: They are no tensor of rigid motions, one for each photo, or there are no intrinsics.
    """
    poses = _check_tensor("cam_from_world", "[V, 4, 4]", cam_from_world, photos.device)
    if poses.shape != (len(photos), 4, 4) or not poses.is_floating_point():
        cure = f"give one matrix for each of the {len(photos)} photos"
        raise ValueError(f"cam_from_world must be a tensor [V, 4, 4], got {list(poses.shape)}; {cure}")
    if intrinsics is None:
        raise ValueError("cam_from_world needs intrinsics; give those of the photos, too")
    poses = poses.double()
    turned, last_row = poses[:, :3, :3], poses.new_tensor([0.0, 0.0, 0.0, 1.0])
    off = (turned @ turned.mT - torch.eye(3).to(turned)).abs().amax(dim=(1, 2))
    rotations = (off < _ROUNDING) & (torch.linalg.det(turned.nan_to_num()) > 0)
    if not (poses.isfinite().all() and rotations.all() and (poses[:, 3] == last_row).all()):
        raise ValueError(
            "cam_from_world must be rigid motions, rotation and translation over 0 0 0 1; "
            "give world to camera, x right, y down, z forward"
        )
    left, _, right = torch.linalg.svd(turned)
    return rigid(left @ right, poses[:, :3, 3])


def check_full_photos(full_photos: Any, photos: Tensor) -> Float[Tensor, "V 3 F G"]:
    """Photos with more pixels as float32, after a check as for the photos, of which they are.

    Raises:
        ValueError: As in `check_photos`, or they are not as many, smaller, or of another shape.
    """
    full = check_photos(full_photos, 1, photos.device)
    rows, columns = (full.shape[axis] / photos.shape[axis] for axis in (-2, -1))
    if len(full) != len(photos) or min(rows, columns) < 1 or abs(rows / columns - 1) > _SAME_SHAPE:
        raise ValueError(
            f"full_photos must be the photos {list(photos.shape)} with more pixels, got {list(full.shape)}; "
            "give those of load_photos"
        )
    return full


def check_mask(mask: Any, photos: Tensor) -> Bool[Tensor, "V H W"] | None:
    """Mask of the pixels that count, after a check of type, shape and device; None if all do.

    Raises:
        ValueError: It is no such tensor, or leaves a photo without a pixel.
    """
    mask = _check_tensor("mask", "[V, H, W]", mask, photos.device)
    if mask.dtype != torch.bool or mask.shape != (len(photos), *photos.shape[-2:]):
        size = list((len(photos), *photos.shape[-2:]))
        raise ValueError(f"mask must be a boolean tensor {size}, got {mask.dtype} {list(mask.shape)}")
    empty = (~mask.flatten(1).any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"mask leaves nothing of photo {empty[0]}; leave that photo out")
    return None if bool(mask.all()) else mask


def _check_tensor(name: str, shape: str, value: Any, device: torch.device | None) -> Tensor:
    if not isinstance(value, Tensor):
        cure = "give a tensor"
        if isinstance(value, np.ndarray):
            cure = f"give torch.from_numpy({name})"
        elif isinstance(getattr(value, "images", None), Tensor):
            cure = f"give its .images, as in {name}.images"
        raise ValueError(f"{name} must be a tensor {shape}, got {type(value).__name__}; {cure}")
    if device is not None and value.device != device:
        raise ValueError(f"{name} must be on {device}, got {value.device}; give {name}.to('{device}')")
    return value


def _shape_problem(photos: Tensor, multiple: int) -> str:
    """What is wrong with the shape, with the cure; "" = nothing."""
    shape = photos.shape
    if photos.ndim == 3:
        return "one photo needs an axis of views: give photos[None]"
    if photos.ndim == 5:
        return "give one scene at a time, such as photos[0]"
    if photos.ndim != 4:
        return "give the photos of one scene"
    if shape[1] != 3 and shape[3] == 3:
        return "colours come before height and width: give photos.permute(0, 3, 1, 2)"
    if shape[1] != 3:
        return "give three colours, red, green and blue"
    if shape[0] == 0:
        return "give at least one photo"
    if min(shape[2:]) < multiple or any(side % multiple for side in shape[2:]):
        return f"sides must be multiples of {multiple}: resize or crop the photos"
    return ""
