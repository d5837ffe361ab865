"""Coloured points from PLY files of COLMAP, nerfstudio, scanners and 3D Gaussian Splatting."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.ply import COLOR, MEANS, RGB
from tokengroups.io.ply_table import read_table
from tokengroups.spherical_harmonics import SH_C0

_GREY = 0.5  # points without a colour


@dataclass(frozen=True)
class PointCloud:
    """Points of a scene in some world."""

    positions: Float[Tensor, "N 3"]
    colors: Float[Tensor, "N 3"]  # in [0, 1]


def load_points(path: str | os.PathLike[str]) -> PointCloud:
    """Read the vertices of a PLY, float32; colours from ``red green blue`` or ``f_dc_*``, else grey.

    Points that are not finite are left out.

    Raises:
        UserError: Not readable, not a PLY, without ``x y z``, or without any finite point.
    """
    path = Path(path)
    table = read_table(path)
    names = table.dtype.names or ()
    if not set(MEANS) <= set(names):
        raise UserError(f"{path}: its vertices lack x, y or z; give a point cloud")
    positions = np.stack([table[name].astype(np.float32) for name in MEANS], axis=1)
    colors = np.full_like(positions, _GREY)
    if set(RGB) <= set(names):
        colors = np.stack([table[name].astype(np.float32) for name in RGB], axis=1)
        if table.dtype["red"].kind in "iu":  # bytes; floats are in [0, 1]
            colors /= 255
    elif set(COLOR) <= set(names):
        colors = 0.5 + SH_C0 * np.stack([table[name].astype(np.float32) for name in COLOR], axis=1)
    finite = np.isfinite(positions).all(axis=1) & np.isfinite(colors).all(axis=1)
    if not finite.any():
        raise UserError(f"{path}: no finite point in it; give a point cloud")
    return PointCloud(
        torch.from_numpy(positions[finite]), torch.from_numpy(colors[finite].clip(0, 1).astype(np.float32))
    )
