"""Editing a `TokenScene`: pure functions, and their written form for command lines.

Groups are named by their public ids, which survive edits. Positions and offsets are in scene units along the
axes of the scene's world (x right, y down, z forward for the first context camera). One edit, `rescale`, changes that
unit. Every edit is recorded in the provenance. Unknown ids raise `UserError` with a list of those that exist.
"""

from tokengroups.editing.base import EDITS, Edit

# Messages and help list the operations in the order of these imports.
from tokengroups.editing.removal import keep, remove  # isort: skip
from tokengroups.editing.motion import move, rotate, scale  # isort: skip
from tokengroups.editing.copies import duplicate, insert  # isort: skip
from tokengroups.editing.grouping import merge, rename  # isort: skip
from tokengroups.editing.parts import split  # isort: skip
from tokengroups.editing.unit import rescale  # isort: skip
from tokengroups.editing.instructions import describe, operations_help, parse_edits
from tokengroups.editing.scripts import parse_words, read_script, script_content
from tokengroups.editing.selection import EmbedText, names_only, select_groups

__all__ = [
    "EDITS",
    "Edit",
    "EmbedText",
    "describe",
    "duplicate",
    "insert",
    "keep",
    "merge",
    "move",
    "names_only",
    "operations_help",
    "parse_edits",
    "parse_words",
    "read_script",
    "remove",
    "rename",
    "rescale",
    "rotate",
    "scale",
    "script_content",
    "select_groups",
    "split",
]
