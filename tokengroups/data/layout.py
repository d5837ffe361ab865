"""Where things stand in a room: against walls, beside each other, around tables, on top of furniture.

Room frame: metres, z up, origin in a corner; the camera walks at low y and looks towards high y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tokengroups.data.cameras import WalkArea
from tokengroups.data.draw import Draw, rotation_z
from tokengroups.data.footprints import Rectangle, overlap
from tokengroups.data.furniture import BY_NAME, FLAT, FREE, KINDS, SMALL, WALL, Kind, Thing, build
from tokengroups.data.shapes import Solid, Support, rotate

OBJECT_LIMITS = (4, 12)
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
        """Whether a floor-standing candidate is inside the room, clear of the cameras and of everything else."""
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


def furnish(plan: Plan, with_row: bool) -> bool:
    """Fill the plan with 4-12 objects; `with_row` starts with 2-4 of the same class side by side.

    Returns:
        Whether it worked: there are enough objects, and the row if one was asked for.
    """
    draw = plan.draw
    wanted = draw.integer(OBJECT_LIMITS[0] + 2, OBJECT_LIMITS[1])
    if with_row:
        if not _row(plan):
            return False
    else:
        _floor_object(plan, draw.pick([k for k in KINDS if k.place == WALL]))
    for _ in range(60):
        if len(plan.things) >= wanted:
            break
        supports = [p for p in plan.things if p.thing.supports and p.thing.kind.place != SMALL]
        if supports and draw.chance(0.45):
            _stack(plan, draw.pick(supports), draw.pick([k for k in KINDS if k.place == SMALL]))
        else:
            kinds = [k for k in KINDS if k.place != SMALL or k.floor_too]
            kind = draw.pick(kinds)
            tables = [p for p in plan.things if p.thing.kind.name in ("table", "desk")]
            if kind.name == "chair" and tables:
                _at_table(plan, draw.pick(tables))
            else:
                _floor_object(plan, kind)
    return len(plan.things) >= OBJECT_LIMITS[0]


def _floor_object(plan: Plan, kind: Kind) -> Placed | None:
    thing = build(kind, plan.draw)
    neighbours = [p for p in plan.things if p.origin[2] == 0 and p.thing.kind.place in (WALL, FREE)]
    if neighbours and kind.place != FLAT and plan.draw.chance(0.5):
        for _ in range(4):
            candidate = _beside(plan.draw, plan.draw.pick(neighbours), thing, plan.draw.uniform(*TOUCH_M))
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


def _beside(draw: Draw, neighbour: Placed, thing: Thing, gap: float, side: int | None = None) -> Placed:
    """A candidate next to `neighbour`, turned like it; backs in line against a wall, else middles in line."""
    side = side if side is not None else draw.pick((-1, 1))
    low, high = neighbour.thing.low, neighbour.thing.high
    x = float(high[0] + gap - thing.low[0]) if side > 0 else float(low[0] - gap - thing.high[0])
    in_line = neighbour.thing.kind.place == WALL
    y = float(high[1] - thing.high[1]) if in_line else float(low[1] + high[1] - thing.low[1] - thing.high[1]) / 2
    offset = rotate(np.array([x, y, 0.0]), rotation_z(neighbour.angle))
    return Placed(thing, neighbour.angle, neighbour.origin + offset)


def _at_table(plan: Plan, table: Placed) -> Placed | None:
    """A chair that faces the table from one of its long sides."""
    draw, thing = plan.draw, build(BY_NAME["chair"], plan.draw)
    low, high = table.thing.low, table.thing.high
    for _ in range(6):
        side = -1 if table.thing.kind.name == "desk" else draw.pick((-1, 1))
        x = draw.signed(float(high[0] - low[0]) * 0.3)
        gap = draw.uniform(0.0, 0.1)
        y = float(low[1]) - gap + float(thing.low[1]) if side < 0 else float(high[1]) + gap - float(thing.low[1])
        offset = rotate(np.array([x, y, 0.0]), rotation_z(table.angle))
        angle = table.angle + (math.pi if side < 0 else 0.0) + draw.signed(0.12)
        candidate = Placed(thing, angle, table.origin + offset)
        if plan.add(candidate):
            return candidate
    return None


def _row(plan: Plan) -> bool:
    """2-4 objects of one class side by side, on the floor or on a table; identical copies half of the time."""
    draw = plan.draw
    kind, count = draw.pick([k for k in KINDS if k.rows]), draw.integer(2, 4)
    gap = TOUCH_M if draw.chance(0.5) else (0.03, 0.2)
    if kind.place == SMALL and not (kind.floor_too and draw.chance(0.4)):
        carrier = _floor_object(plan, BY_NAME[draw.pick(("table", "desk", "dresser", "tv stand", "bench", "cabinet"))])
        return carrier is not None and _small_row(plan, carrier, kind, count, gap)
    first = _floor_object(plan, kind)
    if first is None:
        return False
    row, side, copies = [first], draw.pick((-1, 1)), draw.chance(0.5)
    for _ in range(count - 1):
        thing = first.thing if copies else build(kind, draw)
        for at, direction in ((row[-1], side), (row[0], -side)):
            candidate = _beside(draw, at, thing, draw.uniform(*gap), direction)
            if plan.add(candidate):
                row.insert(len(row) if direction == side else 0, candidate)
                break
    return len(row) > 1


def _small_row(plan: Plan, carrier: Placed, kind: Kind, count: int, gap: tuple[float, float]) -> bool:
    draw = plan.draw
    support, first = carrier.thing.supports[0], build(kind, draw)
    copies, things = draw.chance(0.5), [first]
    for _ in range(count - 1):
        things.append(first if copies else build(kind, draw))
    gaps = [draw.uniform(gap[0], min(gap[1], 0.1)) for _ in things]
    lengths = [float(t.high[0] - t.low[0]) for t in things]
    while len(things) > 1 and _row_length(lengths, gaps, len(things)) > 2 * support.half[0] + 0.06:
        things.pop()
    if len(things) < 2:
        return False
    x = support.centre[0] - _row_length(lengths, gaps, len(things)) / 2
    y = support.centre[1] + draw.signed(support.half[1] * 0.4)
    for thing, length, space in zip(things, lengths, gaps, strict=False):
        _put_on(plan, carrier, support, thing, (x - float(thing.low[0]), y), 0.0)
        x += length + space
    return True


def _row_length(lengths: list[float], gaps: list[float], count: int) -> float:
    return sum(lengths[:count]) + sum(gaps[: count - 1])


def _stack(plan: Plan, carrier: Placed, kind: Kind) -> Placed | None:
    """Put a small object onto a support of `carrier` where there is room."""
    draw, thing = plan.draw, build(kind, plan.draw)
    support = draw.pick(carrier.thing.supports)
    for _ in range(5):
        angle = draw.signed(0.4)
        x = support.centre[0] + draw.signed(support.half[0])
        y = support.centre[1] + draw.signed(support.half[1])
        footprint = _footprint_on(thing, (x, y), angle)
        if not footprint.within(*_bounds(support, 0.08)):
            continue
        if not any(overlap(footprint, other) for other in carrier.used):
            return _put_on(plan, carrier, support, thing, (x, y), angle)
    return None


def _bounds(support: Support, margin: float) -> tuple[tuple[float, float], tuple[float, float]]:
    (x, y), (a, b) = support.centre, support.half
    return (x - a - margin, y - b - margin), (x + a + margin, y + b + margin)


def _footprint_on(thing: Thing, at: tuple[float, float], angle: float) -> Rectangle:
    return Placed(thing, angle, np.array([*at, 0.0])).footprint


def _put_on(
    plan: Plan, carrier: Placed, support: Support, thing: Thing, at: tuple[float, float], angle: float
) -> Placed:
    carrier.used.append(_footprint_on(thing, at, angle))
    offset = rotate(np.array([*at, support.height]), rotation_z(carrier.angle))
    placed = Placed(thing, carrier.angle + angle, carrier.origin + offset)
    plan.things.append(placed)
    return placed
