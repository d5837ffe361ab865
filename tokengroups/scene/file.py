"""Scene file: a `TokenScene` in one safetensors file with JSON metadata; CONVENTIONS.md has the schema."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.scene.validation import find_fault
from tokengroups.types import Cameras, Gaussians, Semantics, TokenScene

_FORMAT = "tokengroups.scene"
_VERSIONS = {"version": 1, "conventions": 1}  # of the file's layout, and of CONVENTIONS.md

_GAUSSIAN_FIELDS = ("means", "quats", "scales", "opacities", "sh")
_SCENE_FIELDS = ("anchor_ids", "anchors", "assignment", "group_ids", "group_tokens")
_CAMERA_FIELDS = ("cam_from_world", "intrinsics")
_SEMANTIC_FIELDS = ("embeddings", "residuals", "projection", "calibration")


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
    content = {
        "size_hw": list(scene.cameras.size_hw),
        "group_names": list(scene.group_names),
        "provenance": scene.provenance,
    }
    parts = [(scene.gaussians, _GAUSSIAN_FIELDS), (scene, _SCENE_FIELDS), (scene.cameras, _CAMERA_FIELDS)]
    if scene.semantics is not None:
        content["text_encoder"] = scene.semantics.encoder
        parts.append((scene.semantics, _SEMANTIC_FIELDS))
    tensors = {name: getattr(part, name).cpu() for part, names in parts for name in names}
    fault = find_fault(tensors, scene.cameras.size_hw, scene.group_names)
    if fault:
        raise ValueError(f"inconsistent scene: {fault}")
    versions = {name: str(version) for name, version in _VERSIONS.items()}
    write_tensors(Path(path), tensors, {"format": _FORMAT, **versions, "scene": json.dumps(content)})


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
    fault = find_fault(tensors, (height, width), group_names)
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
