"""Procedural solid textures: materials drawn at random, and their colour at points in object space.

A pattern is a function of q = coordinates * frequency + offset, so it is fixed to the object's surface and
shows no seams. Only additions, products, quotients and square roots are used: equal results on every
machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from tokengroups.data.procedural.draw import Draw, Number

PLAIN, WOOD, STRIPES, CHECKER, TILES, DOTS, BLOTCHES = range(7)
Colour = tuple[float, float, float]
ROW_LENGTH = 17


@dataclass(frozen=True)
class Material:
    """Surface of a part: two linear-light colours mixed by a pattern, grain, gloss and glow."""

    colour: Colour
    second: Colour
    pattern: int = PLAIN
    frequency: Colour = (8.0, 8.0, 8.0)  # cycles per metre along x, y, z; 0 = no change along that axis
    offset: Colour = (0.0, 0.0, 0.0)
    grain: float = 0.1  # strength of the fine brightness noise
    gloss: float = 0.0  # strength of the highlight
    glow: float = 0.0  # share of the colour that needs no light (lamp shades, window panes, screens)

    def row(self) -> tuple[float, ...]:
        """The material as one row of the shading table, in `ROW_LENGTH` numbers."""
        offset = (o if f else 0.5 for o, f in zip(self.offset, self.frequency, strict=True))
        return (
            *self.colour, *self.second, *self.frequency, *offset,
            float(self.pattern), self.grain, self.gloss, self.glow, max(self.frequency),
        )  # fmt: skip


def hue_colour(hue: Number, saturation: Number, value: Number) -> Colour:
    """HSV (each in [0, 1]) to linear light, taking gamma 2."""
    channels = [min(max(abs((hue * 6 + shift) % 6 - 3) - 1, 0.0), 1.0) for shift in (0.0, 4.0, 2.0)]
    red, green, blue = ((value * (1 - saturation * (1 - c))) ** 2 for c in channels)
    return red, green, blue


def shade(colour: Colour, factor: Number) -> Colour:
    """The colour made darker (< 1) or lighter, kept below white."""
    red, green, blue = (min(c * factor, 0.95) for c in colour)
    return red, green, blue


def _offset(draw: Draw) -> Colour:
    return draw.uniform(0, 31), draw.uniform(0, 31), draw.uniform(0, 31)


def paint(draw: Draw, *, light: bool = False) -> Material:
    """Even paint or plastic; `light` for pastel tones."""
    saturation, value = (draw.uniform(0.02, 0.3), draw.uniform(0.75, 0.97))
    if not light:
        saturation, value = draw.uniform(0.25, 0.9), draw.uniform(0.3, 0.95)
    colour = hue_colour(draw.uniform(), saturation, value)
    return Material(colour, colour, offset=_offset(draw), grain=0.06, gloss=draw.uniform(0.0, 0.25))


def neutral(draw: Draw, low: Number = 0.15, high: Number = 0.9) -> Material:
    """White, grey or black paint."""
    colour = hue_colour(draw.uniform(), draw.uniform(0, 0.1), draw.uniform(low, high))
    return Material(colour, colour, offset=_offset(draw), grain=0.06, gloss=draw.uniform(0.05, 0.3))


def wood(draw: Draw) -> Material:
    """Veined wood from pale birch to dark walnut."""
    colour = hue_colour(draw.uniform(0.05, 0.11), draw.uniform(0.3, 0.7), draw.uniform(0.3, 0.85))
    across = draw.uniform(12, 30)
    frequency = (across * 0.08, across, across)
    if draw.chance(0.3):
        frequency = (across, across, across * 0.08)
    second = shade(colour, draw.uniform(0.45, 0.75))
    return Material(colour, second, WOOD, frequency, _offset(draw), grain=0.15, gloss=draw.uniform(0, 0.15))


def metal(draw: Draw) -> Material:
    """Grey to black metal with a strong highlight."""
    colour = hue_colour(draw.pick((0.1, 0.6)), draw.uniform(0, 0.25), draw.uniform(0.15, 0.75))
    return Material(colour, colour, offset=_offset(draw), grain=0.05, gloss=draw.uniform(0.3, 0.7))


def fabric(draw: Draw) -> Material:
    """Cloth: plain, striped, checked, dotted or blotched."""
    colour = hue_colour(draw.uniform(), draw.uniform(0.1, 0.85), draw.uniform(0.25, 0.9))
    other = hue_colour(draw.uniform(), draw.uniform(0.05, 0.6), draw.uniform(0.3, 0.95))
    pattern = draw.pick((PLAIN, PLAIN, PLAIN, STRIPES, CHECKER, DOTS, BLOTCHES))
    pitch = draw.uniform(5, 12)
    frequency = (pitch, pitch, pitch)
    if pattern == STRIPES:
        frequency = (pitch, 0.0, 0.0) if draw.chance(0.6) else (0.0, pitch, pitch)
    if pattern == PLAIN:
        frequency, other = (25.0, 25.0, 25.0), shade(colour, 0.7)
    return Material(colour, other, pattern, frequency, _offset(draw), grain=0.25)


def ceramic(draw: Draw) -> Material:
    """Glazed ware, white or strongly coloured, sometimes with bands."""
    colour = hue_colour(draw.uniform(), draw.pick((0.05, 0.8)) * draw.uniform(0.7, 1), draw.uniform(0.5, 0.97))
    other = hue_colour(draw.uniform(), draw.uniform(0.3, 0.9), draw.uniform(0.2, 0.9))
    pattern = STRIPES if draw.chance(0.35) else PLAIN
    return Material(colour, other, pattern, (0.0, 0.0, draw.uniform(8, 20)), _offset(draw), 0.05, 0.45)


def leaf(draw: Draw) -> Material:
    """Plant green."""
    colour = hue_colour(draw.uniform(0.22, 0.42), draw.uniform(0.45, 0.85), draw.uniform(0.25, 0.65))
    return Material(colour, shade(colour, 0.5), BLOTCHES, (15.0, 15.0, 15.0), _offset(draw), 0.3)


def wall_finish(draw: Draw) -> Material:
    """Wall paint or paper in light tones."""
    colour = hue_colour(draw.uniform(), draw.uniform(0.02, 0.28), draw.uniform(0.65, 0.95))
    second = shade(colour, draw.uniform(0.7, 0.92))
    pattern = draw.pick((PLAIN, PLAIN, BLOTCHES, STRIPES, TILES))
    pitch = draw.uniform(2, 6)
    frequency = {STRIPES: (pitch, 0.0, 0.0), TILES: (pitch, 0.0, pitch)}.get(pattern, (3.0, 3.0, 3.0))
    return Material(colour, second, pattern, frequency, _offset(draw), grain=0.12)


def floor_finish(draw: Draw) -> Material:
    """Parquet, tiles, stone or carpet."""
    kind = draw.pick(("boards", "boards", "tiles", "checker", "carpet", "stone"))
    if kind == "boards":
        plain = wood(draw)
        across = draw.uniform(5, 14)
        frequency = (across * 0.1, across, 1.0) if draw.chance(0.5) else (across, across * 0.1, 1.0)
        return Material(plain.colour, plain.second, WOOD, frequency, _offset(draw), 0.15, draw.uniform(0, 0.2))
    colour = hue_colour(draw.uniform(), draw.uniform(0.02, 0.4), draw.uniform(0.35, 0.9))
    second = shade(colour, draw.uniform(0.4, 0.8))
    pattern = {"tiles": TILES, "checker": CHECKER, "carpet": PLAIN, "stone": BLOTCHES}[kind]
    pitch = draw.uniform(1.5, 4.0) if kind != "stone" else 6.0
    return Material(colour, second, pattern, (pitch, pitch, 0.0), _offset(draw), 0.25, draw.uniform(0, 0.2))


def artwork(draw: Draw) -> Material:
    """A painting: large blotches of two lively colours."""
    colour = hue_colour(draw.uniform(), draw.uniform(0.3, 0.9), draw.uniform(0.3, 0.95))
    second = hue_colour(draw.uniform(), draw.uniform(0.3, 0.9), draw.uniform(0.2, 0.95))
    pitch = draw.uniform(3, 8)
    pattern = draw.pick((BLOTCHES, BLOTCHES, CHECKER, STRIPES, DOTS))
    return Material(colour, second, pattern, (pitch, pitch, pitch), _offset(draw), 0.3)


def glowing(colour: Colour, glow: Number, second: Colour | None = None) -> Material:
    """A surface that shines by itself: lamp shade, window pane, screen."""
    return Material(colour, second or colour, BLOTCHES, (2.0, 2.0, 2.0), grain=0.08, gloss=0.1, glow=glow)


@cache
def _lattice() -> np.ndarray:
    """Random values in [0, 1) on a periodic 32^3 grid, float32, flattened."""
    return np.random.Generator(np.random.PCG64(20261121)).random(32**3).astype(np.float32)


def value_noise(q: np.ndarray) -> np.ndarray:
    """Smooth noise [M] in [0, 1] at points q [3, M] (float32), feature size 1, period 32."""
    lattice = _lattice()
    floor = np.floor(q)
    t = q - floor
    tx, ty, tz = t * t * (3 - 2 * t)
    low = floor.astype(np.int32) & 31
    high = (low + 1) & 31
    x0, x1 = low[0] << 10, high[0] << 10
    y0, y1 = low[1] << 5, high[1] << 5
    columns = x0 | y0, x1 | y0, x0 | y1, x1 | y1

    def layer(z: np.ndarray) -> np.ndarray:
        a, b, c, d = (lattice.take(column | z) for column in columns)
        near, far = a + (b - a) * tx, c + (d - c) * tx
        return near + (far - near) * ty

    front, back = layer(low[2]), layer(high[2])
    return front + (back - front) * tz


def _pattern(kind: int, q: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Share [m] in [0, 1] of the second colour."""
    if kind == WOOD:
        rings = (q[1] + q[2] + q[0] + 2.5 * noise) % 1.0
        return np.abs(2 * rings - 1)
    if kind == STRIPES:
        return ((q[0] + q[1] + q[2]) % 1.0 < 0.4).astype(np.float32)
    if kind == CHECKER:
        cells = np.floor(q).astype(np.int32)
        return ((cells[0] + cells[1] + cells[2]) & 1).astype(np.float32)
    if kind == DOTS:
        d = q - np.floor(q) - np.float32(0.5)
        return (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] < 0.28).astype(np.float32)
    if kind == TILES:
        return np.any(q - np.floor(q) < 0.06, axis=0).astype(np.float32)
    return np.clip((noise - np.float32(0.35)) * np.float32(3.3), 0, 1)  # PLAIN, BLOTCHES


def albedo(rows: np.ndarray, coordinates: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Linear-light colours of surface points.

    Args:
        rows: Materials of the points, `Material.row` in columns: [ROW_LENGTH, M] float32.
        coordinates: Object-space points [3, M] in metres, float32.
        footprint: Size [M] of a pixel on the surface in metres: patterns finer than it fade to their mean.

    Returns:
        Colours [3, M], float32.
    """
    q = coordinates * rows[6:9] + rows[9:12]
    noise = value_noise(q)
    kinds = rows[12].astype(np.int32)
    share = np.empty(len(noise), np.float32)
    for kind in range(BLOTCHES + 1):
        at = np.flatnonzero(kinds == kind)
        if len(at):
            share[at] = _pattern(kind, q[:, at], noise[at])
    sharp = (np.float32(1.6) - 2 * footprint * rows[16]).clip(0, 1)
    share = np.float32(0.4) + (share - np.float32(0.4)) * sharp
    mixed = rows[0:3] + (rows[3:6] - rows[0:3]) * share
    return mixed * (1 + rows[13] * (noise - np.float32(0.5)) * sharp)
