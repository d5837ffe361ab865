"""Consistency of a scene's tensors: shapes, dtypes, finite values, ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_AXES = {
    "anchor_ids": "N", "anchors": "K 3", "group_ids": "L", "cam_from_world": "V 4 4", "intrinsics": "V 3 3",
    "means": "N 3", "quats": "N 4", "scales": "N 3", "opacities": "N", "sh": "N S 3",
    "assignment": "K L", "group_tokens": "L T",
    "embeddings": "L D", "residuals": "K d", "projection": "D d", "calibration": "2",
}  # fmt: skip
_SH_COUNTS = (1, 4, 9, 16)
_TOLERANCE = 1e-3  # of sums of probabilities and of orthonormal rotations, after float32 arithmetic
_INTEGERS = ("anchor_ids", "group_ids")


def find_fault(tensors: Mapping[str, Tensor], size_hw: tuple[int, int], group_names: tuple[str, ...]) -> str | None:
    """Describe the first inconsistency of a scene's content; None if there is none.

    Args:
        tensors: All fields of a `TokenScene`, its Gaussians, cameras and, where it has them, semantics, by their names.
        size_hw: Size of the cameras' pictures.
        group_names: One per group, or none.
    """
    return next(_faults(tensors, size_hw, group_names), None)


def _faults(tensors: Mapping[str, Tensor], size_hw: tuple[int, int], names: tuple[str, ...]) -> Iterator[str]:
    """Run the checks; a later one may rely on the earlier ones."""
    yield from _shape_faults(tensors)
    yield from _value_faults(tensors)
    yield from _reference_faults(tensors)
    yield from _camera_faults(tensors)
    if len(names) not in (0, len(tensors["group_ids"])):
        yield f"{len(names)} group names for {len(tensors['group_ids'])} groups"
    if min(size_hw) < 1:
        yield "pictures without a positive size"


def _shape_faults(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    sizes: dict[str, int] = {}  # the first tensor with an axis determines its size
    for name, axes in _AXES.items():
        if name not in tensors:
            continue
        tensor = tensors[name]
        shape, names = list(tensor.shape), axes.split()
        padded = zip(names, [*shape, -1, -1, -1], strict=False)
        wanted = [int(axis) if axis.isdigit() else sizes.get(axis, size) for axis, size in padded]
        if shape != wanted:
            yield f"{name} has shape {shape}, the other tensors ask for {wanted}"
        sizes |= zip(names, shape, strict=True)
        if (tensor.dtype != torch.int64) if name in _INTEGERS else not tensor.is_floating_point():
            yield f"{name} has dtype {tensor.dtype}"
        if not bool(tensor.isfinite().all()):
            yield f"{name} holds NaN or infinite values"
    if sizes["S"] not in _SH_COUNTS:
        yield f"sh has {sizes['S']} coefficients instead of one of {_SH_COUNTS}"
    if min(sizes[axis] for axis in "NKLV") == 0:
        yield "it has no Gaussian, anchor, group or camera"


def _value_faults(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    if bool((tensors["scales"] < 0).any()):
        yield "scales below 0"
    if bool(((tensors["opacities"] < 0) | (tensors["opacities"] > 1)).any()):
        yield "opacities outside [0, 1]"
    if bool((tensors["quats"].norm(dim=1) == 0).any()):
        yield "a quaternion of length 0"
    assignment = tensors["assignment"]
    if bool((assignment < 0).any() or ((assignment.sum(dim=1) - 1).abs() > _TOLERANCE).any()):
        yield "an anchor's group probabilities do not sum to 1"


def _reference_faults(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    num_anchors, anchor_ids, ids = len(tensors["anchors"]), tensors["anchor_ids"], tensors["group_ids"]
    if bool(((anchor_ids < 0) | (anchor_ids >= num_anchors)).any()):
        yield f"anchor_ids outside [0, {num_anchors})"
    if bool((ids < 0).any()) or len(ids.unique()) != len(ids):
        yield "group ids that are negative or not unique"
    owners = torch.bincount(tensors["assignment"].argmax(dim=1)[anchor_ids], minlength=len(ids))
    if bool((owners == 0).any()):
        yield f"group {int(ids[owners == 0][0])} owns no Gaussian"


def _camera_faults(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    rotations, pinholes = tensors["cam_from_world"][:, :3, :3].double(), tensors["intrinsics"]
    products = rotations @ rotations.transpose(-1, -2)
    deviation = (products - torch.eye(3).to(products)).abs()
    if bool((deviation > _TOLERANCE).any() or (torch.linalg.det(rotations) < 0).any()):
        yield "a camera pose that is no rotation"
    if not bool((pinholes[:, [0, 1], [0, 1]] > 0).all()):
        yield "a camera without positive focal lengths"
