"""What makes the tensors of a scene consistent: shapes, dtypes, finite values, ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_SH_COUNTS = (1, 4, 9, 16)
_TOLERANCE = 1e-3  # of sums of probabilities and of orthonormal rotations, after float32 arithmetic
_INTEGERS = ("anchor_ids", "group_ids")


def find_fault(tensors: Mapping[str, Tensor], size_hw: tuple[int, int], group_names: tuple[str, ...]) -> str | None:
    """The first thing that is wrong with a scene's content, in words; None if all is well.

    Args:
        tensors: All fields of a `TokenScene`, its Gaussians, cameras and, where it has them, semantics, by their names.
        size_hw: Size of the cameras' pictures.
        group_names: One per group, or none.
    """
    return next(_faults(tensors, size_hw, group_names), None)


def _faults(tensors: Mapping[str, Tensor], size_hw: tuple[int, int], names: tuple[str, ...]) -> Iterator[str]:
    """Checks from the outside in: a later one may rely on the earlier ones."""
    yield from _shape_faults(tensors)
    yield from _value_faults(tensors)
    yield from _reference_faults(tensors)
    yield from _camera_faults(tensors)
    if len(names) not in (0, len(tensors["group_ids"])):
        yield f"{len(names)} group names for {len(tensors['group_ids'])} groups"
    if min(size_hw) < 1:
        yield "pictures without a positive size"


def _shape_faults(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    n, k, num_groups = (_length(tensors[name]) for name in ("anchor_ids", "anchors", "group_ids"))
    views, (coefficients, width) = _length(tensors["cam_from_world"]), _widths(tensors)
    shapes = {
        "means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,), "sh": (n, coefficients, 3),
        "anchor_ids": (n,), "anchors": (k, 3), "assignment": (k, num_groups), "group_ids": (num_groups,),
        "group_tokens": (num_groups, width), "cam_from_world": (views, 4, 4), "intrinsics": (views, 3, 3),
    }  # fmt: skip
    if "embeddings" in tensors:
        channels, rank = _width(tensors["embeddings"]), _width(tensors["residuals"])
        shapes |= {
            "embeddings": (num_groups, channels),
            "residuals": (k, rank),
            "projection": (channels, rank),
            "calibration": (2,),
        }
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            yield f"{name} has shape {list(tensor.shape)}, the other tensors ask for {list(shape)}"
        if (tensor.dtype != torch.int64) if name in _INTEGERS else not tensor.is_floating_point():
            yield f"{name} has dtype {tensor.dtype}"
        if not bool(tensor.isfinite().all()):
            yield f"{name} holds NaN or infinite values"
    if coefficients not in _SH_COUNTS:
        yield f"sh has {coefficients} coefficients instead of one of {_SH_COUNTS}"
    if min(n, k, num_groups, views) == 0:
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


def _widths(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Numbers of SH coefficients and of token channels; -1 where the tensor has another rank."""
    sh = tensors["sh"]
    return sh.shape[1] if sh.ndim == 3 else -1, _width(tensors["group_tokens"])


def _width(matrix: Tensor) -> int:
    return matrix.shape[1] if matrix.ndim == 2 else -1


def _length(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.ndim else 0
