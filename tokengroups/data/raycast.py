"""Ray casting of triangle scenes with embree: instance ids, depth, and images lit by point lights with shadows.

Embree only decides which triangle a ray meets. Everything after that (hit points, normals, shading) is computed
from the triangle with plain IEEE additions, products, quotients and square roots, so that machines with other vector
units get the same pixels. Vectors are stored component first: [3, M].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from tokengroups.data.shapes import Solid
from tokengroups.data.textures import albedo

SHADOW_OFFSET_M = 2e-3
LIGHT_RADIUS2 = 0.4  # m^2; keeps the inverse-square law finite near a lamp
SUBPIXELS = ((0.33, 0.2), (-0.33, -0.2))  # beside the centre, for smooth object borders
DEPTH_STEPS = np.float32(8192)  # a metre; rounding hides the last bits of float32 arithmetic
BRIGHTEST = np.float32(2.0)
BLOCK = 8192  # points shaded at once


@dataclass(frozen=True)
class Light:
    """A point light: position in metres, linear-light power per channel."""

    position: tuple[float, float, float]
    power: tuple[float, float, float]


@dataclass(frozen=True)
class Lighting:
    """What lights a room; corners of the box `size` (from the origin) are darkened as by missing bounce light."""

    lights: tuple[Light, ...]
    ambient: tuple[float, float, float]
    size: tuple[float, float, float]


class TriangleScene:
    """Triangles with materials and instance ids, ready for ray casting.

    Args:
        instances: Triangles in world coordinates and whether they throw shadows; the ids are the positions in the list.
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
        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, corners.astype(np.float32))
        opaque = np.repeat(np.array([throws for _, throws in instances]), counts)
        self._occluders = EmbreeScene()
        self._occluder_mesh = TriangleMesh(self._occluders, corners[opaque].astype(np.float32))

    def first_hits(self, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Index [M] of the triangle that each ray from `origin` [3] along `directions` [3, M] meets; -1 = none."""
        rays = np.ascontiguousarray(directions.T, dtype=np.float32)
        origins = np.empty_like(rays)
        origins[:] = origin.astype(np.float32)
        return self._scene.run(origins, rays)

    def lit(self, points: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Whether nothing stands between points [3, M] and the light [3]."""
        rays = np.ascontiguousarray((light[:, None] - points).T, dtype=np.float32)
        origins = np.ascontiguousarray(points.T, dtype=np.float32)
        reach = np.full(len(rays), 1.0, np.float32)
        return self._occluders.run(origins, rays, reach, query="OCCLUDED") < 0

    def surface(self, hits: np.ndarray, origin: np.ndarray, directions: np.ndarray) -> Surface:
        """The surface points where rays meet their triangles `hits` [M]."""
        rows = self._table[:, hits]
        facing = _dot(rows[0:3], directions)
        distance = (rows[3] - _dot(rows[0:3], origin[:, None])) / facing
        points = origin[:, None] + distance * directions
        u, v = _dot(rows[4:7], points) - rows[7], _dot(rows[8:11], points) - rows[11]
        smooth = rows[12:15] + u * rows[15:18] + v * rows[18:21]
        smooth = smooth / np.sqrt(_dot(smooth, smooth) + 1e-12)
        smooth = np.where(_dot(smooth, directions) > 0, -smooth, smooth)
        flat = np.where(facing > 0, -rows[0:3], rows[0:3])
        coordinates = rows[21:24] + u * rows[24:27] + v * rows[27:30]
        return Surface(points, distance, flat, smooth, coordinates, self._materials[:, hits])


@dataclass(frozen=True)
class Surface:
    """Surface points hit by rays, component first: positions, ray parameter, normals towards the viewer, texture."""

    points: np.ndarray
    distance: np.ndarray
    flat_normals: np.ndarray
    normals: np.ndarray
    coordinates: np.ndarray
    materials: np.ndarray


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _interpolants(corners: np.ndarray, normals: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Per triangle: plane, two affine functions that give its barycentric coordinates, and what they interpolate.

    Returns:
        [30, T] float32: unit normal (3), its offset, gradient and offset of u (4) and of v (4); then value at the
        first corner and differences to the other two, of the normals (9) and of the texture coordinates (9).
    """
    a, e1, e2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(e1, e2)
    area2 = np.maximum(_dot(normal.T, normal.T), 1e-24)[:, None]
    grad_u, grad_v = np.cross(e2, normal) / area2, np.cross(normal, e1) / area2
    unit = normal / np.sqrt(area2)
    rows = [unit.T, _dot(unit.T, a.T)[None], grad_u.T, _dot(grad_u.T, a.T)[None], grad_v.T, _dot(grad_v.T, a.T)[None]]
    for values in (normals, coordinates):
        rows += [values[:, 0].T, (values[:, 1] - values[:, 0]).T, (values[:, 2] - values[:, 0]).T]
    return np.concatenate(rows).astype(np.float32)


def shade(scene: TriangleScene, surface: Surface, origin: np.ndarray, pixel_angle: np.float32, lighting: Lighting) -> np.ndarray:
    """Linear-light radiance [3, M] that leaves the surface points towards `origin` [3].

    Lambert reflection of ambient and point lights with one shadow ray per light, plus a Blinn highlight.
    """
    colours = albedo(surface.materials, surface.coordinates, pixel_angle * surface.distance)
    x, y, z = surface.points
    width, depth, height = (np.float32(side) for side in lighting.size)
    corners = _nook(x) * _nook(width - x) * _nook(y) * _nook(depth - y) * _nook(z) * _nook(height - z)
    hemisphere = (np.float32(0.8) + np.float32(0.2) * surface.normals[2]) * corners
    received = np.array(lighting.ambient, np.float32)[:, None] * hemisphere
    highlight = np.zeros_like(received)
    glossy = np.flatnonzero(surface.materials[14] > 0.02)
    for light in lighting.lights:
        arriving, towards = _arriving(scene, surface, np.array(light.position, np.float32))
        power = np.array(light.power, np.float32)[:, None]
        received += power * arriving
        highlight[:, glossy] += power * _highlight(surface, glossy, arriving[glossy], towards[:, glossy], origin)
    glow = surface.materials[15]
    shaded = colours * received + surface.materials[14] * highlight
    return shaded + glow * (np.float32(1.1) * colours - shaded)


def _nook(distance: np.ndarray) -> np.ndarray:
    near = np.maximum(distance, 0) + np.float32(0.06)
    return near / (near + np.float32(0.05))


def _arriving(scene: TriangleScene, surface: Surface, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Irradiance [M] from a light of power 1, and the unit vectors [3, M] towards it."""
    towards = light[:, None] - surface.points
    square = _dot(towards, towards)
    towards = towards / np.sqrt(square)
    cosine = np.maximum(_dot(surface.normals, towards), 0)
    candidates = np.flatnonzero((cosine > 0.01) & (_dot(surface.flat_normals, towards) > 0))
    lit = np.zeros(len(square), np.float32)
    lifted = surface.points[:, candidates] + np.float32(SHADOW_OFFSET_M) * surface.flat_normals[:, candidates]
    lit[candidates] = scene.lit(lifted, light)
    return lit * cosine / (square + np.float32(LIGHT_RADIUS2)), towards


def _highlight(
    surface: Surface, at: np.ndarray, arriving: np.ndarray, towards: np.ndarray, origin: np.ndarray
) -> np.ndarray:
    """Blinn's (n.h)^32 by repeated squaring, for the glossy points only."""
    view = origin.astype(np.float32)[:, None] - surface.points[:, at]
    half = towards + view / np.sqrt(_dot(view, view))
    cosine = np.maximum(_dot(surface.normals[:, at], half / np.sqrt(_dot(half, half) + np.float32(1e-9))), 0)
    for _ in range(5):
        cosine = cosine * cosine
    return cosine * np.minimum(arriving * 4, np.float32(1.0))


@dataclass(frozen=True)
class RenderedView:
    """One view before exposure: linear radiance [3, H*W], z-depth [H, W] in metres (multiples of 1/8192 m), instance ids int16 [H, W]."""

    radiance: np.ndarray
    depth: np.ndarray
    instances: np.ndarray


def render_view(
    scene: TriangleScene, cam_from_world: np.ndarray, intrinsics: np.ndarray, size: int, lighting: Lighting
) -> RenderedView:
    """Cast one ray per pixel centre; pixels at object borders take the mean of three rays."""
    camera = _Camera(cam_from_world, intrinsics)
    grid = np.arange(size, dtype=np.float32) + np.float32(0.5)
    columns, rows = np.tile(grid, size), np.repeat(grid, size)
    radiance, depth, up, hits = _render(scene, camera, columns, rows, lighting)
    depth, instances = depth.reshape(size, size), scene.instances[hits].reshape(size, size)
    border = np.flatnonzero(_borders(instances, depth, up.reshape(3, size, size)))
    total = np.minimum(radiance[:, border], BRIGHTEST)
    for shift_x, shift_y in SUBPIXELS:
        moved = columns[border] + np.float32(shift_x), rows[border] + np.float32(shift_y)
        total += np.minimum(_render(scene, camera, *moved, lighting)[0], BRIGHTEST)
    radiance[:, border] = total / np.float32(1 + len(SUBPIXELS))
    return RenderedView(radiance, np.round(depth * DEPTH_STEPS) / DEPTH_STEPS, instances)


def visible_instances(
    scene: TriangleScene, cam_from_world: np.ndarray, intrinsics: np.ndarray, size: int, stride: int
) -> np.ndarray:
    """Instance ids [M] seen on every `stride`-th row and column: a quick look without shading."""
    grid = np.arange(stride // 2, size, stride, dtype=np.float32) + np.float32(0.5)
    camera = _Camera(cam_from_world, intrinsics)
    directions = camera.directions(np.tile(grid, len(grid)), np.repeat(grid, len(grid)))
    return scene.instances[scene.first_hits(camera.origin, directions)]


class _Camera:
    def __init__(self, cam_from_world: np.ndarray, intrinsics: np.ndarray) -> None:
        rotation = cam_from_world[:3, :3]
        self.origin = (-(rotation.T * cam_from_world[:3, 3]).sum(axis=1)).astype(np.float32)
        self._axes = rotation.astype(np.float32)
        self._focal, self._x, self._y = (np.float32(intrinsics[i]) for i in ((0, 0), (0, 2), (1, 2)))
        self.pixel_angle = np.float32(1.0) / self._focal

    def directions(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """World directions [3, M] with unit z in the camera, so that the ray parameter is the z-depth."""
        x, y = (columns - self._x) / self._focal, (rows - self._y) / self._focal
        return np.stack([self._axes[0, k] * x + self._axes[1, k] * y + self._axes[2, k] for k in range(3)])


def _render(
    scene: TriangleScene, camera: _Camera, columns: np.ndarray, rows: np.ndarray, lighting: Lighting
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Radiance [3, M], depth [M], flat normals [3, M] and triangles [M] at pixel positions, in blocks that fit a cache."""
    directions = camera.directions(columns, rows)
    hits = scene.first_hits(camera.origin, directions)
    radiance, normals = np.empty_like(directions), np.empty_like(directions)
    depth = np.empty_like(columns)
    for start in range(0, len(hits), BLOCK):
        at = slice(start, start + BLOCK)
        surface = scene.surface(hits[at], camera.origin, directions[:, at])
        depth[at], normals[:, at] = surface.distance, surface.flat_normals
        radiance[:, at] = shade(scene, surface, camera.origin, camera.pixel_angle, lighting)
    return radiance, depth, normals, hits


def _borders(instances: np.ndarray, depth: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Pixels [H*W] beside a change of instance, of depth or of orientation."""
    border = np.zeros(depth.shape, bool)
    for axis in (0, 1):
        first = (slice(None),) * axis + (slice(None, -1),)
        second = (slice(None),) * axis + (slice(1, None),)
        turned = _dot(up[(slice(None), *first)], up[(slice(None), *second)]) < 0.8
        step = np.abs(depth[first] - depth[second]) > 0.04 * depth[first]
        change = (instances[first] != instances[second]) | step | turned
        border[first] |= change
        border[second] |= change
    return border.ravel()
