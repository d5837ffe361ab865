"""Light that surfaces send to the camera: ambient light, point lights with shadows, highlights.

As in `raycast`, vectors are stored component first and only exactly rounded operations are used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokengroups.data.procedural.raycast import Surface, TriangleScene, dot
from tokengroups.data.procedural.textures import albedo

SHADOW_OFFSET_M = 2e-3
LIGHT_RADIUS2 = 0.4  # m^2; keeps the inverse-square law finite near a lamp


@dataclass(frozen=True)
class Light:
    """A point light: position in metres, linear-light power per channel."""

    position: tuple[float, float, float]
    power: tuple[float, float, float]


@dataclass(frozen=True)
class Lighting:
    """Lights of a room; corners of the box `size` from the origin are darkened, as by missing bounces."""

    lights: tuple[Light, ...]
    ambient: tuple[float, float, float]
    size: tuple[float, float, float]


def shade(
    scene: TriangleScene, surface: Surface, origin: np.ndarray, pixel_angle: np.float32, lighting: Lighting
) -> np.ndarray:
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
    gloss_normals = surface.normals.take(glossy, axis=1)
    view = origin.astype(np.float32)[:, None] - surface.points.take(glossy, axis=1)
    view /= np.sqrt(dot(view, view))
    lifted = np.ascontiguousarray((surface.points + np.float32(SHADOW_OFFSET_M) * surface.flat_normals).T)
    for light in lighting.lights:
        arriving, towards = _arriving(scene, surface, lifted, np.array(light.position, np.float32))
        power = np.array(light.power, np.float32)[:, None]
        received += power * arriving
        shine = _highlight(gloss_normals, view, towards.take(glossy, axis=1))
        highlight[:, glossy] += power * (shine * np.minimum(arriving[glossy] * 4, np.float32(1.0)))
    glow = surface.materials[15]
    shaded = colours * received + surface.materials[14] * highlight
    return shaded + glow * (np.float32(1.1) * colours - shaded)


def _nook(distance: np.ndarray) -> np.ndarray:
    near = np.maximum(distance, 0) + np.float32(0.06)
    return near / (near + np.float32(0.05))


def _arriving(
    scene: TriangleScene, surface: Surface, lifted: np.ndarray, light: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Irradiance [M] from a light of power 1 and directions [3, M] to it; `lifted` [M, 3]: ray origins."""
    towards = light[:, None] - surface.points
    square = dot(towards, towards)
    towards /= np.sqrt(square)
    cosine = np.maximum(dot(surface.normals, towards), 0)
    candidates = np.flatnonzero((cosine > 0.01) & (dot(surface.flat_normals, towards) > 0))
    lit = np.zeros(len(square), np.float32)
    lit[candidates] = scene.lit(lifted.take(candidates, axis=0), light)
    return lit * cosine / (square + np.float32(LIGHT_RADIUS2)), towards


def _highlight(normals: np.ndarray, view: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Blinn's (n.h)^32 by repeated squaring."""
    half = towards + view
    cosine = np.maximum(dot(normals, half) / np.sqrt(dot(half, half) + np.float32(1e-9)), 0)
    for _ in range(5):
        cosine *= cosine
    return cosine
