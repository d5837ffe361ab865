"""Small things that stand on furniture. Each function builds one object in a `Builder`."""

from __future__ import annotations

from tokengroups.data.procedural.draw import Draw, product, rotation_x, rotation_y, rotation_z
from tokengroups.data.procedural.shapes import Builder
from tokengroups.data.procedural.textures import (
    Material,
    ceramic,
    fabric,
    glowing,
    hue_colour,
    leaf,
    metal,
    neutral,
    paint,
    wood,
)


def cup(draw: Draw, b: Builder) -> None:
    """A mug with a handle."""
    radius, height, glaze = draw.uniform(0.045, 0.06), draw.uniform(0.1, 0.14), ceramic(draw)
    b.lathe(
        (0, 0, 0),
        [
            (0.0, 0.001),
            (radius * 0.85, 0.001),
            (radius, height),
            (radius * 0.86, height),
            (radius * 0.8, 0.02),
            (0, 0.02),
        ],
        glaze,
    )
    b.ring((radius * 1.25, 0, height * 0.52), height * 0.27, 0.016, glaze, rotation_x(1.5707963268))


def bottle(draw: Draw, b: Builder) -> None:
    """Body, shoulder, neck, cap and label."""
    r, h, material = draw.uniform(0.04, 0.06), draw.uniform(0.24, 0.36), paint(draw)
    profile = [(r * 0.9, 0), (r, 0.01), (r, h * 0.55), (r * 0.4, h * 0.75), (r * 0.35, h * 0.92), (0, h * 0.92)]
    b.lathe((0, 0, 0), profile, material)
    b.cylinder((0, 0, h * 0.94), r * 0.45, h * 0.1, neutral(draw))
    b.cylinder((0, 0, h * 0.3), r * 1.03, h * 0.25, paint(draw, light=True))


def vase(draw: Draw, b: Builder) -> None:
    """A turned vase, half of them with flowers."""
    r, h = draw.uniform(0.06, 0.1), draw.uniform(0.2, 0.34)
    waist, mouth = draw.uniform(0.35, 0.6), draw.uniform(0.45, 0.9)
    profile = [(r * 0.6, 0), (r, h * 0.3), (r * 0.9, h * 0.5), (r * waist, h * 0.8), (r * mouth, h), (0, h * 0.97)]
    b.lathe((0, 0, 0), profile, ceramic(draw))
    if draw.chance(0.5):
        green, petals = leaf(draw), paint(draw)
        for k in range(5):
            turn = product(rotation_z(k * 1.3), rotation_y(draw.uniform(0.1, 0.5)))
            tip = turn[:, 2] * h * 0.6
            b.cylinder((tip[0] / 2, tip[1] / 2, h + tip[2] / 2 - 0.02), 0.008, h * 0.6, green, turn=turn)
            b.ball((tip[0], tip[1], h + tip[2] - 0.02), (0.075, 0.075, 0.06), petals)


def bowl(draw: Draw, b: Builder) -> None:
    """A bowl, half of them with fruit."""
    r, h = draw.uniform(0.12, 0.17), draw.uniform(0.07, 0.11)
    profile = [
        (0, 0.001),
        (r * 0.5, 0.001),
        (r * 0.85, h * 0.5),
        (r, h),
        (r * 0.94, h),
        (r * 0.7, h * 0.4),
        (0, h * 0.2),
    ]
    b.lathe((0, 0, 0), profile, ceramic(draw))
    if draw.chance(0.5):
        for k in range(4):
            where = product(rotation_z(k * 1.57), (r * 0.42, 0.0, h * 0.85))
            b.ball(where, (r * 0.62,) * 3, paint(draw))


def books(draw: Draw, b: Builder) -> None:
    """A stack of lying books."""
    low = 0.0
    for _ in range(draw.integer(3, 5)):
        thickness = draw.uniform(0.03, 0.055)
        size = (draw.uniform(0.2, 0.3), draw.uniform(0.16, 0.22), thickness)
        turn, cover = rotation_z(draw.signed(0.25)), paint(draw)
        b.box((0, 0, low + thickness / 2), size, cover, turn)
        b.box(
            (0, 0, low + thickness / 2),
            (size[0] - 0.02, size[1] + 0.004, thickness * 0.7),
            neutral(draw, 0.8, 0.95),
            turn,
        )
        low += thickness + 0.0005


