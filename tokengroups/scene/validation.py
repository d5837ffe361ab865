"""What makes a `TokenScene` consistent: shapes, dtypes, finite values, ranges."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tokengroups.types import TokenScene

_SH_COUNTS = (1, 4, 9, 16)
_TOLERANCE = 1e-3  # of sums of probabilities and of orthonormal rotations, after float32 arithmetic


def find_fault(scene: TokenScene) -> str | None:
    """The first thing that is wrong with a scene, in words; None if all is well."""
    return next(_faults(scene), None)


def _faults(scene: TokenScene) -> Iterator[str]:
    """Checks from the outside in: a later one may rely on the earlier ones."""
    yield from _shape_faults(scene)
    yield from _value_faults(scene)
    yield from _reference_faults(scene)
    yield from _camera_faults(scene)


def _shape_faults(scene: TokenScene) -> Iterator[str]:
    splats, cameras = scene.gaussians, scene.cameras
    n, k, num_groups = _length(scene.anchor_ids), _length(scene.anchors), _length(scene.group_ids)
    coefficients = splats.sh.shape[1] if splats.sh.ndim == 3 else 0
    width = scene.group_tokens.shape[1] if scene.group_tokens.ndim == 2 else -1
    views = _length(cameras.cam_from_world)
    expected: list[tuple[str, Tensor, tuple[int, ...], bool]] = [  # name, tensor, shape, integer?
        ("means", splats.means, (n, 3), False),
        ("quats", splats.quats, (n, 4), False),
        ("scales", splats.scales, (n, 3), False),
        ("opacities", splats.opacities, (n,), False),
        ("sh", splats.sh, (n, coefficients, 3), False),
        ("anchor_ids", scene.anchor_ids, (n,), True),
        ("anchors", scene.anchors, (k, 3), False),
        ("assignment", scene.assignment, (k, num_groups), False),
        ("group_ids", scene.group_ids, (num_groups,), True),
        ("group_tokens", scene.group_tokens, (num_groups, width), False),
        ("cam_from_world", cameras.cam_from_world, (views, 4, 4), False),
        ("intrinsics", cameras.intrinsics, (views, 3, 3), False),
    ]
    for name, tensor, shape, integer in expected:
        if tuple(tensor.shape) != shape:
            yield f"{name} has shape {list(tensor.shape)}, the other tensors ask for {list(shape)}"
        if integer != (tensor.dtype == torch.int64) or not (integer or tensor.is_floating_point()):
            yield f"{name} has dtype {tensor.dtype}"
        if not integer and not bool(tensor.isfinite().all()):
            yield f"{name} holds NaN or infinite values"
    if coefficients not in _SH_COUNTS:
        yield f"sh has {coefficients} coefficients instead of one of {_SH_COUNTS}"
    if min(n, k, num_groups, views) == 0:
        yield "it has no Gaussian, anchor, group or camera"
    if len(scene.group_names) not in (0, num_groups):
        yield f"{len(scene.group_names)} group names for {num_groups} groups"


def _value_faults(scene: TokenScene) -> Iterator[str]:
    splats = scene.gaussians
    if bool((splats.scales < 0).any()):
        yield "scales below 0"
    if bool(((splats.opacities < 0) | (splats.opacities > 1)).any()):
        yield "opacities outside [0, 1]"
    if bool((splats.quats.norm(dim=1) == 0).any()):
        yield "a quaternion of length 0"
    sums = scene.assignment.sum(dim=1)
    if bool((scene.assignment < 0).any() or ((sums - 1).abs() > _TOLERANCE).any()):
        yield "an anchor's group probabilities do not sum to 1"


def _reference_faults(scene: TokenScene) -> Iterator[str]:
    num_anchors = len(scene.anchors)
    if bool(((scene.anchor_ids < 0) | (scene.anchor_ids >= num_anchors)).any()):
        yield f"anchor_ids outside [0, {num_anchors})"
    ids = scene.group_ids
    if bool((ids < 0).any()) or len(ids.unique()) != len(ids):
        yield "group ids that are negative or not unique"
    owners = torch.bincount(scene.assignment.argmax(dim=1), minlength=len(ids))
    if bool((owners == 0).any()):
        yield f"group {int(ids[owners == 0][0])} owns no anchor"


def _camera_faults(scene: TokenScene) -> Iterator[str]:
    poses, pinholes = scene.cameras.cam_from_world.double(), scene.cameras.intrinsics
    rotations = poses[:, :3, :3]
    products = rotations @ rotations.transpose(-1, -2)
    deviation = (products - torch.eye(3).to(products)).abs()
    if bool((deviation > _TOLERANCE).any() or (torch.linalg.det(rotations) < 0).any()):
        yield "a camera pose that is no rotation"
    if min(scene.cameras.size_hw) < 1 or not bool((pinholes[:, [0, 1], [0, 1]] > 0).all()):
        yield "a camera without positive size and focal lengths"


def _length(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.ndim else 0
