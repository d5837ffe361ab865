"""Primitive solids as triangle soups, and the `Builder` that puts furniture together from them.

Units are metres; z points up. Every primitive is a trimesh solid of unit size, made once and cached, then
scaled, tapered, turned and moved. Normals are kept per corner: smooth on round solids, flat on boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import trimesh

from tokengroups.data.procedural.draw import Number
from tokengroups.data.procedural.textures import Material

Vector = Sequence[Number] | np.ndarray


@dataclass(frozen=True)
class Soup:
    """Triangles: corners, unit normals per corner, texture coordinates per corner (all [T, 3, 3] float64)."""

    corners: np.ndarray
    normals: np.ndarray
    coordinates: np.ndarray


@dataclass(frozen=True)
class Solid:
    """The triangles of one instance, with a material row for each: [T, ROW_LENGTH] float32."""

    soup: Soup
    materials: np.ndarray

    def placed(self, rotation: np.ndarray, origin: np.ndarray) -> Solid:
        """Turned, then moved; textures stay fixed to the object."""
        corners = rotate(self.soup.corners, rotation) + origin
        return Solid(Soup(corners, rotate(self.soup.normals, rotation), self.soup.coordinates), self.materials)


@dataclass(frozen=True)
class Support:
    """A horizontal rectangle on which small things may stand, in the object's frame."""

    centre: tuple[float, float]
    half: tuple[float, float]
    height: float


