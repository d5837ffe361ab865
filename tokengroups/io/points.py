"""Coloured points: from PLY files of COLMAP, nerfstudio, scanners and 3D Gaussian Splatting, and to PLY."""

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
from tokengroups.io.ply_table import read_table, write_table
from tokengroups.reading import check_file, malformed, shown
from tokengroups.spherical_harmonics import SH_C0

FARTHEST = 1e9  # coordinates of points and cameras, in any unit: their squares must not leave float32
_GREY = 0.5  # points without a colour
_OVERSHOOT = 2.0  # largest float colour where 1 is full, not 255
_ADVICE = "give a point cloud as PLY"


@dataclass(frozen=True)
class PointCloud:
    """Points of a scene in some world."""

    positions: Float[Tensor, "N 3"]  # float64 from files: worlds may have their origin far away
    colors: Float[Tensor, "N 3"]  # in [0, 1]
    notes: tuple[str, ...] = ()  # for the user


def load_points(path: str | os.PathLike[str]) -> PointCloud:
    """Read the vertices of a PLY; colours from ``red green blue`` or ``f_dc_*``, else grey; see `make_cloud`.

    Raises:
        UserError: Not readable, not a PLY, without ``x y z``, or without any usable point.
    """
    path = check_file(path, _ADVICE)
    with malformed(path, _ADVICE), np.errstate(over="ignore", invalid="ignore"):  # what is too large is left out
        table = read_table(path)
        names = table.dtype.names or ()
        if not set(MEANS) <= set(names):
            raise UserError(f"{shown(path)}: its vertices lack x, y or z; {_ADVICE}")
        return make_cloud(path, np.stack([table[name].astype(np.float64) for name in MEANS], axis=1), _colors(table))


def save_points(path: str | os.PathLike[str], points: PointCloud) -> None:
    """Write a binary PLY of ``x y z red green blue``, atomically; positions float32, colours in bytes."""
    table = np.empty(len(points.positions), [*((name, "<f4") for name in MEANS), *((name, "u1") for name in RGB)])
    colors = np.round(255 * points.colors.numpy()).astype(np.uint8)
    for column in range(3):
        table[MEANS[column]], table[RGB[column]] = points.positions[:, column].numpy(), colors[:, column]
    write_table(path, table)


def make_cloud(path: Path, positions: Float[np.ndarray, "N 3"], colors: Float[np.ndarray, "N 3"]) -> PointCloud:
    """Points with a note if some had to be left out, because they are not finite or farther than `FARTHEST`.

    Raises:
        UserError: None is left.
    """
    places, shades = torch.from_numpy(positions), torch.from_numpy(colors.astype(np.float32))
    usable = (places.abs() <= FARTHEST).all(dim=1) & shades.isfinite().all(dim=1)
    if not bool(usable.any()):
        raise UserError(f"{shown(path)}: no finite point in it within {FARTHEST:g} units; {_ADVICE}")
    lost = int((~usable).sum())
    notes = (f"left out {lost:,} of {len(usable):,} points that are not finite or beyond {FARTHEST:g} units",)
    return PointCloud(places[usable], shades[usable].clamp(0, 1), notes if lost else ())


def _colors(table: np.ndarray) -> Float[np.ndarray, "N 3"]:
    """Colours, 1 = full: bytes, 16-bit values, or floats up to 1 or 255."""
    names = set(table.dtype.names or ())
    if set(RGB) <= names:
        colors = np.stack([table[name].astype(np.float32) for name in RGB], axis=1)
        largest = colors[np.isfinite(colors)].max(initial=0)
        if table.dtype["red"].kind == "f" and largest <= _OVERSHOOT:
            return colors
        return colors / np.float32(255 if largest <= 255 else 65535)
    if set(COLOR) <= names:
        return 0.5 + SH_C0 * np.stack([table[name].astype(np.float32) for name in COLOR], axis=1)
    return np.full((len(table), 3), _GREY, np.float32)
