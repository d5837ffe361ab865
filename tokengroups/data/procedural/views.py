"""Photographs of a triangle scene before exposure: radiance, z-depth and instance ids of every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokengroups.data.procedural.raycast import TriangleScene, dot
from tokengroups.data.procedural.shading import Lighting, shade

SUBPIXELS = ((0.33, 0.2), (-0.33, -0.2))  # beside the centre, for smooth object borders
DEPTH_STEPS = np.float32(8192)  # a metre; rounding hides the last bits of float32 arithmetic
BRIGHTEST = np.float32(2.0)
BLOCK = 8192  # points shaded at once


@dataclass(frozen=True)
class RenderedView:
    """One view before exposure."""

    radiance: np.ndarray  # linear light, [3, H*W] float32
    depth: np.ndarray  # z in metres, a multiple of 1/8192 m, [H, W] float32
    instances: np.ndarray  # [H, W] int16


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
    """Radiance [3, M], depth [M], flat normals [3, M], triangles [M] at pixel positions, block by block."""
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
        turned = dot(up[(slice(None), *first)], up[(slice(None), *second)]) < 0.8
        step = np.abs(depth[first] - depth[second]) > 0.04 * depth[first]
        change = (instances[first] != instances[second]) | step | turned
        border[first] |= change
        border[second] |= change
    return border.ravel()