@dataclass
class Builder:
    """Collects the parts of one object. Its frame: origin on the floor in its middle, front = -y."""

    parts: list[tuple[Soup, Material]] = field(default_factory=list)
    supports: list[Support] = field(default_factory=list)

    def box(self, centre: Vector, size: Vector, material: Material, turn: np.ndarray | None = None) -> None:
        """A box with these full edge lengths."""
        self._add(_box(), centre, size, material, turn)

    def cylinder(
        self, centre: Vector, radius: Number, length: Number, material: Material,
        *, top: Number = 1.0, turn: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """An upright cylinder or cone frustum; `top` is the upper radius as a share of `radius`."""
        self._add(_frustum(round(top, 2)), centre, (2 * radius, 2 * radius, length), material, turn)

    def ball(self, centre: Vector, size: Vector, material: Material, turn: np.ndarray | None = None) -> None:
        """An ellipsoid with these full diameters."""
        self._add(_ball(1 if max(size) < 0.15 else 2), centre, size, material, turn)

    def cushion(self, centre: Vector, size: Vector, material: Material, turn: np.ndarray | None = None) -> None:
        """A box with well rounded edges, as of stuffed cloth."""
        self._add(_cushion(), centre, size, material, turn)

    def ring(
        self, centre: Vector, radius: Number, thickness: Number, material: Material, turn: np.ndarray | None = None
    ) -> None:
        """A horizontal torus: radius to the tube's middle, tube diameter `thickness`."""
        ratio = round(thickness / (2 * radius) * 20) / 20
        self._add(_torus(max(ratio, 0.05)), centre, (radius,) * 3, material, turn)

    def lathe(self, base: Vector, profile: Sequence[tuple[Number, Number]], material: Material) -> None:
        """A solid of revolution about the vertical through `base`; profile = (radius, height), upwards."""
        soup = _revolve(np.array(profile, dtype=np.float64))
        self._add(soup, base, (1.0, 1.0, 1.0), material, None)

    def support(self, centre: Vector, size: Vector, height: Number) -> None:
        """Declare that small things may stand on this rectangle."""
        half = (size[0] / 2, size[1] / 2)
        self.supports.append(Support((float(centre[0]), float(centre[1])), half, float(height)))

    def _add(self, unit: Soup, centre: Vector, size: Vector, material: Material, turn: np.ndarray | None) -> None:
        scale = np.asarray(size, dtype=np.float64)
        corners, normals = unit.corners * scale, unit.normals / scale
        coordinates = corners
        if turn is not None:
            corners, normals = rotate(corners, turn), rotate(normals, turn)
        soup = Soup(corners + np.asarray(centre, dtype=np.float64), normals, coordinates)
        self.parts.append((soup, material))

    def solid(self) -> Solid:
        """All parts so far, merged."""
        soups = [soup for soup, _ in self.parts]
        corners = np.concatenate([soup.corners for soup in soups])
        normals = _unit(np.concatenate([soup.normals for soup in soups]))
        coordinates = np.concatenate([soup.coordinates for soup in soups])
        rows = np.array([material.row() for _, material in self.parts], np.float32)
        materials = np.repeat(rows, [len(soup.corners) for soup in soups], axis=0)
        return Solid(Soup(corners, normals, coordinates), materials)


def rotate(vectors: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Rotate vectors [..., 3]; plain sums, because the order of a BLAS product is the machine's choice."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    rows = [rotation[i, 0] * x + rotation[i, 1] * y + rotation[i, 2] * z for i in range(3)]
    rotated = np.empty_like(vectors)
    rotated[..., 0], rotated[..., 1], rotated[..., 2] = rows
    return rotated


def _unit(vectors: np.ndarray) -> np.ndarray:
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return vectors / np.sqrt(x * x + y * y + z * z)[..., None]


def _soup(corners: np.ndarray, normals: np.ndarray) -> Soup:
    return Soup(corners, _unit(np.round(normals, 9)), corners)


def _flat(corners: np.ndarray) -> np.ndarray:
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.repeat(normals[:, None], 3, axis=1)


@cache
def _box() -> Soup:
    corners = np.asarray(trimesh.creation.box().triangles, dtype=np.float64)
    return _soup(corners, _flat(corners))


@cache
def _frustum(top: Number) -> Soup:
    mesh = trimesh.creation.cylinder(radius=0.5, height=1.0, sections=16)
    corners = np.round(np.asarray(mesh.triangles, dtype=np.float64), 9)
    caps = _flat(corners)[..., 2:] ** 2 > 1e-12
    sides = np.stack([corners[..., 0], corners[..., 1], np.full(corners.shape[:2], 0.25 * (1 - top))], axis=-1)
    share = np.where(corners[..., 2:] > 0, max(top, 0.01), 1.0)
    tapered = corners * np.concatenate([share, share, np.ones_like(share)], axis=-1)
    return _soup(tapered, np.where(caps, _flat(corners), sides))


@cache
def _ball(subdivisions: int) -> Soup:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=0.5)
    corners = np.round(np.asarray(mesh.triangles, dtype=np.float64), 9)
    return _soup(corners, corners)


@cache
def _cushion() -> Soup:
    mesh = trimesh.creation.box()
    for _ in range(2):
        mesh = mesh.subdivide()
    points = np.asarray(mesh.triangles, dtype=np.float64) * 2
    eighth = ((points**2) ** 2) ** 2
    scale = 1 / np.sqrt(np.sqrt(eighth.sum(axis=-1)))  # between cube and sphere, exact arithmetic only
    corners = points * np.sqrt(scale)[..., None] / 2
    return _soup(np.round(corners, 9), corners * (corners**2) * 4 + 0.15 * corners)


@cache
def _torus(ratio: float) -> Soup:
    mesh = trimesh.creation.torus(1.0, ratio, major_sections=16, minor_sections=6)
    corners = np.round(np.asarray(mesh.triangles, dtype=np.float64), 9)
    x, y = corners[..., 0], corners[..., 1]
    radius = np.sqrt(x * x + y * y)
    spine = np.stack([x / radius, y / radius, np.zeros_like(x)], axis=-1)
    return _soup(corners, corners - spine)


@cache
def _circle(sections: int) -> np.ndarray:
    angles = np.arange(sections + 1) * (2 * np.pi / sections)
    return np.round(np.stack([np.cos(angles), np.sin(angles)], axis=-1), 9)


def _revolve(profile: np.ndarray, sections: int = 14) -> Soup:
    """Quads between neighbouring profile points; smooth around, flat along the profile."""
    circle = _circle(sections)
    radius, height = np.maximum(profile[:, 0], 1e-4), profile[:, 1]
    rings = np.empty((len(profile), sections + 1, 3))
    rings[..., :2] = radius[:, None, None] * circle
    rings[..., 2] = height[:, None]
    a, b, c, d = rings[:-1, :-1], rings[:-1, 1:], rings[1:, 1:], rings[1:, :-1]
    corners = np.stack([a, b, c, a, c, d], axis=2)
    rise, widen = np.diff(height), np.diff(radius)
    slope = np.broadcast_to(-widen[:, None], (len(rise), sections + 1))
    normals = np.concatenate([rise[:, None, None] * circle, slope[..., None]], axis=-1)
    left, right = normals[:, :-1], normals[:, 1:]
    normals = np.stack([left, right, right, left, right, left], axis=2)
    return _soup(corners.reshape(-1, 3, 3), normals.reshape(-1, 3, 3))
