"""Furnishing a room: single objects, rows of one class, chairs at tables, small things on top of others."""

from __future__ import annotations

import math

import numpy as np

from tokengroups.data.procedural.draw import rotation_z
from tokengroups.data.procedural.footprints import Rectangle, overlap
from tokengroups.data.procedural.furniture import BY_NAME, KINDS, SMALL, WALL, Kind, Thing, build
from tokengroups.data.procedural.layout import TOUCH_M, Placed, Plan, beside, floor_object
from tokengroups.data.procedural.shapes import Support, rotate

OBJECT_LIMITS = (4, 12)


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
        floor_object(plan, draw.pick([k for k in KINDS if k.place == WALL]))
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
                floor_object(plan, kind)
    return len(plan.things) >= OBJECT_LIMITS[0]


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
    """2-4 objects of one class side by side, on the floor or on a table; half of the time identical."""
    draw = plan.draw
    kind, count = draw.pick([k for k in KINDS if k.rows]), draw.integer(2, 4)
    gap = TOUCH_M if draw.chance(0.5) else (0.03, 0.2)
    if kind.place == SMALL and not (kind.floor_too and draw.chance(0.4)):
        carrier = floor_object(plan, BY_NAME[draw.pick(("table", "desk", "dresser", "tv stand", "bench", "cabinet"))])
        return carrier is not None and _small_row(plan, carrier, kind, count, gap)
    first = floor_object(plan, kind)
    if first is None:
        return False
    row, side, copies = [first], draw.pick((-1, 1)), draw.chance(0.5)
    for _ in range(count - 1):
        thing = first.thing if copies else build(kind, draw)
        for at, direction in ((row[-1], side), (row[0], -side)):
            candidate = beside(draw, at, thing, draw.uniform(*gap), direction)
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
