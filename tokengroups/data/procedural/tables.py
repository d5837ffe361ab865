"""Tables, storage and appliances. Each function builds one object with random proportions in a `Builder`."""

from __future__ import annotations

from tokengroups.data.procedural.draw import Draw, Number
from tokengroups.data.procedural.seating import frame_material, legs
from tokengroups.data.procedural.shapes import Builder
from tokengroups.data.procedural.textures import Material, metal, neutral, paint, wood


def table(draw: Draw, b: Builder) -> None:
    """A dining table: rectangular on legs, or round on a column."""
    _table(draw, b, draw.uniform(0.9, 1.5), draw.uniform(0.7, 0.9), draw.uniform(0.7, 0.78), 0.35)


def coffee_table(draw: Draw, b: Builder) -> None:
    """A low table, sometimes with a lower shelf."""
    _table(draw, b, draw.uniform(0.7, 1.1), draw.uniform(0.45, 0.65), draw.uniform(0.36, 0.48), 0.25)


def _table(draw: Draw, b: Builder, width: Number, depth: Number, height: Number, round_share: Number) -> None:
    top, frame = draw.pick((wood, wood, paint, neutral))(draw), frame_material(draw)
    if draw.chance(round_share):
        radius = depth * 0.62
        b.cylinder((0, 0, height - 0.02), radius, 0.04, top)
        b.cylinder((0, 0, height / 2), 0.05, height - 0.06, frame)
        b.cylinder((0, 0, 0.02), radius * 0.55, 0.04, frame, top=0.7)
        b.support((0, 0), (radius * 1.2, radius * 1.2), height)
        return
    b.box((0, 0, height - 0.02), (width, depth, 0.04), top)
    legs(draw, b, (width * 0.95, depth * 0.93), height - 0.04, draw.uniform(0.045, 0.08), frame)
    for y in (-depth * 0.42, depth * 0.42):
        b.box((0, y, height - 0.08), (width * 0.86, 0.025, 0.08), frame)
    if height < 0.5 and draw.chance(0.5):
        b.box((0, 0, height * 0.35), (width * 0.88, depth * 0.84, 0.025), top)
    b.support((0, 0), (width * 0.88, depth * 0.84), height)


def desk(draw: Draw, b: Builder) -> None:
    """A work table with a block of drawers on one side."""
    width, depth, height = draw.uniform(1.0, 1.5), draw.uniform(0.55, 0.7), draw.uniform(0.71, 0.77)
    top, frame = draw.pick((wood, neutral, paint))(draw), frame_material(draw)
    side = draw.pick((-1, 1))
    b.box((0, 0, height - 0.02), (width, depth, 0.04), top)
    b.box((-side * (width / 2 - 0.03), 0, (height - 0.04) / 2), (0.05, depth * 0.94, height - 0.04), frame)
    block = width * draw.uniform(0.28, 0.36)
    x = side * (width / 2 - block / 2 - 0.01)
    body, front = frame, draw.pick((wood, paint, neutral))(draw)
    b.box((x, 0.01, (height - 0.04) / 2), (block, depth * 0.92, height - 0.04), body)
    _drawers(draw, b, x, -depth * 0.46 + 0.01, block, 0.05, height - 0.06, front, draw.integer(2, 4), 1)
    b.box((0, depth * 0.4, height * 0.7), (width * 0.9, 0.02, height * 0.35), frame)
    b.support((0, 0), (width * 0.88, depth * 0.8), height)


def _drawers(
    draw: Draw, b: Builder, x: Number, y: Number, width: Number, low: Number, high: Number,
    front: Material, rows: int, columns: int,
) -> None:  # fmt: skip
    """Fronts with handles on the plane y (the body's front), `rows` by `columns` of them."""
    handle, knobs = metal(draw), draw.chance(0.5)
    height, cell = (high - low) / rows, width / columns
    for row in range(rows):
        for column in range(columns):
            centre_x, centre_z = x - width / 2 + cell * (column + 0.5), low + height * (row + 0.5)
            b.box((centre_x, y - 0.008, centre_z), (cell - 0.03, 0.016, height - 0.03), front)
            if knobs:
                b.ball((centre_x, y - 0.03, centre_z), (0.035, 0.035, 0.035), handle)
            else:
                b.box((centre_x, y - 0.03, centre_z + height * 0.2), (min(0.16, cell * 0.5), 0.02, 0.02), handle)


