"""Reader of PlayCanvas' compressed PLY: Gaussians in 16 bytes, relative to the ranges of their chunk of 256.

Elements: ``chunk`` (ranges), ``vertex`` (packed numbers), and perhaps ``sh``. Layout: SuperSplat's ``splat-transform``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Float

from tokengroups.io.ply_table import read_tables
from tokengroups.io.splats.packing import ADVICE, check_count, complete_quaternions, make_gaussians
from tokengroups.reading import malformed
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Gaussians

_CHUNK = 256  # Gaussians
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
_SH_RANGE = 8.0  # bytes span -4 to 4
_SH_COUNTS = (0, 9, 24, 45)


def load_compressed_ply(path: Path) -> Gaussians:
    """Read the Gaussians; axes as in a 3DGS PLY.

    Raises:
        UserError: Not readable, not a compressed PLY, truncated.
    """
    tables = read_tables(path)
    with malformed(path, ADVICE):
        vertices, chunks, rest = _checked(tables)
        chunk = np.arange(len(vertices)) // _CHUNK
        position, rotation, scale, color = (vertices[name] for name in _PACKED)
        quats = (_bits(rotation, (10, 10, 10)) - 0.5) * np.sqrt(2)
        rgba = _bits(color, (8, 8, 8, 8))
        rgb = rgba[:, :3]
        if "min_r" in (chunks.dtype.names or ()):
            rgb = _in_range(rgb, chunks, chunk, "rgb")
        means = _in_range(_bits(position, (11, 10, 11)), chunks, chunk, "xyz")
        logs = _in_range(_bits(scale, (11, 10, 11)), chunks, chunk, "xyz", "scale_")
        with np.errstate(over="ignore", invalid="ignore"):
            sh = np.concatenate([((rgb - 0.5) / SH_C0)[:, None], rest], axis=1)
            largest = (rotation >> 30).astype(np.int64)
            return make_gaussians(means, complete_quaternions(quats, largest), np.exp(logs), rgba[:, 3], sh)


def _checked(tables: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, Float[np.ndarray, "N R 3"]]:
    """Vertices, chunks, and the higher SH coefficients, of which there may be none."""
    vertices, chunks = tables["vertex"], tables["chunk"]
    check_count(len(vertices))
    if any(vertices.dtype[name] != np.uint32 for name in _PACKED):
        raise ValueError("packed numbers that are no uint")
    if len(chunks) < -(-len(vertices) // _CHUNK):
        raise ValueError(f"{len(chunks)} chunks for {len(vertices)} Gaussians")
    table = tables.get("sh", np.empty(len(vertices), []))
    names = table.dtype.names or ()
    if len(names) not in _SH_COUNTS or len(table) != len(vertices):
        raise ValueError(f"{len(table)} rows of {len(names)} properties in 'sh'")
    rest = np.empty((len(vertices), len(names)), np.float32)
    for column in range(len(names)):
        values = table[f"f_rest_{column}"]
        inner = (values + 0.5) / 256  # the ends are exact
        rest[:, column] = (np.where(values == 0, 0, np.where(values == 255, 1, inner)) - 0.5) * _SH_RANGE
    return vertices, chunks, rearrange(rest, "n (c s) -> n s c", c=3)


def _bits(values: np.ndarray, widths: tuple[int, ...]) -> Float[np.ndarray, "N C"]:
    """Fractions of all ones in the fields of 32-bit numbers; the last field has the lowest bits."""
    fields, shift = [], 0
    for width in reversed(widths):
        largest = (1 << width) - 1
        fields.append(((values >> shift) & largest) / largest)
        shift += width
    return np.stack(fields[::-1], axis=1)


def _in_range(
    fractions: Float[np.ndarray, "N C"], chunks: np.ndarray, chunk: np.ndarray, axes: str, what: str = ""
) -> Float[np.ndarray, "N C"]:
    """Values between the ends of their chunk's ranges."""
    low, high = (
        np.stack([chunks[f"{end}_{what}{axis}"].astype(np.float64)[chunk] for axis in axes], axis=1)
        for end in ("min", "max")
    )
    with np.errstate(over="ignore", invalid="ignore"):
        return low * (1 - fractions) + high * fractions
