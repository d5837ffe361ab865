"""What a consistent scene is: the one set of rules for scenes that are saved, loaded and imported."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tokengroups.gaussians import LARGEST, faults
from tokengroups.types import Gaussians, TokenScene

MAX_GROUP_ID = 2**31 - 2  # id + 1 fits into 32 bits in pictures and other programs
MAX_SIDE_PX = 16384  # of the context views
MAX_PIXELS = 2**23  # of one of them: 4K; more would take gigabytes to render

GAUSSIAN_FIELDS = ("means", "quats", "scales", "opacities", "sh")
SCENE_FIELDS = ("anchor_ids", "anchors", "assignment", "group_ids", "group_tokens")
CAMERA_FIELDS = ("cam_from_world", "intrinsics")
GROUP_SCORES = "group_scores"  # of scenes that have some
SEMANTIC_FIELDS = ("embeddings", "residuals", "projection", "calibration")

_AXES = {
    "anchor_ids": "N", "anchors": "K 3", "group_ids": "L", "cam_from_world": "V 4 4", "intrinsics": "V 3 3",
    "means": "N 3", "quats": "N 4", "scales": "N 3", "opacities": "N", "sh": "N S 3",
    "assignment": "K L", "group_tokens": "L T", "group_scores": "L",
    "embeddings": "L D", "residuals": "K d", "projection": "D d", "calibration": "2",
}  # fmt: skip
_SH_COUNTS = (1, 4, 9, 16)
_TOLERANCE = 1e-3  # of sums of probabilities and of orthonormal rotations, after float32 arithmetic
_UNIT_TOLERANCE = 1e-2  # of the lengths of embeddings
_INTEGERS = ("anchor_ids", "group_ids")
_FLOATS = (torch.float32, torch.float64, torch.float16)  # those that NumPy has as well
_FOCAL_LIMITS_PX = (1e-3, 1e7)
_ROWS_AT_ONCE = 4096  # of the assignment, the largest tensor of a scene with thousands of groups
_DEEPEST = 400  # levels of the provenance: Python's JSON reads and writes hardly a thousand


@dataclass(frozen=True)
class SceneContent:
    """What a scene holds beside tensors."""

    size_hw: tuple[int, int]
    group_names: tuple[str, ...]
    provenance: dict[str, Any]
    text_encoder: str | None  # None = no semantics


def scene_tensors(scene: TokenScene) -> dict[str, Tensor]:
    """All tensors of a scene by their names in its file, on the CPU."""
    parts = [(scene.gaussians, GAUSSIAN_FIELDS), (scene, SCENE_FIELDS), (scene.cameras, CAMERA_FIELDS)]
    if scene.semantics is not None:
        parts.append((scene.semantics, SEMANTIC_FIELDS))
    if scene.group_scores is not None:
        parts.append((scene, (GROUP_SCORES,)))
    return {name: getattr(part, name).cpu() for part, names in parts for name in names}


def scene_content(scene: TokenScene) -> SceneContent:
    """What a scene holds beside tensors."""
    encoder = scene.semantics.encoder if scene.semantics is not None else None
    return SceneContent(scene.cameras.size_hw, scene.group_names, scene.provenance, encoder)


def scene_fault(scene: TokenScene) -> str | None:
    """Describe why a scene is inconsistent and could not be saved; None if it is consistent.

    Example:
        >>> from dataclasses import replace
        >>> import tokengroups as tg
        >>> from tokengroups.scene.consistency import scene_fault
        >>> scene = tg.example_scene()
        >>> scene_fault(scene)
        >>> scene_fault(replace(scene, group_names=("floor",)))
        '1 group names for 3 groups'
    """
    return find_fault(scene_tensors(scene), scene_content(scene))


def find_fault(tensors: Mapping[str, Tensor], content: SceneContent) -> str | None:
    """The first fault of a scene's tensors and other content, in the terms of its file; None if there is none."""
    return next(_faults(tensors, content), None)


def whole_number(value: Any, low: int, high: int) -> int:
    """A whole number of foreign content within limits; ValueError for all else, texts and truth values included."""
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high and value == int(value):
        return int(value)
    raise ValueError(f"{value!r} is no whole number from {low} to {high}")


