"""What is wrong with the inputs of a rendering call: one ValueError with the value."""

from __future__ import annotations

import torch
from torch import Tensor

from tokengroups.spherical_harmonics import sh_degree


def check_shapes(tensors: dict[str, Tensor], batch: torch.Size, size_hw: tuple[int, int]) -> None:
    """Refuse shapes that do not fit each other, other dtypes than floating point, and mixed devices."""
    means = tensors["means"]
    count, cameras = means.shape[-2], tensors["cam_from_world"].shape[-3]
    if "sh" in tensors:
        colors = (*batch, count, tensors["sh"].shape[-2], 3)
        sh_degree(tensors["sh"].shape[-2])
    else:
        per_camera = (cameras,) if tensors["colors"].ndim == len(batch) + 3 else ()
        colors = (*batch, *per_camera, count, tensors["colors"].shape[-1])
    wanted = {
        "means": (*batch, count, 3), "quats": (*batch, count, 4), "scales": (*batch, count, 3),
        "opacities": (*batch, count), "colors": colors, "sh": colors,
        "cam_from_world": (*batch, cameras, 4, 4), "intrinsics": (*batch, cameras, 3, 3),
    }  # fmt: skip
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name]:
            raise ValueError(f"{name} must have shape {list(wanted[name])}, got {list(tensor.shape)}")
        if not tensor.is_floating_point() or tensor.device != means.device:
            raise ValueError(f"{name} must be floating point on {means.device}, got {tensor.dtype} on {tensor.device}")
    if min(size_hw) < 1:
        raise ValueError(f"size_hw must be at least (1, 1), got {size_hw}")


def check_finite(tensors: dict[str, Tensor]) -> None:
    """Refuse NaN and infinity, naming the input."""
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
    for name, good in zip(tensors, finite, strict=True):
        if not good:
            raise ValueError(f"render: {name} contain NaN or infinite values")


def check_anchors(ids: Tensor | None, features: Tensor | None, batch: torch.Size, count: int) -> None:
    """Refuse anchor features and ids that do not fit each other or the Gaussians."""
    if features is None:
        return
    if ids is None:
        raise ValueError("anchor_features need anchor_ids")
    if ids.device != features.device:
        raise ValueError(f"anchor_ids are on {ids.device}, anchor_features on {features.device}")
    if features.ndim != len(batch) + 2 or features.shape[: len(batch)] != batch:
        raise ValueError(f"anchor_features must have shape {[*batch, 'K', 'F']}, got {list(features.shape)}")
    if ids.dtype != torch.int64 or ids.shape != (count,):
        raise ValueError(f"anchor_ids must be int64 of shape [{count}], got {ids.dtype} {list(ids.shape)}")
    if count and not (0 <= int(ids.min()) and int(ids.max()) < features.shape[-2]):
        raise ValueError(f"anchor_ids must lie in [0, {features.shape[-2]}), got {int(ids.min())}..{int(ids.max())}")
