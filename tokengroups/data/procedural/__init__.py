"""Procedural furnished rooms: the data set `ProceduralRooms`, and the generator behind it."""

from tokengroups.data.procedural.cache import ProceduralRooms
from tokengroups.data.procedural.generate import CLASS_NAMES, GENERATOR_VERSION, generate_room

__all__ = ["CLASS_NAMES", "GENERATOR_VERSION", "ProceduralRooms", "generate_room"]
