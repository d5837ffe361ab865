"""3D Gaussian Splatting PLY files (Kerbl et al. 2023) as numpy structured arrays; CONVENTIONS.md has their layout.

`read_vertices` and `write_vertices` keep every bit. The conversions to and from `Gaussians` apply the activations and
their inverses.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import log_from_scale, logit_from_opacity, opacity_from_logit, scale_from_log
from tokengroups.io.files import atomic_path
from tokengroups.types import Gaussians

MEANS = ("x", "y", "z")
_NORMALS = ("nx", "ny", "nz")
COLOR = ("f_dc_0", "f_dc_1", "f_dc_2")
SCALES = ("scale_0", "scale_1", "scale_2")
QUATS = ("rot_0", "rot_1", "rot_2", "rot_3")
_REQUIRED = (*MEANS, *COLOR, "opacity", *SCALES, *QUATS)
_REST_COUNTS = (0, 9, 24, 45)  # properties f_rest_* for SH degree 0, 1, 2, 3

_SCALAR_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
_TYPE_NAMES = {code: name for name, code in reversed(_SCALAR_TYPES.items())}  # the older names first
_FORMATS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_HEADER_LIMIT = 65536


def load_ply(path: str | os.PathLike[str]) -> Gaussians:
    """Read Gaussians, float32, with linear scales and opacities in [0, 1].

    Properties may be in any order, further ones are ignored, normals are optional. The SH degree is 0 to 3.

    Raises:
        UserError: Not readable, not a 3DGS PLY, truncated, or with invalid values (see `valid_vertices`).
    """
    vertices = read_vertices(path)
    num_invalid = int((~valid_vertices(vertices)).sum())
    if num_invalid:
        raise UserError(
            f"{path}: {num_invalid} of {len(vertices)} Gaussians hold NaN, infinite values or a zero quaternion; "
            "import with --drop-invalid to leave them out"
        )
    return gaussians_from_vertices(vertices)


def valid_vertices(vertices: np.ndarray) -> Bool[np.ndarray, " N"]:
    """Mask of the rows that are finite, before and after the activations, and have a non-zero quaternion."""
    quats, scales = _columns(vertices, QUATS), scale_from_log(_columns(vertices, SCALES))
    others = _columns(vertices, (*MEANS, *COLOR, *_rest_names(vertices), "opacity", *SCALES))
    finite = torch.cat([quats, scales, others], dim=1).isfinite().all(dim=1)
    return (finite & (quats.norm(dim=1) > 0)).numpy()


def save_ply(path: str | os.PathLike[str], gaussians: Gaussians) -> None:
    """Write unbatched Gaussians, atomically; every viewer of 3DGS PLY files reads them.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import tokengroups as tg
        >>> from tokengroups.io.ply import load_ply, save_ply
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_ply(Path(folder) / "scene.ply", tg.example_scene().gaussians)
        ...     loaded = load_ply(Path(folder) / "scene.ply")
        >>> loaded.means.shape
        torch.Size([613, 3])
    """
    write_vertices(path, vertices_from_gaussians(gaussians))


def gaussians_from_vertices(vertices: np.ndarray) -> Gaussians:
    """Apply the activations to the raw values of a 3DGS PLY."""
    rest = rearrange(_columns(vertices, _rest_names(vertices)), "n (c s) -> n s c", c=3)
    return Gaussians(
        means=_columns(vertices, MEANS),
        quats=_columns(vertices, QUATS),
        scales=scale_from_log(_columns(vertices, SCALES)),
        opacities=opacity_from_logit(_columns(vertices, ("opacity",))[:, 0]),
        sh=torch.cat([_columns(vertices, COLOR)[:, None], rest], dim=1),
    )


def vertices_from_gaussians(gaussians: Gaussians) -> np.ndarray:
    """Raw values of a 3DGS PLY, in the standard layout; all finite for finite Gaussians."""
    rest = rearrange(gaussians.sh[:, 1:], "n s c -> n (c s)")
    names = (*MEANS, *_NORMALS, *COLOR, *(f"f_rest_{i}" for i in range(rest.shape[1])), "opacity", *SCALES, *QUATS)
    values = torch.cat(
        [
            gaussians.means,
            torch.zeros_like(gaussians.means),
            gaussians.sh[:, 0],
            rest,
            logit_from_opacity(gaussians.opacities)[:, None],
            log_from_scale(gaussians.scales),
            gaussians.quats,
        ],
        dim=1,
    )
    table = np.ascontiguousarray(values.detach().float().cpu().numpy(), dtype="<f4")
    return table.view([(name, "<f4") for name in names])[:, 0]


def read_vertices(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the vertex table of a 3DGS PLY as it stands in the file (binary or ascii).

    Raises:
        UserError: Not readable, not a PLY, not a 3DGS PLY, or truncated.
    """
    return read_table(path, gaussians=True)


