"""The room itself: floor, ceiling, four walls, and the doors, windows and pictures on them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tokengroups.data.procedural.cameras import WalkArea
from tokengroups.data.procedural.draw import Draw, rotation_z
from tokengroups.data.procedural.footprints import Rectangle
from tokengroups.data.procedural.shapes import Builder, Solid, Soup, rotate
from tokengroups.data.procedural.textures import (
    Material,
    artwork,
    floor_finish,
    glowing,
    hue_colour,
    metal,
    neutral,
    paint,
    wall_finish,
    wood,
)

Part = tuple[str, Solid, bool]  # class, triangles, throws shadows
OVERLAP_M = 0.05  # walls reach behind each other so that no ray slips through a corner


@dataclass(frozen=True)
class Shell:
    """An empty room: inner size, instances in order of their ids, floor to keep free, where to walk."""

    size: tuple[float, float, float]
    parts: list[Part]
    blocked: list[Rectangle]
    area: WalkArea


@dataclass(frozen=True)
class WallFrame:
    """A wall seen from inside: x runs along it, -y points into the room, z up."""

    angle: float
    origin: tuple[float, float]  # its left lower end, seen from inside
    length: float

    def at(self, along: float, into: float = 0.0) -> np.ndarray:
        """The floor point [3] so far along the wall and so far from it into the room."""
        return rotate(np.array([along, -into, 0.0]), rotation_z(self.angle)) + np.array([*self.origin, 0.0])


def build_shell(draw: Draw) -> Shell:
    """Draw a room of 3.0-4.6 x 3.6-5.0 m, its surfaces, and two to six fixtures on the walls."""
    width, depth, height = draw.uniform(3.0, 4.6), draw.uniform(3.6, 5.0), draw.uniform(2.4, 2.9)
    walls = {
        "back": WallFrame(0.0, (0.0, depth), width),
        "left": WallFrame(math.pi / 2, (0.0, 0.0), depth),
        "right": WallFrame(-math.pi / 2, (width, depth), depth),
        "front": WallFrame(math.pi, (width, 0.0), width),
    }
    floor, ceiling = floor_finish(draw), neutral(draw, 0.8, 0.97)
    parts: list[Part] = [
        ("floor", _sheet(width, depth, 0.0, floor), False),
        ("ceiling", _sheet(width, depth, height, ceiling), False),
    ]
    common = wall_finish(draw)
    for frame in walls.values():
        finish = common if draw.chance(0.7) else wall_finish(draw)
        parts.append(("wall", _wall(frame, height, finish), False))
    blocked: list[Rectangle] = []
    for side, frame in walls.items():
        _fixtures(draw, frame, parts, blocked, at_least_one=side == "back")
    focus = (width * 0.5 + draw.signed(0.12 * width), depth * 0.7)
    area = WalkArea((0.4, 0.35), (width - 0.4, 0.42 * depth), focus, draw.uniform(1.2, 1.6))
    return Shell((width, depth, height), parts, blocked, area)


def _sheet(width: float, depth: float, z: float, material: Material) -> Solid:
    """A horizontal rectangle facing the room's inside; texture coordinates in metres from the corner."""
    x, y, e = width + OVERLAP_M, depth + OVERLAP_M, -OVERLAP_M
    a, b, c, d = (e, e, z), (x, e, z), (x, y, z), (e, y, z)
    corners = np.array([[a, b, c], [a, c, d]])
    normals = np.zeros_like(corners)
    normals[..., 2] = 1.0 if z == 0 else -1.0
    return _uniform(Soup(corners, normals, corners), material)


def _uniform(soup: Soup, material: Material) -> Solid:
    return Solid(soup, np.tile(np.array(material.row(), np.float32), (len(soup.corners), 1)))


def _wall(frame: WallFrame, height: float, material: Material) -> Solid:
    low, x, z = -OVERLAP_M, frame.length + OVERLAP_M, height + OVERLAP_M
    a, b, c, d = (low, 0.0, low), (x, 0.0, low), (x, 0.0, z), (low, 0.0, z)
    local = np.array([[a, b, c], [a, c, d]])
    normals = np.zeros_like(local)
    normals[..., 1] = -1.0
    return _uniform(Soup(local, normals, local), material).placed(rotation_z(frame.angle), frame.at(0.0))


