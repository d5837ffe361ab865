"""Scene file: a `TokenScene` in one safetensors file with JSON metadata; CONVENTIONS.md has the schema."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.types import Cameras, Gaussians, Semantics, TokenScene

_FORMAT = "tokengroups.scene"
_VERSIONS = {"version": 1, "conventions": 1}  # of the file's layout, and of CONVENTIONS.md

_GAUSSIAN_FIELDS = ("means", "quats", "scales", "opacities", "sh")
_SCENE_FIELDS = ("anchor_ids", "anchors", "assignment", "group_ids", "group_tokens")
_CAMERA_FIELDS = ("cam_from_world", "intrinsics")
_SEMANTIC_FIELDS = ("embeddings", "residuals", "projection", "calibration")

_AXES = {
    "anchor_ids": "N", "anchors": "K 3", "group_ids": "L", "cam_from_world": "V 4 4", "intrinsics": "V 3 3",
    "means": "N 3", "quats": "N 4", "scales": "N 3", "opacities": "N", "sh": "N S 3",
    "assignment": "K L", "group_tokens": "L T",
    "embeddings": "L D", "residuals": "K d", "projection": "D d", "calibration": "2",
}  # fmt: skip
_SH_COUNTS = (1, 4, 9, 16)
_TOLERANCE = 1e-3  # of sums of probabilities and of orthonormal rotations, after float32 arithmetic
_INTEGERS = ("anchor_ids", "group_ids")


def save_scene(path: str | os.PathLike[str], scene: TokenScene) -> None:
    """Write a scene atomically; tensors keep their dtype, so that loading gives the same bits.

    Raises:
        UserError: The file cannot be written; an existing one stays as it was.
        ValueError: The scene is inconsistent.

    Example:
        >>> import tempfile
        >>> import tokengroups as tg
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tg.save_scene(f"{folder}/scene.safetensors", tg.example_scene())
        ...     again = tg.load_scene(f"{folder}/scene.safetensors")
        >>> again.group_names
        ('floor', 'box', 'ball')
    """
    fault = scene_fault(scene)
    if fault is not None:
        raise ValueError(f"inconsistent scene: {fault}")
    content = {
        "size_hw": list(scene.cameras.size_hw),
        "group_names": list(scene.group_names),
        "provenance": scene.provenance,
    }
    if scene.semantics is not None:
        content["text_encoder"] = scene.semantics.encoder
    versions = {name: str(version) for name, version in _VERSIONS.items()}
    write_tensors(Path(path), _tensors(scene), {"format": _FORMAT, **versions, "scene": json.dumps(content)})


def load_scene(path: str | os.PathLike[str]) -> TokenScene:
    """Read and check a scene; on the CPU.

    Raises:
        UserError: Missing, truncated, damaged, foreign, or of another version; one line says which.

    Example:
        >>> import tokengroups as tg
        >>> try:
        ...     tg.load_scene("missing.safetensors")
        ... except tg.UserError as error:
        ...     print(error)
        cannot read missing.safetensors: there is no such file
    """
    path = Path(path)
    metadata = _read_metadata(path)
    try:
        content = json.loads(metadata["scene"])
        height, width = (int(side) for side in content["size_hw"])
        group_names = tuple(str(name) for name in content["group_names"])
        provenance, encoder = dict(content["provenance"]), content.get("text_encoder")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged scene metadata ({error!r}); make it again") from error
    tensors = read_tensors(path)
    expected = {*_GAUSSIAN_FIELDS, *_SCENE_FIELDS, *_CAMERA_FIELDS, *(_SEMANTIC_FIELDS if encoder is not None else ())}
    if set(tensors) != expected:
        wrong = ", ".join(sorted(set(tensors) ^ expected))
        raise UserError(f"{path}: damaged scene: tensors missing or unexpected ({wrong}); make it again")
    fault = next(_faults(tensors, (height, width), group_names), None)
    if fault:
        raise UserError(f"{path}: damaged scene: {fault}; make it again")
    semantics = None
    if encoder is not None:
        semantics = Semantics(**{name: tensors[name] for name in _SEMANTIC_FIELDS}, encoder=str(encoder))
    return TokenScene(
        gaussians=Gaussians(**{name: tensors[name] for name in _GAUSSIAN_FIELDS}),
        **{name: tensors[name] for name in _SCENE_FIELDS},
        cameras=Cameras(tensors["cam_from_world"], tensors["intrinsics"], (height, width)),
        group_names=group_names,
        provenance=provenance,
        semantics=semantics,
    )


def scene_fault(scene: TokenScene) -> str | None:
    """Describe why a scene is inconsistent and could not be saved; None if it is consistent."""
    return next(_faults(_tensors(scene), scene.cameras.size_hw, scene.group_names), None)


def _tensors(scene: TokenScene) -> dict[str, Tensor]:
    parts = [(scene.gaussians, _GAUSSIAN_FIELDS), (scene, _SCENE_FIELDS), (scene.cameras, _CAMERA_FIELDS)]
    if scene.semantics is not None:
        parts.append((scene.semantics, _SEMANTIC_FIELDS))
    return {name: getattr(part, name).cpu() for part, names in parts for name in names}


def _read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata and check that the file is a scene of this version."""
    metadata = read_metadata(path)
    if metadata.get("format") != _FORMAT:
        raise UserError(f"{path}: a safetensors file, but no token scene; make one with reconstruct or import")
    for name, version in _VERSIONS.items():
        found = metadata.get(name, "none")
        if found == str(version):
            continue
        cure = "made by an older tokengroups; make it again with reconstruct or import"
        if found.isdigit() and int(found) > version:
            cure = "made by a newer tokengroups; update yours"
        raise UserError(f"{path}: scene file {name} {found}, this release reads {version}: {cure}")
    return metadata


def _faults(tensors: Mapping[str, Tensor], size_hw: tuple[int, int], names: tuple[str, ...]) -> Iterator[str]:
    """Describe what is inconsistent; a later check may rely on the earlier ones."""
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
