"""Writer of glTF 2.0 (GLB) with the extension KHR_gaussian_splatting: one node per group.

Programs without the extension show the Gaussians as points of their colours. Axes are glTF's: y up, and the first
camera looks along -z. Extension: Khronos, ratified 2025; scales are linear, opacities in [0, 1], quaternions xyzw.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tokengroups.errors import UserError
from tokengroups.gaussians import color_from_sh, half_turn
from tokengroups.io.files import atomic_path
from tokengroups.reading import shown
from tokengroups.types import Gaussians

_EXTENSION = "KHR_gaussian_splatting"
_SPLATS = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
_POINTS, _VERTICES = 0, 34962  # glTF's numbers of the mode and the kind of buffer
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_COMPONENTS = {np.dtype(np.float32): 5126, np.dtype(np.uint8): 5121}
_LARGEST = 2**32 - 2**16  # bytes of the binary part
_XYZW = [1, 2, 3, 0]


@dataclass(frozen=True)
class GroupPart:
    """A group in a file: consecutive Gaussians."""

    id: int
    name: str
    count: int


def save_glb(path: str | os.PathLike[str], gaussians: Gaussians, parts: Sequence[GroupPart] = ()) -> None:
    """Write unbatched Gaussians, atomically; without `parts` they are one node.

    Raises:
        UserError: More than 4 GB.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import tokengroups as tg
        >>> from tokengroups.io.glb import save_glb
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_glb(Path(folder) / "scene.glb", tg.example_scene().gaussians)
        ...     (Path(folder) / "scene.glb").read_bytes()[:4]
        b'glTF'
    """
    parts = parts or [GroupPart(0, "splats", len(gaussians.means))]
    columns = _columns(half_turn(gaussians.detach().to("cpu", torch.float32)))
    document, size = _document(columns, [part for part in parts if part.count])
    if size > _LARGEST:
        raise UserError(f"{shown(path)}: {size / 1e9:.1f} GB are too much for one GLB; write a PLY, or fewer Gaussians")
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + size))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", size, b"BIN\0"))
        for values in columns.values():
            file.write(values.data)


def _columns(gaussians: Gaussians) -> dict[str, np.ndarray]:
    """Attributes of all Gaussians by glTF's names, each contiguous."""
    colors = torch.cat([color_from_sh(gaussians.sh), gaussians.opacities[:, None]], dim=1)
    values = {
        "POSITION": gaussians.means,
        "COLOR_0": (255 * colors).round().byte(),
        f"{_EXTENSION}:ROTATION": torch.nn.functional.normalize(gaussians.quats, dim=1)[:, _XYZW],
        f"{_EXTENSION}:SCALE": gaussians.scales,
        f"{_EXTENSION}:OPACITY": gaussians.opacities[:, None],
    }
    for index in range(gaussians.sh.shape[1]):
        degree = int(index**0.5)
        values[f"{_EXTENSION}:SH_DEGREE_{degree}_COEF_{index - degree**2}"] = gaussians.sh[:, index]
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in values.items()}


def _document(columns: dict[str, np.ndarray], parts: Sequence[GroupPart]) -> tuple[dict[str, Any], int]:
    """The JSON part, and the bytes of the binary one: a view per attribute, an accessor per attribute and group."""
    views, accessors, meshes, nodes, size, first = [], [], [], [], 0, 0
    for values in columns.values():
        views.append({"buffer": 0, "byteOffset": size, "byteLength": values.nbytes, "target": _VERTICES})
        size += values.nbytes
    for part in parts:
        attributes = {}
        for view, (name, values) in enumerate(columns.items()):
            attributes[name] = len(accessors)
            accessors.append(_accessor(view, name, values[first : first + part.count], first))
        primitive = {"attributes": attributes, "mode": _POINTS, "extensions": {_EXTENSION: _SPLATS}}
        nodes.append({"name": part.name, "mesh": len(meshes), "extras": {"group_id": part.id}})
        meshes.append({"name": part.name, "primitives": [primitive]})
        first += part.count
    document = {
        "asset": {"version": "2.0", "generator": "tokengroups"},
        "extensionsUsed": [_EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": meshes,
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": size}],
    }
    return document, size


def _accessor(view: int, name: str, values: np.ndarray, first: int) -> dict[str, Any]:
    accessor: dict[str, Any] = {
        "bufferView": view,
        "byteOffset": first * values.itemsize * values.shape[1],
        "componentType": _COMPONENTS[values.dtype],
        "count": len(values),
        "type": _TYPES[values.shape[1]],
    }
    if values.dtype == np.uint8:
        accessor["normalized"] = True
    if name == "POSITION":
        accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
    return accessor
