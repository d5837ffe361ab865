"""Things to sit and lie on. Each function builds one object with random proportions in a `Builder`."""

from __future__ import annotations

from tokengroups.data.procedural.draw import Draw, Number, rotation_x
from tokengroups.data.procedural.shapes import Builder
from tokengroups.data.procedural.textures import Material, fabric, metal, neutral, paint, wood


def frame_material(draw: Draw) -> Material:
    """Material of legs and frames."""
    return draw.pick((wood, wood, metal, neutral, paint))(draw)


def legs(
    draw: Draw, b: Builder, size: tuple[float, float], height: Number, thickness: Number, material: Material
) -> None:
    """Four legs under a rectangle of this size, square or round, straight or tapered."""
    x, y = size[0] / 2 - thickness / 2, size[1] / 2 - thickness / 2
    round_legs, top = draw.chance(0.5), draw.uniform(1.0, 1.6)
    for sx, sy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        centre = (sx * x, sy * y, height / 2)
        if round_legs:
            b.cylinder(centre, thickness / 2 / top, height, material, top=top)
        else:
            b.box(centre, (thickness, thickness, height), material)


def chair(draw: Draw, b: Builder) -> None:
    """Four legs, a seat, and a back of slats or one panel."""
    width, depth = draw.uniform(0.4, 0.5), draw.uniform(0.4, 0.5)
    seat, back = draw.uniform(0.42, 0.5), draw.uniform(0.38, 0.6)
    frame = frame_material(draw)
    cover = fabric(draw) if draw.chance(0.6) else frame
    legs(draw, b, (width, depth), seat, draw.uniform(0.035, 0.06), frame)
    b.box((0, 0, seat + 0.02), (width, depth, 0.04), frame)
    if cover is not frame:
        b.cushion((0, -0.01, seat + 0.06), (width * 0.96, depth * 0.94, 0.08), cover)
    y, middle = depth / 2 - 0.025, seat + 0.04 + back / 2
    for x in (-width / 2 + 0.025, width / 2 - 0.025):
        b.box((x, y, middle), (0.045, 0.045, back), frame)
    style = draw.integer(0, 2)
    if style == 0:
        b.box((0, y, seat + back * 0.72), (width - 0.09, 0.03, back * 0.5), cover)
    for k in range(3 * (style == 1)):
        b.box((0, y, seat + back * (0.35 + 0.3 * k)), (width - 0.09, 0.025, back * 0.14), frame)
    if style == 2:
        b.box((0, y, seat + back), (width - 0.09, 0.03, 0.07), frame)
        for k in range(3):
            b.box((width * 0.22 * (k - 1), y, middle), (0.035, 0.02, back - 0.07), frame)
    if draw.chance(0.3):
        b.support((0, -0.03), (width * 0.6, depth * 0.6), seat + (0.1 if cover is not frame else 0.04))


def stool(draw: Draw, b: Builder) -> None:
    """A round or square seat on three or four legs or on one column."""
    radius, height = draw.uniform(0.16, 0.22), draw.uniform(0.4, 0.72)
    frame, seat = frame_material(draw), draw.pick((wood, fabric, paint))(draw)
    if draw.chance(0.35):
        b.cylinder((0, 0, 0.015), radius, 0.03, frame)
        b.cylinder((0, 0, height / 2), 0.025, height - 0.04, frame)
    else:
        legs(draw, b, (radius * 1.5, radius * 1.5), height, 0.04, frame)
        for y in (-0.62, 0.62):
            b.box((0, radius * y, height * 0.35), (radius * 1.4, 0.025, 0.025), frame)
    if draw.chance(0.7):
        b.cylinder((0, 0, height + 0.025), radius, 0.05, seat)
    else:
        b.cushion((0, 0, height + 0.035), (2 * radius, 2 * radius, 0.09), seat)
    b.support((0, 0), (radius, radius), height + (0.05 if radius else 0))


def armchair(draw: Draw, b: Builder) -> None:
    """An upholstered seat for one, with arms."""
    _upholstered(draw, b, draw.uniform(0.75, 0.95), 1)


