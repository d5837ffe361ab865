"""The classes of things that stand in the procedural rooms, and how each may be placed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tokengroups.data.procedural import decor, seating, smallware, tables
from tokengroups.data.procedural.draw import Draw
from tokengroups.data.procedural.shapes import Builder, Solid, Support

STRUCTURE = ("floor", "ceiling", "wall", "door", "window", "picture")
WALL, FREE, SMALL, FLAT = "against a wall", "anywhere on the floor", "on furniture", "lies flat on the floor"


@dataclass(frozen=True)
class Kind:
    """One class: its builder, where it stands, and whether several may stand in a row."""

    name: str
    build: Callable[[Draw, Builder], None]
    place: str
    rows: bool = False
    floor_too: bool = False  # a small thing that may also stand on the floor


KINDS: tuple[Kind, ...] = (
    Kind("chair", seating.chair, FREE, rows=True),
    Kind("stool", seating.stool, FREE, rows=True),
    Kind("armchair", seating.armchair, FREE, rows=True),
    Kind("sofa", seating.sofa, WALL),
    Kind("bench", seating.bench, FREE),
    Kind("bed", seating.bed, WALL),
    Kind("table", tables.table, FREE),
    Kind("coffee table", tables.coffee_table, FREE),
    Kind("desk", tables.desk, WALL),
    Kind("nightstand", tables.nightstand, WALL, rows=True),
    Kind("dresser", tables.dresser, WALL),
    Kind("tv stand", tables.tv_stand, WALL),
    Kind("wardrobe", tables.wardrobe, WALL),
    Kind("cabinet", tables.cabinet, WALL, rows=True),
    Kind("bookshelf", tables.bookshelf, WALL, rows=True),
    Kind("refrigerator", tables.fridge, WALL),
    Kind("washing machine", tables.washing_machine, WALL, rows=True),
    Kind("floor lamp", decor.floor_lamp, FREE),
    Kind("plant", decor.plant, FREE, rows=True),
    Kind("bin", decor.bin_, FREE),
    Kind("suitcase", decor.suitcase, FREE, rows=True),
    Kind("box", decor.carton, FREE, rows=True),
    Kind("basket", decor.basket, FREE),
    Kind("rug", decor.rug, FLAT),
    Kind("cup", smallware.cup, SMALL, rows=True),
    Kind("bottle", smallware.bottle, SMALL, rows=True),
    Kind("vase", smallware.vase, SMALL, rows=True),
    Kind("bowl", smallware.bowl, SMALL),
    Kind("books", smallware.books, SMALL, rows=True),
    Kind("table lamp", decor.table_lamp, SMALL),
    Kind("potted plant", decor.potted_plant, SMALL, rows=True),
    Kind("monitor", smallware.monitor, SMALL, rows=True),
    Kind("laptop", smallware.laptop, SMALL),
    Kind("ball", decor.toy_ball, SMALL, rows=True, floor_too=True),
    Kind("pillow", smallware.pillow, SMALL, rows=True),
    Kind("teddy bear", decor.teddy, SMALL, rows=True, floor_too=True),
    Kind("speaker", smallware.speaker, SMALL, rows=True),
    Kind("clock", smallware.clock, SMALL),
)
BY_NAME = {kind.name: kind for kind in KINDS}
CLASS_NAMES: tuple[str, ...] = STRUCTURE + tuple(BY_NAME)


@dataclass(frozen=True)
class Thing:
    """One built object in its own frame (origin on its standing plane, front = -y), with its bounding box."""

    kind: Kind
    solid: Solid
    supports: tuple[Support, ...]  # where small things may stand on it
    low: np.ndarray
    high: np.ndarray


def build(kind: Kind, draw: Draw) -> Thing:
    """Build one object of a class with the proportions and materials that `draw` gives."""
    builder = Builder()
    kind.build(draw, builder)
    solid = builder.solid()
    low, high = solid.soup.corners.min(axis=(0, 1)), solid.soup.corners.max(axis=(0, 1))
    return Thing(kind, solid, tuple(builder.supports), low, high)
