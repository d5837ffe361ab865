"""A room being furnished, and places for one thing: against a wall, beside another one, anywhere.

Room frame: metres, z up, origin in a corner; the camera walks at low y and looks towards high y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tokengroups.data.procedural.cameras import WalkArea
from tokengroups.data.procedural.draw import Draw, rotation_z
from tokengroups.data.procedural.footprints import Rectangle, overlap
from tokengroups.data.procedural.furniture import FLAT, FREE, WALL, Kind, Thing, build
from tokengroups.data.procedural.shapes import Solid, rotate

WALL_GAP_M = (0.06, 0.1)  # behind furniture: window frames and pictures are flatter than this
TOUCH_M = (0.0, 0.03)
BACK_ANGLES = {"back": 0.0, "left": math.pi / 2, "right": -math.pi / 2}
CAMERA_CLEARANCE_M = 0.45


@dataclass
class Placed:
    """A thing at its place: turned by `angle` about the vertical, then moved to `origin`."""

    thing: Thing
    angle: float
    origin: np.ndarray
    used: list[Rectangle] = field(default_factory=list)  # taken parts of its supports, in its own frame

    @property
    def footprint(self) -> Rectangle:
        """Its bounding rectangle on the floor."""
        low, high = self.thing.low, self.thing.high
        middle = rotate(np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, 0.0]), rotation_z(self.angle))
        centre = self.origin + middle
        half = (float(high[0] - low[0]) / 2, float(high[1] - low[1]) / 2)
        return Rectangle((float(centre[0]), float(centre[1])), half, self.angle)

    @property
    def middle(self) -> np.ndarray:
        """Centre [3] of its bounding box."""
        x, y = self.footprint.centre
        return np.array([x, y, float(self.origin[2]) + float(self.thing.low[2] + self.thing.high[2]) / 2])

    def solid(self) -> Solid:
        """Its triangles in the room's frame."""
        return self.thing.solid.placed(rotation_z(self.angle), self.origin)


@dataclass
class Plan:
    """A room being furnished."""

    draw: Draw
    size: tuple[float, float, float]
    blocked: list[Rectangle]  # floor that must stay free, e.g. in front of doors
    cameras: np.ndarray  # [V, 3]
    area: WalkArea
    things: list[Placed] = field(default_factory=list)

    def fits(self, candidate: Placed) -> bool:
        """Test whether a candidate on the floor is inside the room, clear of the cameras and everything else."""
        footprint = candidate.footprint
        if not footprint.within((0.03, 0.03), (self.size[0] - 0.03, self.size[1] - 0.03)):
            return False
        if candidate.thing.kind.place == FLAT:
            return not any(p.thing.kind.place == FLAT for p in self.things)
        clearance = CAMERA_CLEARANCE_M + (0.25 if candidate.thing.high[2] > 0.9 else 0.0)
        if any(footprint.distance(float(x), float(y)) < clearance for x, y, _ in self.cameras):
            return False
        if any(overlap(footprint, other) for other in self.blocked):
            return False
        standing = (p for p in self.things if p.origin[2] == 0 and p.thing.kind.place != FLAT)
        return not any(overlap(footprint, other.footprint) for other in standing)

    def add(self, candidate: Placed) -> bool:
        """Keep the candidate if it fits."""
        if self.fits(candidate):
            self.things.append(candidate)
            return True
        return False


def floor_object(plan: Plan, kind: Kind) -> Placed | None:
    """Build an object and find a place for it: beside another one, against a wall, anywhere; else None."""
    thing = build(kind, plan.draw)
    neighbours = [p for p in plan.things if p.origin[2] == 0 and p.thing.kind.place in (WALL, FREE)]
    if neighbours and kind.place != FLAT and plan.draw.chance(0.5):
        for _ in range(4):
            candidate = beside(plan.draw, plan.draw.pick(neighbours), thing, plan.draw.uniform(*TOUCH_M))
            if plan.add(candidate):
                return candidate
    for _ in range(12):
        candidate = _against_wall(plan, thing) if kind.place == WALL else _free(plan, thing)
        if plan.add(candidate):
            return candidate
    return None


def _against_wall(plan: Plan, thing: Thing) -> Placed:
    draw, (width, depth, _) = plan.draw, plan.size
    wall = draw.pick(("back", "back", "left", "right"))
    half, back = float(thing.high[0] - thing.low[0]) / 2, float(thing.high[1])
    gap = draw.uniform(*WALL_GAP_M)
    if wall == "back":
        x = _between(draw, 0.08 + half, width - 0.08 - half)
        return Placed(thing, BACK_ANGLES[wall], np.array([x, depth - gap - back, 0.0]))
    y = _between(draw, plan.area.high[1] + half, depth - 0.08 - half)
    x = gap + back if wall == "left" else width - gap - back
    return Placed(thing, BACK_ANGLES[wall], np.array([x, y, 0.0]))


def _between(draw: Draw, low: float, high: float) -> float:
    return draw.uniform(low, high) if high > low else (low + high) / 2


def _free(plan: Plan, thing: Thing) -> Placed:
    draw, focus, reach = plan.draw, plan.area.focus, 1.3
    x = focus[0] + draw.signed(reach)
    y = focus[1] + draw.signed(reach * 0.75)
    angle = draw.pick((0.0, 0.5, 1.0, 1.5)) * math.pi + (draw.signed(0.3) if draw.chance(0.5) else draw.signed(1.5))
    return Placed(thing, angle, np.array([x, y, 0.0]))


def beside(draw: Draw, neighbour: Placed, thing: Thing, gap: float, side: int | None = None) -> Placed:
    """A candidate next to `neighbour`, turned like it; backs in line against a wall, else middles in line."""
    side = side if side is not None else draw.pick((-1, 1))
    low, high = neighbour.thing.low, neighbour.thing.high
    x = float(high[0] + gap - thing.low[0]) if side > 0 else float(low[0] - gap - thing.high[0])
    in_line = neighbour.thing.kind.place == WALL
    y = float(high[1] - thing.high[1]) if in_line else float(low[1] + high[1] - thing.low[1] - thing.high[1]) / 2
    offset = rotate(np.array([x, y, 0.0]), rotation_z(neighbour.angle))
    return Placed(thing, neighbour.angle, neighbour.origin + offset)
