"""Lamps, plants, containers, carpets and toys. Each function builds one object in a `Builder`."""

from __future__ import annotations

from tokengroups.data.procedural.draw import Draw, Number, product, rotation_x, rotation_y, rotation_z
from tokengroups.data.procedural.shapes import Builder
from tokengroups.data.procedural.textures import ceramic, fabric, glowing, hue_colour, leaf, metal, neutral, paint, wood


def floor_lamp(draw: Draw, b: Builder) -> None:
    """A foot, a pole and a large shade."""
    _lamp(draw, b, draw.uniform(1.3, 1.7), draw.uniform(0.16, 0.25), 0.02)


def table_lamp(draw: Draw, b: Builder) -> None:
    """A foot, a bulbous or straight stem and a shade."""
    _lamp(draw, b, draw.uniform(0.38, 0.58), draw.uniform(0.11, 0.17), 0.016)


def _lamp(draw: Draw, b: Builder, height: Number, radius: Number, pole: Number) -> None:
    stand = draw.pick((metal, wood, paint))(draw)
    shade_height = radius * draw.uniform(1.1, 1.6)
    b.cylinder((0, 0, 0.015), radius * 0.75, 0.03, stand, top=0.8)
    b.cylinder((0, 0, (height - shade_height) / 2 + 0.03), pole, height - shade_height, stand)
    if height < 1 and draw.chance(0.6):
        stem = height - shade_height
        b.ball((0, 0, stem * 0.5), (radius, radius, stem * 0.8), ceramic(draw))
    tint = hue_colour(draw.uniform(), draw.uniform(0.05, 0.5), draw.uniform(0.75, 1.0))
    shade = glowing(tint, draw.uniform(0.15, 0.5))
    b.cylinder((0, 0, height - shade_height / 2), radius, shade_height, shade, top=draw.uniform(0.5, 1.0))


def plant(draw: Draw, b: Builder) -> None:
    """A pot with a trunk and a crown, or with long leaves."""
    _plant(draw, b, draw.uniform(0.13, 0.2), draw.uniform(0.7, 1.4))


def potted_plant(draw: Draw, b: Builder) -> None:
    """The small one for table and sill."""
    _plant(draw, b, draw.uniform(0.07, 0.1), draw.uniform(0.28, 0.42))


def _plant(draw: Draw, b: Builder, radius: Number, height: Number) -> None:
    pot, green = draw.pick((ceramic, wood, paint))(draw), leaf(draw)
    pot_height = radius * draw.uniform(1.4, 2.0)
    b.cylinder((0, 0, pot_height / 2), radius * 0.75, pot_height, pot, top=1.33)
    b.cylinder((0, 0, pot_height - 0.004), radius * 0.9, 0.02, neutral(draw, 0.12, 0.25))
    crown = height - pot_height
    if draw.chance(0.5):
        b.cylinder((0, 0, pot_height + crown * 0.25), radius * 0.12, crown * 0.5, wood(draw))
        for k in range(draw.integer(3, 5)):
            where = draw.point((-0.7, -0.7, 0.35), (0.7, 0.7, 0.85))
            size = crown * draw.uniform(0.3, 0.45)
            centre = (where[0] * radius * 1.2, where[1] * radius * 1.2, pot_height + crown * where[2] * 0.9)
            b.ball(centre, (size, size, size * 0.85), green if k % 2 else leaf(draw))
        return
    for k in range(draw.integer(6, 9)):
        turn = product(rotation_z(k * 0.83 + draw.signed(0.2)), rotation_y(draw.uniform(0.15, 0.7)))
        length = crown * draw.uniform(0.75, 1.0)
        tip = turn[:, 2] * length / 2
        b.ball((tip[0], tip[1], pot_height + tip[2] - 0.01), (radius * 0.22, radius * 0.6, length), green, turn)


def bin_(draw: Draw, b: Builder) -> None:
    """A waste bin, open or with a lid."""
    radius, height, material = (draw.uniform(0.12, 0.18), draw.uniform(0.28, 0.45), draw.pick((metal, paint))(draw))
    widen = draw.uniform(1.0, 1.3)
    b.cylinder((0, 0, height / 2), radius / widen, height, material, top=widen)
    if draw.chance(0.5):
        b.ball((0, 0, height), (radius * 2, radius * 2, 0.12), neutral(draw))
    else:
        b.ring((0, 0, height), radius, 0.025, material)
        b.cylinder((0, 0, height + 0.002), radius * 0.93, 0.004, neutral(draw, 0.05, 0.15))