def sofa(draw: Draw, b: Builder) -> None:
    """An upholstered seat for two or three, with arms and loose cushions."""
    places = draw.integer(2, 3)
    _upholstered(draw, b, places * draw.uniform(0.58, 0.7) + 0.3, places)


def _upholstered(draw: Draw, b: Builder, width: Number, places: int) -> None:
    depth, seat, back = draw.uniform(0.78, 0.95), draw.uniform(0.38, 0.46), draw.uniform(0.72, 0.95)
    arm, arm_height = draw.uniform(0.12, 0.2), draw.uniform(0.54, 0.68)
    cover, foot = fabric(draw), frame_material(draw)
    seats = cover if draw.chance(0.6) else fabric(draw)
    legs(draw, b, (width * 0.94, depth * 0.92), 0.1, 0.06, foot)
    b.box((0, 0, 0.1 + (seat - 0.24) / 2 + 0.02), (width - 0.02, depth - 0.02, seat - 0.2), cover)
    inner = width - 2 * arm
    for x in (-(width - arm) / 2, (width - arm) / 2):
        b.cushion((x, -0.005, 0.08 + arm_height / 2), (arm, depth, arm_height - 0.02), cover)
    b.cushion((0, depth / 2 - 0.11, back / 2 + 0.1), (inner + 0.06, 0.22, back - 0.12), cover)
    for k in range(places):
        x = inner * ((k + 0.5) / places - 0.5)
        b.cushion((x, -0.09, seat - 0.02), (inner / places - 0.01, depth - 0.22, 0.17), seats)
        b.cushion((x, depth / 2 - 0.24, seat + 0.23), (inner / places - 0.02, 0.18, 0.4), seats, rotation_x(-0.15))
    b.support((0, -0.16), (inner * 0.8, 0.32), seat + 0.055)


def bench(draw: Draw, b: Builder) -> None:
    """A long plank on two trestles, with or without a cushion."""
    width, depth, height = draw.uniform(0.9, 1.4), draw.uniform(0.3, 0.42), draw.uniform(0.4, 0.5)
    frame = frame_material(draw)
    b.box((0, 0, height - 0.025), (width, depth, 0.05), frame)
    for x in (-width * 0.4, width * 0.4):
        b.box((x, 0, (height - 0.05) / 2), (0.06, depth * 0.85, height - 0.05), frame)
    b.box((0, 0, height * 0.35), (width * 0.76, 0.04, 0.08), frame)
    top = height
    if draw.chance(0.5):
        b.cushion((0, 0, height + 0.04), (width * 0.96, depth * 0.95, 0.09), fabric(draw))
        top = height + 0.083
    b.support((0, 0), (width * 0.8, depth * 0.6), top)


def bed(draw: Draw, b: Builder) -> None:
    """Frame, mattress, blanket, head board and pillows; the head is at the back."""
    width, length = draw.pick((0.95, 1.25, 1.6)) + draw.signed(0.06), draw.uniform(1.95, 2.1)
    height, head = draw.uniform(0.26, 0.4), draw.uniform(0.75, 1.15)
    frame, sheet = frame_material(draw), neutral(draw, 0.75, 0.97)
    legs(draw, b, (width, length), 0.14, 0.08, frame)
    b.box((0, 0, (0.12 + height) / 2), (width, length, height - 0.1), frame)
    b.cushion((0, -0.02, height + 0.07), (width * 0.98, length * 0.97, 0.24), sheet)
    share = draw.uniform(0.5, 0.72)
    b.cushion((0, -length * (0.99 - share) / 2, height + 0.11), (width * 1.03, length * share, 0.22), fabric(draw))
    b.box((0, length / 2 - 0.02, head / 2), (width + 0.06, 0.06, head), frame)
    if draw.chance(0.4):
        b.box((0, -length / 2 + 0.0, height / 2 + 0.1), (width + 0.04, 0.05, height + 0.2), frame)
    pillows, case = (1 if width < 1.1 else 2), fabric(draw)
    for k in range(pillows):
        x = width * ((k + 0.5) / pillows - 0.5)
        b.cushion((x, length / 2 - 0.28, height + 0.24), (width / pillows * 0.8, 0.4, 0.15), case, rotation_x(0.2))
    b.support((0, -length * 0.15), (width * 0.7, length * 0.4), height + 0.215)