def monitor(draw: Draw, b: Builder) -> None:
    """A flat screen on a foot, on or off."""
    width, frame = draw.uniform(0.5, 0.75), neutral(draw, 0.05, 0.3)
    height = width * 0.6
    b.box((0, 0, 0.0075), (width * 0.4, 0.2, 0.015), frame)
    b.box((0, 0.03, 0.12), (0.06, 0.03, 0.22), frame)
    b.box((0, 0, 0.12 + height / 2), (width, 0.04, height), frame)
    b.box((0, -0.021, 0.12 + height / 2), (width - 0.04, 0.006, height - 0.04), _screen(draw))


def _screen(draw: Draw) -> Material:
    if draw.chance(0.4):
        return neutral(draw, 0.05, 0.15)
    first = hue_colour(draw.uniform(), draw.uniform(0.3, 0.9), draw.uniform(0.4, 0.9))
    return glowing(first, 0.7, hue_colour(draw.uniform(), 0.4, 0.9))


def laptop(draw: Draw, b: Builder) -> None:
    """An open laptop."""
    width, body = draw.uniform(0.32, 0.4), metal(draw)
    depth = width * 0.68
    b.box((0, 0, 0.011), (width, depth, 0.022), body)
    b.box((0, 0.02, 0.0225), (width * 0.88, depth * 0.55, 0.004), neutral(draw, 0.05, 0.2))
    turn = rotation_x(-0.3)
    rise = product(turn, (0, 0, depth / 2))
    hinge = depth / 2 - 0.01
    b.box((0, hinge + rise[1], 0.02 + rise[2]), (width, 0.012, depth), body, turn)
    face = product(turn, (0, -0.007, 0))
    b.box(
        (0, hinge + rise[1] + face[1], 0.02 + rise[2] + face[2]),
        (width * 0.92, 0.004, depth * 0.88),
        _screen(draw),
        turn,
    )


def pillow(draw: Draw, b: Builder) -> None:
    """A cushion leaning back."""
    size = draw.uniform(0.34, 0.46)
    b.cushion((0, 0, size * 0.46), (size, 0.16, size * 0.95), fabric(draw), rotation_x(-0.35))


def speaker(draw: Draw, b: Builder) -> None:
    """A loudspeaker with two cones."""
    width, depth, height = draw.uniform(0.16, 0.22), draw.uniform(0.16, 0.22), draw.uniform(0.28, 0.42)
    body, cone = draw.pick((wood, neutral, paint))(draw), neutral(draw, 0.05, 0.2)
    b.box((0, 0, height / 2), (width, depth, height), body)
    for z, share in ((0.32, 0.8), (0.74, 0.5)):
        b.ball((0, -depth / 2, height * z), (width * share, 0.03, width * share), cone)
        b.ball((0, -depth / 2 - 0.008, height * z), (width * share * 0.4, 0.03, width * share * 0.4), metal(draw))


def clock(draw: Draw, b: Builder) -> None:
    """A standing table clock: rim, face, hands and feet."""
    size, rim = draw.uniform(0.16, 0.24), draw.pick((metal, paint, wood))(draw)
    upright = rotation_x(1.5707963268)
    b.cylinder((0, 0, size * 0.56), size / 2, 0.06, rim, turn=upright)
    b.cylinder((0, -0.022, size * 0.56), size * 0.42, 0.03, neutral(draw, 0.8, 0.97), turn=upright)
    b.box((0, -0.039, size * 0.66), (0.012, 0.004, size * 0.26), neutral(draw, 0.05, 0.2))
    b.box((size * 0.08, -0.039, size * 0.56), (size * 0.2, 0.004, 0.012), neutral(draw, 0.05, 0.2))
    for x in (-size * 0.3, size * 0.3):
        b.box((x, 0, size * 0.08), (0.04, 0.06, size * 0.16), rim)