def nightstand(draw: Draw, b: Builder) -> None:
    """A small cabinet with two drawers."""
    width, depth, height = draw.uniform(0.38, 0.52), draw.uniform(0.34, 0.44), draw.uniform(0.45, 0.6)
    _chest(draw, b, (width, depth, height), 2, 1)


def dresser(draw: Draw, b: Builder) -> None:
    """A wide chest of drawers."""
    width, depth, height = draw.uniform(0.8, 1.3), draw.uniform(0.4, 0.5), draw.uniform(0.75, 1.05)
    _chest(draw, b, (width, depth, height), draw.integer(3, 4), draw.integer(1, 2))


def tv_stand(draw: Draw, b: Builder) -> None:
    """A long low cabinet."""
    _chest(draw, b, (draw.uniform(1.1, 1.6), draw.uniform(0.38, 0.46), draw.uniform(0.42, 0.55)), 1, 3)


def _chest(draw: Draw, b: Builder, size: tuple[float, float, float], rows: int, columns: int) -> None:
    width, depth, height = size
    body = draw.pick((wood, wood, neutral, paint))(draw)
    front = body if draw.chance(0.4) else draw.pick((wood, paint, neutral))(draw)
    foot = draw.uniform(0.05, 0.13)
    legs(draw, b, (width * 0.95, depth * 0.9), foot, 0.045, frame_material(draw))
    b.box((0, 0, (foot + height - 0.025) / 2), (width, depth, height - foot - 0.025), body)
    b.box((0, -0.008, height - 0.0125), (width + 0.02, depth + 0.035, 0.025), body)
    _drawers(draw, b, 0, -depth / 2, width, foot + 0.01, height - 0.035, front, rows, columns)
    b.support((0, 0), (width * 0.88, depth * 0.75), height)


def wardrobe(draw: Draw, b: Builder) -> None:
    """A tall cupboard with two or three doors."""
    doors = draw.integer(2, 3)
    width, depth, height = doors * draw.uniform(0.42, 0.52), draw.uniform(0.5, 0.62), draw.uniform(1.7, 2.1)
    body, handle = draw.pick((wood, neutral, paint))(draw), metal(draw)
    front = body if draw.chance(0.4) else draw.pick((wood, neutral, paint))(draw)
    b.box((0, 0.01, 0.04), (width * 0.96, depth * 0.92, 0.08), handle)
    b.box((0, 0, (height + 0.08) / 2), (width, depth, height - 0.08), body)
    b.box((0, -0.01, height + 0.02), (width + 0.05, depth + 0.05, 0.04), body)
    for k in range(doors):
        x = width * ((k + 0.5) / doors - 0.5)
        b.box((x, -depth / 2 - 0.01, height / 2 + 0.04), (width / doors - 0.025, 0.02, height - 0.14), front)
        side = 1 if k % 2 == 0 else -1
        b.box((x + side * width / doors * 0.36, -depth / 2 - 0.035, height / 2), (0.022, 0.03, 0.28), handle)


def cabinet(draw: Draw, b: Builder) -> None:
    """A cupboard of hip height with doors."""
    width, depth, height = draw.uniform(0.7, 1.1), draw.uniform(0.38, 0.5), draw.uniform(0.85, 1.25)
    body, handle = draw.pick((wood, neutral, paint))(draw), metal(draw)
    front = draw.pick((wood, neutral, paint))(draw)
    b.box((0, 0, height / 2), (width, depth, height), body)
    b.box((0, -0.01, height + 0.015), (width + 0.03, depth + 0.04, 0.03), body)
    for side in (-1, 1):
        b.box((side * width / 4, -depth / 2 - 0.01, height / 2), (width / 2 - 0.03, 0.02, height - 0.08), front)
        b.box((side * width / 4, -depth / 2 - 0.022, height / 2), (width / 2 - 0.15, 0.01, height - 0.22), body)
        b.ball((side * 0.05, -depth / 2 - 0.035, height * 0.55), (0.035, 0.035, 0.035), handle)
    b.support((0, 0), (width * 0.88, depth * 0.75), height + 0.03)


