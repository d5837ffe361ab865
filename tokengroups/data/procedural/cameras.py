"""Handheld-like camera paths: walk in the free part of a room, look at its furnished part."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tokengroups.data.procedural.draw import Draw, unit_vector

STEP_LIMITS_M = (0.2, 0.6)
ALTERNATE_STEP_M = 0.4
WALK_ATTEMPTS = 30
FOV_LIMITS_DEG = (50.0, 75.0)
SWEEP_DEG = 270.0  # how far a camera turns that looks around


@dataclass(frozen=True)
class WalkArea:
    """Area that the camera may walk in: a rectangle minus a disc around what it looks at."""

    low: tuple[float, float]
    high: tuple[float, float]
    focus: tuple[float, float]
    clearance: float  # radius of the disc in metres

    def contains(self, x: float, y: float) -> bool:
        """Test whether a position is allowed."""
        inside = self.low[0] <= x <= self.high[0] and self.low[1] <= y <= self.high[1]
        dx, dy = x - self.focus[0], y - self.focus[1]
        return bool(inside and dx * dx + dy * dy >= self.clearance * self.clearance)


def walk(draw: Draw, area: WalkArea, num_views: int) -> np.ndarray:
    """Camera positions [num_views, 3]: neighbours 0.2-0.6 m apart, every other one 0.4 m if there is room.

    Heights stay between 1.05 and 1.75 m. The best of a few random walks is kept.
    """
    best, best_gap = np.empty((0, 3)), -1.0
    for _ in range(WALK_ATTEMPTS):
        positions = _random_walk(draw, area, num_views)
        steps = positions[2:] - positions[:-2]
        gap = float(np.sqrt((steps * steps).sum(axis=1)).min(initial=ALTERNATE_STEP_M))
        if gap > best_gap:
            best, best_gap = positions, gap
        if gap >= ALTERNATE_STEP_M:
            break
    return best


def _random_walk(draw: Draw, area: WalkArea, num_views: int) -> np.ndarray:
    mean_step = draw.uniform(0.25, 0.55)
    height = draw.uniform(1.15, 1.65)
    position = _start(draw, area)
    heading = math.pi * draw.pick((0.0, 1.0)) + draw.signed(0.5)
    positions = [(*position, height)]
    for _ in range(num_views - 1):
        step = min(max(mean_step * draw.uniform(0.8, 1.2), STEP_LIMITS_M[0] + 0.02), STEP_LIMITS_M[1] - 0.02)
        rise = min(max(height + draw.signed(0.06), 1.05), 1.75) - height
        heading, position = _advance(area, position, heading + draw.signed(0.35), (step**2 - rise**2) ** 0.5)
        height += rise
        positions.append((*position, height))
    return np.round(np.array(positions), 9)


def _start(draw: Draw, area: WalkArea) -> tuple[float, float]:
    for _ in range(50):
        x, y = draw.point(area.low, area.high)
        if area.contains(x, y):
            return float(x), float(y)
    return area.low


def _advance(
    area: WalkArea, position: tuple[float, float], heading: float, step: float
) -> tuple[float, tuple[float, float]]:
    """Take a step, turning as little as needed to stay inside the area."""
    for turn in (0.0, 0.35, -0.35, 0.7, -0.7, 1.05, -1.05, 1.4, -1.4, 1.9, -1.9, 2.5, -2.5, math.pi):
        c, s = unit_vector(heading + turn)
        target = (position[0] + step * c, position[1] + step * s)
        if area.contains(*target):
            return heading + turn, target
    c, s = unit_vector(heading)
    return heading + math.pi, (position[0] - step * c, position[1] - step * s)


def drift(draw: Draw, focus: np.ndarray, num_views: int) -> np.ndarray:
    """Points [V, 3] on a short line near `focus`."""
    start, end = (focus + np.array([draw.signed(0.35), draw.signed(0.35), draw.signed(0.2)]) for _ in range(2))
    return np.stack([start + (end - start) * (view / max(num_views - 1, 1)) for view in range(num_views)])


def around(draw: Draw, positions: np.ndarray, focus: np.ndarray) -> np.ndarray:
    """Points [V, 3] to look at while turning on the way: past `focus` in the middle, away from it at both ends."""
    offsets = focus - positions
    turns = np.linspace(-SWEEP_DEG / 2, SWEEP_DEG / 2, len(positions)) * draw.pick((-1.0, 1.0))
    targets = positions + offsets
    for view, turn in enumerate(turns):
        c, s = unit_vector(math.radians(float(turn)))
        x, y = offsets[view, :2]
        targets[view, :2] = positions[view, :2] + (c * x - s * y, s * x + c * y)
    return np.round(targets, 9)


def aim(draw: Draw, positions: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """cam_from_world [V, 4, 4] of cameras that look at their targets [V, 3], with hand jitter.

    World z points up; camera axes are OpenCV's (x right, y down, z forward).
    """
    lean = draw.signed(0.05)
    poses = np.tile(np.eye(4), (len(positions), 1, 1))
    for view, position in enumerate(positions):
        target = targets[view] + draw.point((-0.1,) * 3, (0.1,) * 3)
        rotation = _look(target - position, lean + draw.signed(0.05))
        poses[view, :3, :3] = rotation
        poses[view, :3, 3] = -(rotation * position).sum(axis=1)
    return poses


def _look(direction: np.ndarray, roll: float) -> np.ndarray:
    """Rotation world to camera for a viewing direction, rolled about the optical axis."""
    forward = direction / math.sqrt(float(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2))
    flat = math.sqrt(float(forward[0] ** 2 + forward[1] ** 2))
    right = np.array([forward[1] / flat, -forward[0] / flat, 0.0])
    down = np.cross(forward, right)
    c, s = unit_vector(roll)
    return np.stack([c * right + s * down, c * down - s * right, forward])


def intrinsics(draw: Draw, size: int) -> np.ndarray:
    """Pinhole intrinsics [3, 3] in pixels of a square image: random horizontal field of view, centred."""
    half = math.radians(draw.uniform(*FOV_LIMITS_DEG)) / 2
    c, s = unit_vector(half)
    focal = 0.5 * size * c / s
    return np.array([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
