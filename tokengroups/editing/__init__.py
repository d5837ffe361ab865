"""Editing a `TokenScene`: pure functions, and their written form for command lines."""

from tokengroups.editing.instructions import Instruction, apply_instruction, parse_instructions, resolve
from tokengroups.editing.operations import duplicate, insert, keep, move, remove, rotate, scale
from tokengroups.editing.selection import EmbedText, select_groups

__all__ = [
    "EmbedText",
    "Instruction",
    "apply_instruction",
    "duplicate",
    "insert",
    "keep",
    "move",
    "parse_instructions",
    "remove",
    "resolve",
    "rotate",
    "scale",
    "select_groups",
]