def _fixtures(draw: Draw, frame: WallFrame, parts: list[Part], blocked: list[Rectangle], *, at_least_one: bool) -> None:
    """Put doors, windows and pictures side by side on a wall until it is full or the dice say stop."""
    x = draw.uniform(0.2, 0.8)
    count = draw.integer(1 if at_least_one else 0, 3)
    has_door = any(name == "door" for name, *_ in parts)
    for _ in range(count):
        kind = draw.pick(("window", "picture", "picture", "door"))
        if kind == "door" and has_door:
            kind = "picture"
        builder = Builder()
        width = {"window": _window, "picture": _picture, "door": _door}[kind](draw, builder)
        if x + width > frame.length - 0.15:
            return
        solid = builder.solid().placed(rotation_z(frame.angle), frame.at(x + width / 2))
        parts.append((kind, solid, True))
        if kind == "door":
            has_door = True
            middle = frame.at(x + width / 2, 0.3)
            blocked.append(Rectangle((float(middle[0]), float(middle[1])), (width / 2, 0.3), frame.angle))
        x += width + draw.uniform(0.15, 0.9)


def _door(draw: Draw, b: Builder) -> float:
    width, height, leaf = (draw.uniform(0.8, 0.95), draw.uniform(1.98, 2.1), draw.pick((wood, neutral, paint))(draw))
    frame = leaf if draw.chance(0.4) else draw.pick((wood, neutral))(draw)
    b.box((0, -0.01, height / 2), (width - 0.1, 0.03, height - 0.05), leaf)
    for x in (-width / 2 + 0.035, width / 2 - 0.035):
        b.box((x, -0.012, height / 2), (0.07, 0.055, height), frame)
    b.box((0, -0.012, height - 0.035), (width - 0.14, 0.055, 0.07), frame)
    if draw.chance(0.6):
        for low, high in ((0.1, 0.45), (0.52, 0.92)):
            b.box((0, -0.028, height * (low + high) / 2), (width * 0.6, 0.012, height * (high - low)), frame)
    b.ball((width * 0.36, -0.05, 1.02), (0.06, 0.05, 0.06), metal(draw))
    return width


def _window(draw: Draw, b: Builder) -> float:
    width, height, sill = draw.uniform(0.8, 1.5), draw.uniform(0.85, 1.25), draw.uniform(0.85, 1.05)
    frame = draw.pick((wood, neutral))(draw)
    sky = hue_colour(draw.uniform(0.5, 0.62), draw.uniform(0.1, 0.6), draw.uniform(0.75, 1.0))
    land = hue_colour(draw.uniform(0.2, 0.6), draw.uniform(0.1, 0.5), draw.uniform(0.5, 0.95))
    middle = sill + height / 2
    b.box((0, -0.002, middle), (width - 0.06, 0.012, height - 0.06), glowing(sky, draw.uniform(0.4, 0.75), land))
    for x in (-width / 2 + 0.035, width / 2 - 0.035):
        b.box((x, -0.012, middle), (0.07, 0.05, height), frame)
    for z in (sill + 0.035, sill + height - 0.035):
        b.box((0, -0.012, z), (width - 0.14, 0.05, 0.07), frame)
    bars = draw.integer(0, 2)
    for k in range(bars):
        b.box((width * ((k + 1) / (bars + 1) - 0.5), -0.011, middle), (0.045, 0.04, height - 0.14), frame)
    b.box((0, -0.025, sill - 0.015), (width + 0.1, 0.05, 0.03), frame)
    return width + 0.1


def _picture(draw: Draw, b: Builder) -> float:
    width, height, z = draw.uniform(0.4, 0.95), draw.uniform(0.35, 0.75), draw.uniform(1.4, 1.65)
    frame = draw.pick((wood, metal, neutral, paint))(draw)
    border = draw.uniform(0.03, 0.06)
    b.box((0, -0.012, z), (width, 0.03, height), frame)
    inner = (width - 2 * border, 0.01, height - 2 * border)
    if draw.chance(0.5):
        b.box((0, -0.025, z), inner, neutral(draw, 0.8, 0.97))
        inner = (inner[0] * 0.78, 0.016, inner[2] * 0.78)
    b.box((0, -0.025, z), inner, artwork(draw))
    return width
