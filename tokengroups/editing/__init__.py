"""Editing a `TokenScene`: pure functions, and their written form for command lines."""

from tokengroups.editing.instructions import Instruction, apply_instruction, parse_instructions
from tokengroups.editing.operations import duplicate, insert, keep, move, remove, rotate, scale

__all__ = [
    "Instruction",
    "apply_instruction",
    "duplicate",
    "insert",
    "keep",
    "move",
    "parse_instructions",
    "remove",
    "rotate",
    "scale",
]
