"""Scene file: a `TokenScene` in one safetensors file with JSON metadata; CONVENTIONS.md has the schema."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.io.files import SPLATS
from tokengroups.reading import malformed, path_kind, shown
from tokengroups.scene.consistency import (
    CAMERA_FIELDS,
    GAUSSIAN_FIELDS,
    GROUP_SCORES,
    SCENE_FIELDS,
    SEMANTIC_FIELDS,
    SceneContent,
    find_fault,
    scene_fault,
    scene_tensors,
    whole_number,
)
from tokengroups.types import Cameras, Gaussians, Semantics, TokenScene

FORMAT = "tokengroups.scene"  # in the metadata
_VERSIONS = {"version": 1, "conventions": 1}  # of the file's layout, and of CONVENTIONS.md

_ADVICE = "make it again"


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
    if fault:
        raise ValueError(f"inconsistent scene: {fault}")
    content = {
        "size_hw": list(scene.cameras.size_hw),
        "group_names": list(scene.group_names),
        "provenance": scene.provenance,
    }
    if scene.semantics is not None:
        content["text_encoder"] = scene.semantics.encoder
    versions = {name: str(version) for name, version in _VERSIONS.items()}
    metadata = {"format": FORMAT, **versions, "scene": json.dumps(content)}
    write_tensors(Path(path), scene_tensors(scene), metadata)


def load_scene(path: str | os.PathLike[str]) -> TokenScene:
    """Read and check a scene; on the CPU, in memory of its own: the file may change afterwards.

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
    with malformed(f"{path}: damaged scene metadata", _ADVICE):
        content = _parse(metadata["scene"])
    tensors = {name: tensor.clone() for name, tensor in read_tensors(path).items()}
    semantic = SEMANTIC_FIELDS if content.text_encoder is not None else ()
    expected = {*GAUSSIAN_FIELDS, *SCENE_FIELDS, *CAMERA_FIELDS, *semantic, *({GROUP_SCORES} & set(tensors))}
    if set(tensors) != expected:
        wrong = shown(", ".join(sorted(set(tensors) ^ expected)))
        raise UserError(f"{shown(path)}: damaged scene: tensors missing or unexpected ({wrong}); {_ADVICE}")
    fault = find_fault(tensors, content)
    if fault:
        raise UserError(f"{shown(path)}: damaged scene: {shown(fault)}; {_ADVICE}")
    semantics = None
    if content.text_encoder is not None:
        semantics = Semantics(**{name: tensors[name] for name in SEMANTIC_FIELDS}, encoder=content.text_encoder)
    return TokenScene(
        gaussians=Gaussians(**{name: tensors[name] for name in GAUSSIAN_FIELDS}),
        **{name: tensors[name] for name in SCENE_FIELDS},
        cameras=Cameras(tensors["cam_from_world"], tensors["intrinsics"], content.size_hw),
        group_names=content.group_names,
        provenance=content.provenance,
        semantics=semantics,
        group_scores=tensors.get(GROUP_SCORES),
    )


def _read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata and check that the file is a scene of this version."""
    try:
        metadata = read_metadata(path)
    except UserError:
        if path_kind(path) == "file" and path.suffix.lower() in SPLATS:
            raise UserError(f"{shown(path)}: no scene file; make one of it with `tokengroups import`") from None
        raise
    if metadata.get("format") != FORMAT:
        raise UserError(f"{shown(path)}: a safetensors file, but no token scene; make one with reconstruct or import")
    for name, version in _VERSIONS.items():
        found = metadata.get(name, "none")
        if found == str(version):
            continue
        cure = "made by an older tokengroups; make it again with reconstruct or import"
        if re.fullmatch(r"[0-9]{1,9}", found) and int(found) > version:
            cure = "made by a newer tokengroups; update yours"
        elif not re.fullmatch(r"[0-9]{1,9}", found):
            cure = f"no version at all; {_ADVICE}"
        raise UserError(f"{shown(path)}: scene file {name} {shown(found)}, this release reads {version}: {cure}")
    return metadata


def _parse(text: str) -> SceneContent:
    """Take the metadata's JSON object apart; errors of Python's kinds for values of the wrong kind."""
    content = json.loads(text)
    height, width = (whole_number(side, 0, 2**31) for side in content["size_hw"])
    names, provenance, encoder = content["group_names"], content["provenance"], content.get("text_encoder")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError("group_names is no list of texts")
    if not isinstance(provenance, dict):
        raise TypeError("provenance is no object")
    if encoder is not None and not isinstance(encoder, str):
        raise TypeError("text_encoder is no text")
    return SceneContent((height, width), tuple(names), provenance, encoder)
