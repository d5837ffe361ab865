"""Ray casting of triangle scenes with embree: the triangle that a ray meets, and the surface there.

Embree only decides which triangle a ray meets; where there is no wheel of it, `triangles` does. Everything after that
is computed from the triangle with plain IEEE additions, products, quotients and square roots, so that machines with
other vector units get the same pixels. Vectors are stored component first: [3, M].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tokengroups.data.procedural.shapes import Solid
from tokengroups.data.procedural.triangles import NumpyScene

try:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene
except ImportError:  # no wheel for this platform
    EmbreeScene = None


class TriangleScene:
    """Triangles with materials and instance ids, ready for ray casting.

    Args:
        instances: Triangles in world coordinates, and whether they throw shadows; ids count from 0.
    """

    def __init__(self, instances: list[tuple[Solid, bool]]) -> None:
        solids = [solid for solid, _ in instances]
        counts = [len(solid.materials) for solid in solids]
        corners = np.concatenate([solid.soup.corners for solid in solids])
        self.instances = np.repeat(np.arange(len(solids), dtype=np.int16), counts)
        self._materials = np.concatenate([solid.materials for solid in solids]).T.copy()
        normals = np.concatenate([solid.soup.normals for solid in solids])
        coordinates = np.concatenate([solid.soup.coordinates for solid in solids])
        self._table = _interpolants(corners, normals, coordinates)
        self._scene = build_scene(corners, counts)
        throws = np.array([opaque for _, opaque in instances])
        self._occluders = build_scene(corners[np.repeat(throws, counts)], np.array(counts)[throws].tolist())

    def first_hits(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Index [M] of the triangle that each ray from `origin` [3] along `directions` [3, M] meets."""
        rays = np.ascontiguousarray(directions.T, dtype=np.float32)
        origins = np.empty_like(rays)
        origins[:] = origin.astype(np.float32)
        return self._scene.run(origins, rays)

    def lit(self, points: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Test whether nothing stands between points [M, 3] and the light [3]."""
        reach = np.ones(len(points), np.float32)
        return self._occluders.run(points, light - points, reach, query="OCCLUDED") < 0

    def surface(self, hits: np.ndarray, origin: np.ndarray, directions: np.ndarray) -> Surface:
        """The surface points where rays meet their triangles `hits` [M]."""
        rows = self._table[:, hits]
        facing = dot(rows[0:3], directions)
        distance = (rows[3] - dot(rows[0:3], origin[:, None])) / facing
        points = origin[:, None] + distance * directions
        u, v = dot(rows[4:7], points) - rows[7], dot(rows[8:11], points) - rows[11]
        smooth = rows[12:15] + u * rows[15:18] + v * rows[18:21]
        smooth /= np.sqrt(dot(smooth, smooth) + 1e-12)
        smooth *= away(dot(smooth, directions))
        flat = rows[0:3] * away(facing)
        coordinates = rows[21:24] + u * rows[24:27] + v * rows[27:30]
        return Surface(points, distance, flat, smooth, coordinates, self._materials[:, hits])


def build_scene(corners: np.ndarray, counts: Sequence[int]) -> Any:
    """A scene of triangles [T, 3, 3], so many an instance, with the method ``run`` of embree's scenes."""
    if EmbreeScene is None:
        return NumpyScene(corners.astype(np.float32), counts)
    scene = EmbreeScene()
    TriangleMesh(scene, corners.astype(np.float32))  # adds itself to the scene
    return scene


@dataclass(frozen=True)
class Surface:
    """Surface points hit by rays: positions, ray parameter, normals towards the viewer, texture."""

    points: np.ndarray
    distance: np.ndarray
    flat_normals: np.ndarray
    normals: np.ndarray
    coordinates: np.ndarray
    materials: np.ndarray


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dot products [M] of vectors stored component first."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def away(along: np.ndarray) -> np.ndarray:
    """The sign that turns a normal with this component along a ray against the ray."""
    return np.where(along > 0, np.float32(-1), np.float32(1))


def _interpolants(corners: np.ndarray, normals: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Per triangle: plane, affine functions that give barycentric coordinates, and what they interpolate.

    Returns:
        [30, T] float32: unit normal (3), its offset, gradient and offset of u (4) and of v (4); then value
        at the first corner and differences to the other two, of the normals (9) and of the texture
        coordinates (9).
    """
    a, e1, e2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(e1, e2)
    area2 = np.maximum(dot(normal.T, normal.T), 1e-24)[:, None]
    grad_u, grad_v = np.cross(e2, normal) / area2, np.cross(normal, e1) / area2
    unit = normal / np.sqrt(area2)
    rows = [unit.T, dot(unit.T, a.T)[None], grad_u.T, dot(grad_u.T, a.T)[None], grad_v.T, dot(grad_v.T, a.T)[None]]
    for values in (normals, coordinates):
        rows += [values[:, 0].T, (values[:, 1] - values[:, 0]).T, (values[:, 2] - values[:, 0]).T]
    return np.concatenate(rows).astype(np.float32)