def _faults(tensors: Mapping[str, Tensor], content: SceneContent) -> Iterator[str]:
    """Describe what is inconsistent; a later check may rely on the earlier ones."""
    yield from _shape_faults(tensors)
    yield from _value_faults(tensors)
    yield from _reference_faults(tensors)
    yield from _camera_faults(tensors)
    yield from _content_faults(content, len(tensors["group_ids"]))


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
        if (tensor.dtype != torch.int64) if name in _INTEGERS else tensor.dtype not in _FLOATS:
            yield f"{name} has dtype {tensor.dtype}"
        if name not in _INTEGERS and tensor.numel() and not _within(tensor, LARGEST):
            yield f"{name} holds NaN, infinite values or values beyond {LARGEST:.0e}"
    if sizes["S"] not in _SH_COUNTS:
        yield f"sh has {sizes['S']} coefficients instead of one of {_SH_COUNTS}"
    if min(sizes[axis] for axis in "NKLV") == 0:
        yield "it has no Gaussian, anchor, group or camera"


def _value_faults(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    gaussians = Gaussians(**{name: tensors[name] for name in GAUSSIAN_FIELDS})
    yield from (what for what, mask in faults(gaussians).items() if bool(mask.any()))
    rows = (some.double() for some in tensors["assignment"].split(_ROWS_AT_ONCE))
    if any(bool((some < 0).any() or ((some.sum(dim=1) - 1).abs() > _TOLERANCE).any()) for some in rows):
        yield "an anchor's group probabilities do not sum to 1"
    if GROUP_SCORES in tensors and bool((tensors[GROUP_SCORES] < 0).any()):
        yield "a negative score of a group"
    if "embeddings" in tensors:
        lengths = tensors["embeddings"].double().norm(dim=1)
        if not tensors["embeddings"].shape[1] or bool(((lengths > 0) & ((lengths - 1).abs() > _UNIT_TOLERANCE)).any()):
            yield "an embedding whose length is neither 0 nor 1"


def _reference_faults(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    num_anchors, anchor_ids, ids = len(tensors["anchors"]), tensors["anchor_ids"], tensors["group_ids"]
    if bool(((anchor_ids < 0) | (anchor_ids >= num_anchors)).any()):
        yield f"anchor_ids outside [0, {num_anchors})"
    if bool((ids < 0).any()) or len(ids.unique()) != len(ids):
        yield "group ids that are negative or not unique"
    if bool((ids > MAX_GROUP_ID).any()):
        yield f"group ids beyond {MAX_GROUP_ID}"
    owners = torch.bincount(tensors["assignment"].argmax(dim=1)[anchor_ids], minlength=len(ids))
    if bool((owners == 0).any()):
        yield f"group {int(ids[owners == 0][0])} owns no Gaussian"


def _camera_faults(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    poses, pinholes = tensors["cam_from_world"].double(), tensors["intrinsics"].double()
    rotations = poses[:, :3, :3]
    deviation = (rotations @ rotations.transpose(-1, -2) - torch.eye(3).to(rotations)).abs()
    bottom = (poses[:, 3] - poses.new_tensor([0, 0, 0, 1])).abs()
    if bool((deviation > _TOLERANCE).any() or (bottom > _TOLERANCE).any() or (torch.linalg.det(rotations) < 0).any()):
        yield "a camera pose that is no rotation and translation"
    low, high = _FOCAL_LIMITS_PX
    focal = pinholes[:, [0, 1], [0, 1]]
    if not bool((focal > 0).all()):
        yield "a camera without positive focal lengths"
    if not bool(((focal >= low) & (focal <= high)).all()):
        yield f"a camera whose focal length is not within {low:g} to {high:.0e} pixels"


def _content_faults(content: SceneContent, num_groups: int) -> Iterator[str]:
    (height, width), names, encoder = content.size_hw, content.group_names, content.text_encoder
    if len(names) not in (0, num_groups):
        yield f"{len(names)} group names for {num_groups} groups"
    if encoder is not None and not (encoder and encoder.isprintable()):
        yield f"the name {encoder!r} of a text encoder"
    if min(height, width) < 1:
        yield "pictures without a positive size"
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_PIXELS:
        yield f"pictures of {width}x{height}, beyond {MAX_PIXELS:,} pixels or {MAX_SIDE_PX:,} a side"
    if not isinstance(content.provenance.get("edits", []), list):
        yield "a provenance whose edits are no list"
    if _deeper(content.provenance, _DEEPEST):
        yield f"a provenance nested deeper than {_DEEPEST} levels"
    try:
        json.dumps(content.provenance)
    except (TypeError, ValueError) as error:
        yield f"a provenance that JSON cannot hold ({error})"


def _deeper(content: Any, levels: int) -> bool:
    """Tell whether lists and objects are nested deeper than some levels."""
    level = [content]
    for _ in range(levels):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [value for values in inner for value in values]
    return bool(level)


def _within(tensor: Tensor, limit: float) -> bool:
    """All values are finite and at most `limit` in size."""
    low, high = torch.aminmax(tensor)
    return bool(low >= -limit) and bool(high <= limit)
