"""The scene file: a `TokenScene` in one safetensors file with JSON metadata.

Metadata (text): ``format`` = "tokengroups.scene"; ``version`` of the layout; ``conventions``, the version of
CONVENTIONS.md; and ``scene``, a JSON object with the cameras' size, the groups' names and the provenance. A scene with
semantics has four tensors more, and ``text_encoder`` in that object.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.scene.validation import find_fault
from tokengroups.types import Cameras, Gaussians, Semantics, TokenScene

FORMAT = "tokengroups.scene"
VERSION = 1
CONVENTIONS_VERSION = 1

_GAUSSIAN_FIELDS = ("means", "quats", "scales", "opacities", "sh")
_SCENE_FIELDS = ("anchor_ids", "anchors", "assignment", "group_ids", "group_tokens")
_CAMERA_FIELDS = ("cam_from_world", "intrinsics")
_SEMANTIC_FIELDS = ("embeddings", "residuals", "projection", "calibration")
_TENSOR_NAMES = frozenset((*_GAUSSIAN_FIELDS, *_SCENE_FIELDS, *_CAMERA_FIELDS))


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
    tensors = {name: getattr(scene.gaussians, name) for name in _GAUSSIAN_FIELDS}
    tensors |= {name: getattr(scene, name) for name in _SCENE_FIELDS}
    tensors |= {name: getattr(scene.cameras, name) for name in _CAMERA_FIELDS}
    if scene.semantics is not None:
        tensors |= {name: getattr(scene.semantics, name) for name in _SEMANTIC_FIELDS}
    fault = find_fault(tensors, scene.cameras.size_hw, scene.group_names)
    if fault:
        raise ValueError(f"inconsistent scene: {fault}")
    content = {
        "size_hw": list(scene.cameras.size_hw),
        "group_names": list(scene.group_names),
        "provenance": scene.provenance,
    }
    if scene.semantics is not None:
        content["text_encoder"] = scene.semantics.encoder
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "conventions": str(CONVENTIONS_VERSION),
        "scene": json.dumps(content),
    }
    write_tensors(Path(path), {name: tensor.cpu() for name, tensor in tensors.items()}, metadata)


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
    content = _read_content(path)
    tensors = read_tensors(path)
    expected = _TENSOR_NAMES | set(_SEMANTIC_FIELDS) if "text_encoder" in content else _TENSOR_NAMES
    if set(tensors) != expected:
        wrong = ", ".join(sorted(set(tensors) ^ expected))
        raise UserError(f"{path}: damaged scene: tensors missing or unexpected ({wrong}); make it again")
    try:
        height, width = (int(side) for side in content["size_hw"])
        names = tuple(str(name) for name in content["group_names"])
        provenance = dict(content["provenance"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged scene metadata ({error!r}); make it again") from error
    fault = find_fault(tensors, (height, width), names)
    if fault:
        raise UserError(f"{path}: damaged scene: {fault}; make it again")
    return TokenScene(
        gaussians=Gaussians(**{name: tensors[name] for name in _GAUSSIAN_FIELDS}),
        **{name: tensors[name] for name in _SCENE_FIELDS},
        cameras=Cameras(tensors["cam_from_world"], tensors["intrinsics"], (height, width)),
        group_names=names,
        provenance=provenance,
        semantics=_semantics(tensors, content),
    )


def _semantics(tensors: dict[str, Tensor], content: dict[str, Any]) -> Semantics | None:
    if "text_encoder" not in content:
        return None
    return Semantics(*(tensors[name] for name in _SEMANTIC_FIELDS), encoder=str(content["text_encoder"]))


def _read_content(path: Path) -> dict[str, Any]:
    """The JSON metadata, after checking that the file is a scene of this version."""
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: a safetensors file, but no token scene; make one with reconstruct or import")
    for what, current in (("version", VERSION), ("conventions", CONVENTIONS_VERSION)):
        _check_version(path, what, metadata.get(what, "none"), current)
    try:
        content = json.loads(metadata["scene"])
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged scene metadata ({error!r}); make it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged scene metadata (no JSON object); make it again")
    return content


def _check_version(path: Path, what: str, found: str, current: int) -> None:
    if found == str(current):
        return
    if found.isdigit() and int(found) > current:
        cure = "made by a newer tokengroups; update yours"
    else:
        cure = "made by an older tokengroups; make it again with reconstruct or import"
    raise UserError(f"{path}: scene file {what} {found}, this release reads {current}: {cure}")