def bookshelf(draw: Draw, b: Builder) -> None:
    """An open shelf, its boards partly filled with rows of books."""
    width, depth, height = draw.uniform(0.6, 1.0), draw.uniform(0.26, 0.34), draw.uniform(1.1, 1.95)
    boards, body = round(height / 0.36), draw.pick((wood, wood, neutral, paint))(draw)
    for x in (-width / 2 + 0.012, width / 2 - 0.012):
        b.box((x, 0, height / 2), (0.024, depth, height), body)
    b.box((0, depth / 2 - 0.006, height / 2), (width - 0.05, 0.01, height - 0.02), body)
    gap = (height - 0.1) / boards
    for k in range(boards + 1):
        b.box((0, -0.002, 0.06 + gap * k), (width - 0.048, depth - 0.01, 0.024), body)
    for k in range(boards):
        _book_row(draw, b, 0.072 + gap * k, width - 0.06, depth, gap - 0.03)
    b.support((0, 0), (width * 0.8, depth * 0.7), 0.072 + gap * boards)


def _book_row(draw: Draw, b: Builder, low: Number, width: Number, depth: Number, room: float) -> None:
    x, end = -width / 2, width / 2 - draw.uniform(0, width * 0.7)
    while x < end - 0.1:
        thickness, height = draw.uniform(0.04, 0.1), room * draw.uniform(0.6, 0.95)
        centre = (x + thickness / 2, draw.uniform(-0.02, 0.01), low + height / 2)
        b.box(centre, (thickness - 0.004, depth * 0.75, height), paint(draw))
        x += thickness


def fridge(draw: Draw, b: Builder) -> None:
    """A refrigerator with two doors, one above the other."""
    width, depth, height = draw.uniform(0.55, 0.7), draw.uniform(0.55, 0.65), draw.uniform(1.45, 1.85)
    body = neutral(draw, 0.55, 0.97) if draw.chance(0.7) else paint(draw)
    handle, split = metal(draw), draw.uniform(0.35, 0.65)
    b.box((0, 0.02, height / 2 + 0.02), (width, depth - 0.06, height - 0.04), neutral(draw, 0.2, 0.5))
    for low, high in ((0.06, split), (split, 1.0)):
        middle, tall = (low + high) / 2 * height, (high - low) * height
        b.cushion((0, -depth / 2 + 0.02, middle), (width, 0.09, tall - 0.015), body)
        b.box((-width * 0.38, -depth / 2 - 0.04, middle), (0.025, 0.03, tall * 0.5), handle)
    b.support((0, 0.03), (width * 0.7, depth * 0.6), height)


def washing_machine(draw: Draw, b: Builder) -> None:
    """A white box with a round window and a control strip."""
    width, depth, height = draw.uniform(0.56, 0.64), draw.uniform(0.5, 0.6), draw.uniform(0.8, 0.9)
    body, rim, glass = neutral(draw, 0.7, 0.97), metal(draw), neutral(draw, 0.1, 0.25)
    front = -depth / 2
    b.box((0, 0, height / 2), (width, depth, height), body)
    b.box((0, front - 0.006, height * 0.88), (width * 0.92, 0.012, height * 0.14), draw.pick((metal, paint))(draw))
    b.ball((0, front - 0.01, height * 0.44), (0.32, 0.12, 0.32), glass)
    b.ball((0, front, height * 0.44), (0.42, 0.06, 0.42), rim)
    b.ball((width * 0.3, front - 0.02, height * 0.88), (0.06, 0.05, 0.06), rim)
    b.support((0, 0), (width * 0.8, depth * 0.75), height)