def suitcase(draw: Draw, b: Builder) -> None:
    """An upright trolley case with ribs, wheels and a handle."""
    width, depth, height = draw.uniform(0.36, 0.5), draw.uniform(0.2, 0.28), draw.uniform(0.5, 0.72)
    shell, trim = paint(draw), neutral(draw, 0.1, 0.4)
    b.cushion((0, 0, height / 2 + 0.05), (width, depth, height), shell)
    for k in range(3):
        b.box((width * 0.25 * (k - 1), 0, height / 2 + 0.05), (0.03, depth + 0.012, height * 0.86), trim)
    for x in (-width * 0.36, width * 0.36):
        b.cylinder((x, 0, 0.03), 0.035, 0.06, trim)
    for x in (-width * 0.2, width * 0.2):
        b.box((x, depth * 0.25, height + 0.14), (0.02, 0.02, 0.22), metal(draw))
    b.box((0, depth * 0.25, height + 0.26), (width * 0.4 + 0.05, 0.035, 0.035), trim)


def carton(draw: Draw, b: Builder) -> None:
    """A cardboard or plastic box with a lid or a strip of tape."""
    width, depth, height = draw.uniform(0.28, 0.5), draw.uniform(0.24, 0.4), draw.uniform(0.2, 0.42)
    body = wood(draw) if draw.chance(0.4) else paint(draw, light=draw.chance(0.5))
    b.box((0, 0, height / 2), (width, depth, height), body)
    if draw.chance(0.5):
        b.box((0, 0, height - 0.02), (width + 0.025, depth + 0.025, 0.06), paint(draw))
        top = height + 0.01
    else:
        b.box((0, 0, height / 2), (0.06, depth + 0.006, height + 0.006), neutral(draw, 0.4, 0.8))
        top = height + 0.003
    b.support((0, 0), (width * 0.7, depth * 0.7), top)


def basket(draw: Draw, b: Builder) -> None:
    """A round basket with rings and two handles."""
    radius, height = draw.uniform(0.16, 0.24), draw.uniform(0.2, 0.34)
    weave = wood(draw) if draw.chance(0.6) else fabric(draw)
    b.cylinder((0, 0, height / 2), radius * 0.85, height, weave, top=1.15)
    for k in range(3):
        b.ring((0, 0, height * (0.35 + 0.32 * k)), radius * (0.9 + 0.035 * k), 0.04, weave)
    b.cylinder((0, 0, height + 0.003), radius * 0.92, 0.006, neutral(draw, 0.1, 0.3))
    upright = rotation_y(1.5707963268)
    for x in (-radius, radius):
        b.ring((x, 0, height), radius * 0.35, 0.035, weave, upright)


def rug(draw: Draw, b: Builder) -> None:
    """A carpet with a border."""
    width, depth = draw.uniform(1.2, 2.0), draw.uniform(0.9, 1.4)
    b.box((0, 0, 0.005), (width, depth, 0.01), fabric(draw))
    b.box((0, 0, 0.0075), (width - 0.16, depth - 0.16, 0.013), fabric(draw))


def toy_ball(draw: Draw, b: Builder) -> None:
    """A ball in one or two colours."""
    size = draw.uniform(0.18, 0.3)
    b.ball((0, 0, size / 2), (size,) * 3, fabric(draw))
    b.ring((0, 0, size / 2), size * 0.485, 0.05 * size, paint(draw), rotation_x(draw.signed(0.8)))


def teddy(draw: Draw, b: Builder) -> None:
    """A sitting soft toy: body, head, ears, arms, legs, snout."""
    s = draw.uniform(0.3, 0.45)
    fur, pale = fabric(draw), neutral(draw, 0.6, 0.9)
    b.ball((0, 0, s * 0.3), (s * 0.5, s * 0.45, s * 0.6), fur)
    b.ball((0, -s * 0.02, s * 0.74), (s * 0.46, s * 0.44, s * 0.42), fur)
    b.ball((0, -s * 0.22, s * 0.68), (s * 0.2, s * 0.14, s * 0.15), pale)
    for x in (-1, 1):
        b.ball((x * s * 0.18, 0, s * 0.95), (s * 0.16, s * 0.09, s * 0.16), fur)
        b.ball((x * s * 0.27, -s * 0.1, s * 0.42), (s * 0.16, s * 0.3, s * 0.16), fur)
        b.ball((x * s * 0.18, -s * 0.28, s * 0.1), (s * 0.2, s * 0.4, s * 0.2), fur)