def read_table(path: str | os.PathLike[str], *, gaussians: bool = False) -> np.ndarray:
    """Read the vertex table of any PLY whose vertices come first and have no lists; errors as in `read_vertices`."""
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    layout, count, dtype, start = _parse_header(path, data)
    if gaussians:
        _check_properties(path, dtype)
    if layout == "ascii":
        return _parse_ascii(path, data[start:], count, dtype)
    if len(data) - start < count * dtype.itemsize:
        raise _truncated(path, count, (len(data) - start) // dtype.itemsize)
    return np.frombuffer(data, dtype, count, start)


def write_vertices(path: str | os.PathLike[str], vertices: np.ndarray) -> None:
    """Write a vertex table as binary little-endian PLY, atomically."""
    names = vertices.dtype.names or ()
    little = vertices.astype([(name, vertices.dtype[name].newbyteorder("<")) for name in names], copy=False)
    properties = "".join(f"property {_TYPE_NAMES[little.dtype[name].str[1:]]} {name}\n" for name in names)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n{properties}end_header\n"
    with atomic_path(path) as temporary:
        temporary.write_bytes(header.encode("ascii") + little.tobytes())


def _parse_header(path: Path, data: bytes) -> tuple[str, int, np.dtype, int]:
    """Format, number of vertices, their dtype, and where they start."""
    if not data.startswith(b"ply"):
        raise UserError(f"{path}: not a PLY file")
    end = data.find(b"end_header", 0, _HEADER_LIMIT)
    newline = data.find(b"\n", end)
    if end < 0 or newline < 0:
        raise UserError(f"{path}: truncated: the PLY header does not end; get the file again")
    lines = [line.split() for line in data[:end].decode("latin-1").splitlines()]
    try:
        layout = next(line[1] for line in lines if line[:1] == ["format"])
        elements = [(line[1], int(line[2])) for line in lines if line[:1] == ["element"]]
        if "chunk" in dict(elements):
            raise UserError(f"{path}: a compressed PLY; convert it first, e.g. with npx @playcanvas/splat-transform")
        if layout not in _FORMATS or not elements or elements[0][0] != "vertex" or elements[0][1] < 0:
            raise UserError(f"{path}: not a 3DGS PLY: it must begin with an element 'vertex'")
        seen, fields = 0, []
        for line in lines:
            seen += line[:1] == ["element"]
            if line[:1] == ["property"] and seen == 1:
                fields.append((line[2], _FORMATS[layout] + _SCALAR_TYPES[line[1]]))
        dtype = np.dtype(fields)
    except (StopIteration, IndexError, KeyError, ValueError) as error:
        raise UserError(f"{path}: damaged PLY header ({error!r}); get the file again") from error
    return layout, elements[0][1], dtype, newline + 1


def _check_properties(path: Path, dtype: np.dtype) -> None:
    names = dtype.names or ()
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise UserError(f"{path}: not a 3DGS PLY: it lacks the properties {', '.join(missing)}")
    rest = {name for name in names if name.startswith("f_rest_")}
    if len(rest) not in _REST_COUNTS or rest != {f"f_rest_{i}" for i in range(len(rest))}:
        wanted = f"SH degrees 0 to 3 have {_REST_COUNTS}, numbered from 0"
        raise UserError(f"{path}: {len(rest)} properties f_rest_*; {wanted}")


def _parse_ascii(path: Path, data: bytes, count: int, dtype: np.dtype) -> np.ndarray:
    names = dtype.names or ()
    lines = data.split(b"\n", count)[:count]
    try:
        rows = [[float(word) for word in line.split()] for line in lines]
        whole = [row for row in rows if len(row) == len(names)]
    except ValueError as error:
        raise UserError(f"{path}: damaged ascii PLY ({error}); get the file again") from error
    if len(whole) < count:
        raise _truncated(path, count, len(whole))
    table = np.array(whole, np.float64).reshape(count, len(names))
    vertices = np.empty(count, dtype)
    for column, name in enumerate(names):
        vertices[name] = table[:, column]
    return vertices


def _truncated(path: Path, promised: int, found: int) -> UserError:
    return UserError(
        f"{path}: truncated: the header promises {promised} vertices, the file holds {found}; get it again"
    )


def _rest_names(vertices: np.ndarray) -> tuple[str, ...]:
    """Names of the higher SH coefficients in their order, however the file orders them."""
    count = sum(name.startswith("f_rest_") for name in vertices.dtype.names or ())
    return tuple(f"f_rest_{i}" for i in range(count))


def _columns(vertices: np.ndarray, names: tuple[str, ...]) -> Tensor:
    """Values as float32 [N, len(names)]."""
    table = np.empty((len(vertices), len(names)), np.float32)
    for column, name in enumerate(names):
        table[:, column] = vertices[name]
    return torch.from_numpy(table)
