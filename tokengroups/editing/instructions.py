"""Edits in written form: ``remove 7 move lamp 0.4 0 0 insert other.safetensors:4 --at 0 0.2 1.5``.

Where an id may stand, a text may stand too: it means the groups of that name, or those that are it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokengroups.editing import operations
from tokengroups.editing.selection import EmbedText, select_groups
from tokengroups.errors import UserError
from tokengroups.scene.file import load_scene
from tokengroups.types import TokenScene

USAGE = {
    "remove": "remove GROUP [GROUP ...]",
    "keep": "keep GROUP [GROUP ...]",
    "move": "move GROUP DX DY DZ",
    "rotate": "rotate GROUP --axis x|y|z --degrees ANGLE",
    "scale": "scale GROUP FACTOR",
    "duplicate": "duplicate GROUP [DX DY DZ]",
    "insert": "insert SCENE:GROUP --at X Y Z",
}


@dataclass(frozen=True)
class Instruction:
    """One parsed operation."""

    operation: str
    groups: tuple[int | str, ...]  # ids, or texts until `resolve` has replaced them
    numbers: tuple[float, ...] = ()  # offset, position, factor or degrees
    axis: str = ""
    source: str = ""  # scene file that `insert` takes the group from

    def __str__(self) -> str:
        """What it does, for people."""
        numbers = " ".join(f"{number:g}" for number in self.numbers)
        groups = ", ".join(map(str, self.groups))
        return {
            "remove": f"removed {groups}",
            "keep": f"kept only {groups}",
            "move": f"moved {groups} by {numbers}",
            "rotate": f"turned {groups} about {self.axis} by {numbers} degrees",
            "scale": f"scaled {groups} by {numbers}",
            "duplicate": f"copied {groups}, shifted by {numbers}",
            "insert": f"inserted group {groups} of {self.source} at {numbers}",
        }[self.operation]


def parse_instructions(words: Sequence[str]) -> list[Instruction]:
    """Parse operations in their order.

    Raises:
        UserError: An unknown operation or wrong arguments; the message shows the right form.
    """
    if not words:
        raise UserError(f"no operation given; there are {', '.join(USAGE)}")
    if words[0] not in USAGE:
        raise UserError(f"unknown operation '{words[0]}'; there are {', '.join(USAGE)}")
    starts = [index for index, word in enumerate(words) if word in USAGE]
    return [_parse(words[a:b]) for a, b in zip(starts, [*starts[1:], len(words)], strict=True)]


def resolve(
    scene: TokenScene, instruction: Instruction, embed: EmbedText, *, every: bool = False
) -> Instruction:
    """The instruction with ids in place of texts; those of an `insert` are looked up in the scene it takes from.

    Arguments and errors as in `select_groups`; an `insert` always takes one group.
    """
    inserts = instruction.operation == "insert"
    if not any(isinstance(group, str) for group in instruction.groups):
        return instruction
    source = load_scene(instruction.source) if inserts else scene
    groups = select_groups(source, instruction.groups, embed, every=every and not inserts)
    return replace(instruction, groups=groups)


def apply_instruction(scene: TokenScene, instruction: Instruction) -> TokenScene:
    """Carry out one operation, on one group after the other.

    Raises:
        UserError: Unknown group ids, impossible values, or an unreadable scene to insert from.
        ValueError: A text among the groups; see `resolve`.
    """
    groups = [group for group in instruction.groups if isinstance(group, int)]
    if len(groups) < len(instruction.groups):
        raise ValueError("texts must be resolved to group ids first")
    match instruction.operation:
        case "remove":
            return operations.remove(scene, groups)
        case "keep":
            return operations.keep(scene, groups)
    for group in groups:
        scene = _apply_to_one(scene, instruction, group)
    return scene


def _apply_to_one(scene: TokenScene, instruction: Instruction, group: int) -> TokenScene:
    numbers = instruction.numbers
    match instruction.operation:
        case "move":
            return operations.move(scene, group, numbers)
        case "rotate":
            return operations.rotate(scene, group, instruction.axis, numbers[0])
        case "scale":
            return operations.scale(scene, group, numbers[0])
        case "duplicate":
            return operations.duplicate(scene, group, numbers)
        case _:
            return operations.insert(scene, load_scene(instruction.source), group, numbers)


def _parse(words: Sequence[str]) -> Instruction:
    """Parse one operation and its arguments."""
    name, arguments = words[0], list(words[1:])
    try:
        return _PARSERS[name](name, arguments)
    except ValueError as error:
        raise UserError(f"'{' '.join(words)}': {error}; the form is: {USAGE[name]}") from error


def _parse_groups(name: str, arguments: list[str]) -> Instruction:
    if not arguments:
        raise ValueError("a group is missing")
    return Instruction(name, tuple(_group(word) for word in arguments))


def _parse_offset(name: str, arguments: list[str]) -> Instruction:
    if name == "duplicate" and len(arguments) == 1:
        arguments = [*arguments, "0", "0", "0"]
    _expect(arguments, 4)
    return Instruction(name, (_group(arguments[0]),), _numbers(arguments[1:]))


def _parse_scale(name: str, arguments: list[str]) -> Instruction:
    _expect(arguments, 2)
    return Instruction(name, (_group(arguments[0]),), _numbers(arguments[1:]))


def _parse_rotate(name: str, arguments: list[str]) -> Instruction:
    (axis,), arguments = _take_option(arguments, "--axis", 1)
    degrees, arguments = _take_option(arguments, "--degrees", 1)
    _expect(arguments, 1)
    if axis not in operations.AXES:
        raise ValueError(f"no axis '{axis}'")
    return Instruction(name, (_group(arguments[0]),), _numbers(degrees), axis=axis)


def _parse_insert(name: str, arguments: list[str]) -> Instruction:
    position, arguments = _take_option(arguments, "--at", 3)
    _expect(arguments, 1)
    source, colon, group = arguments[0].rpartition(":")
    if not colon or not source:
        raise ValueError("the scene and the group are written SCENE:GROUP")
    return Instruction(name, (_group(group),), _numbers(position), source=str(Path(source)))


_PARSERS = {
    "remove": _parse_groups,
    "keep": _parse_groups,
    "move": _parse_offset,
    "rotate": _parse_rotate,
    "scale": _parse_scale,
    "duplicate": _parse_offset,
    "insert": _parse_insert,
}


def _take_option(arguments: list[str], option: str, count: int) -> tuple[list[str], list[str]]:
    """Values of an option, and the arguments without it; ``--option=value`` works for a single value."""
    split = [word.split("=", 1) if word.startswith(f"{option}=") else [word] for word in arguments]
    arguments = [part for parts in split for part in parts]
    if arguments.count(option) != 1:
        raise ValueError(f"{option} is {'missing' if option not in arguments else 'given twice'}")
    at = arguments.index(option)
    values = arguments[at + 1 : at + 1 + count]
    if len(values) < count:
        raise ValueError(f"{option} needs {count} value{'s' if count > 1 else ''}")
    return values, arguments[:at] + arguments[at + 1 + count :]


def _expect(arguments: list[str], count: int) -> None:
    if len(arguments) != count:
        raise ValueError(f"{count} argument{'s' if count > 1 else ''} expected, {len(arguments)} found")


def _group(word: str) -> int | str:
    """An id, or a text: whatever is no number and no option."""
    with contextlib.suppress(ValueError):
        return int(word)
    text = " ".join(word.split())
    if not text or text.startswith("-") or _is_number(text):
        raise ValueError(f"'{word}' is neither a group id nor a text")
    return text


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbers(words: Sequence[str]) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words)
    except ValueError:
        raise ValueError(f"'{' '.join(words)}' should be numbers") from None
