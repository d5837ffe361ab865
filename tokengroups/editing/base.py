"""Interface of an edit: the groups it changes, its form on a command line, and what it does to a scene."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from tokengroups.editing.selection import EmbedText, select_groups
from tokengroups.editing.values import parse_group, read_group, to_json
from tokengroups.errors import UserError
from tokengroups.scene.consistency import scene_fault
from tokengroups.types import TokenScene

EDITS: dict[str, type[Edit]] = {}  # the operations of this package, by their names


@dataclass(frozen=True)
class Edit:
    """One edit of a scene: subclass it to add an operation to ``tokengroups edit``.

    A subclass is a frozen dataclass around a function. Its fields take the words of `FORM` after the group, in their
    order, and are the function's arguments after scene and group. A word in capitals is a number, and several of them
    are a tuple in one field. ``[X Y]`` may be left out if the field has a default. ``--option X`` is an option with one
    field, and ``a|b`` a choice, in which ``X,Y,Z`` are three numbers. A form without ``GROUP`` is an edit of the whole
    scene, whose function takes no group. An operation with arguments of other kinds overrides `parse` or `apply`.

    The command line knows the edits of this package by their class name in lower case, and anybody's by its import
    path. With the following in ``fade.py``, ``tokengroups edit scene.safetensors fade:Fade 7 0.5 -o out.safetensors``
    works::

        from dataclasses import dataclass, replace

        import torch

        from tokengroups.editing.base import Edit, record
        from tokengroups.scene.groups import column_of, gaussian_mask

        def fade(scene, group, factor):
            mine = gaussian_mask(scene, column_of(scene, group))
            opacities = scene.gaussians.opacities * torch.where(mine, factor, 1.0)
            faded = replace(scene, gaussians=replace(scene.gaussians, opacities=opacities))
            return record(faded, "fade", group=group, factor=factor)

        @dataclass(frozen=True)
        class Fade(Edit):
            FORM = "GROUP FACTOR"
            HELP = "multiply the opacities by a factor below 1"
            DONE = "faded {groups} by {factor}"
            FUNCTION = staticmethod(fade)
            factor: float
    """

    FORM: ClassVar[str]  # arguments
    HELP: ClassVar[str]  # what it does, in one line
    DONE: ClassVar[str]  # what was done, with fields in braces
    FUNCTION: ClassVar[Callable[..., TokenScene]]

    groups: tuple[int | str, ...]  # ids; also names or descriptions, until `resolve` has replaced them

    def __init_subclass__(cls) -> None:
        """Register an edit of this package by its name."""
        if cls.__module__.startswith(f"{__package__}."):
            EDITS[cls.__name__.lower()] = cls

    @classmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the arguments of one operation; `ValueError` if they have another form than `FORM`."""
        groups, values = split_words(cls.FORM, words)
        return cls(tuple(parse_group(word) for word in groups), *values)

    def apply(self, scene: TokenScene) -> TokenScene:
        """Edit one group after the other, or the whole scene.

        Raises:
            UserError: Unknown group ids, impossible values, or an unreadable file.
            ValueError: A text among the groups; see `resolve`.
        """
        arguments = [getattr(self, field.name) for field in fields(self)[1:]]
        if not _takes_group(self.FORM):
            return self.FUNCTION(scene, *arguments)
        for group in self.ids:
            scene = self.FUNCTION(scene, group, *arguments)
        return scene

    def resolve(self, scene: TokenScene, embed: EmbedText, *, every: bool = False) -> Edit:
        """Replace names and descriptions by ids. Arguments and errors are those of `select_groups`."""
        if not any(isinstance(read_group(group), str) for group in self.groups):
            return self
        return replace(self, groups=select_groups(scene, self.groups, embed, every=every))

    @property
    def ids(self) -> list[int]:
        """Group ids; `ValueError` if there is a text among the groups."""
        ids = [group for group in map(read_group, self.groups) if isinstance(group, int)]
        if len(ids) < len(self.groups):
            raise ValueError("texts must be resolved to group ids first")
        return ids

    def __str__(self) -> str:
        shown = {name: _shown(value) for name, value in vars(self).items()}
        return self.DONE.format_map(shown | {"groups": ", ".join(map(str, self.groups))})


def record(scene: TokenScene, operation: str, **details: Any) -> TokenScene:
    """Check an edited scene and add an entry to ``provenance["edits"]``.

    Raises:
        UserError: The scene could not be saved, because values have left the range of numbers.
        ValueError: The details are no JSON.
    """
    fault = scene_fault(scene)
    if fault is not None:
        raise UserError(f"{operation}: the edited scene could not be saved: {fault}; choose other values")
    entry = {"operation": operation, **to_json(details)}
    try:
        json.dumps(entry)
    except TypeError as error:
        raise ValueError(f"{operation}: details that are no JSON: {error}") from error
    edits = [*scene.provenance.get("edits", []), entry]
    return replace(scene, provenance={**scene.provenance, "edits": edits})


def split_words(form: str, words: Sequence[str]) -> tuple[Sequence[str], list[Any]]:
    """Split the words of an operation by its form: those of its groups, and the values of its fields."""
    names, *options = (part.split() for part in f" {form}".split(" --"))
    first = 1 if _takes_group(form) else 0  # of the numbers
    values = []
    for option, *kinds in options:
        found, words = _take_option(words, f"--{option}", len(kinds))
        if "|" not in kinds[0]:
            values.append(_parse_numbers(found))
        elif found[0] in kinds[0].split("|"):
            values.append(found[0])
        elif "|X,Y,Z" in kinds[0] and found[0].count(",") == 2:
            values.append(_parse_numbers(found[0].split(",")))
        else:
            raise ValueError(f"no {option} '{found[0]}'")
    if names[1:2] == ["[GROUP"]:
        if not words:
            raise ValueError("a group is missing")
        return words, values
    if "[" in form and len(words) == first:
        return words, values
    if len(words) != len(names):
        raise ValueError(f"{len(names)} argument{'s' if len(names) != 1 else ''} expected, {len(words)} found")
    return words[:first], [_parse_numbers(words[first:]), *values] if names[first:] else values


def _takes_group(form: str) -> bool:
    """Tell whether an operation edits groups, or else the whole scene."""
    return "GROUP" in form.partition(" ")[0]


def _take_option(words: Sequence[str], option: str, count: int) -> tuple[list[str], list[str]]:
    """Return the values of an option and the words without it; ``--option=value`` works for a single value."""
    split = [word.split("=", 1) if word.startswith(f"{option}=") else [word] for word in words]
    words = [part for parts in split for part in parts]
    if words.count(option) != 1:
        raise ValueError(f"{option} is {'missing' if option not in words else 'given twice'}")
    at = words.index(option)
    values = words[at + 1 : at + 1 + count]
    if len(values) < count:
        raise ValueError(f"{option} needs {count} value{'s' if count > 1 else ''}")
    return values, words[:at] + words[at + 1 + count :]


def _parse_numbers(words: Sequence[str]) -> float | tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        raise ValueError(f"'{' '.join(words)}' should be numbers") from None
    return numbers if len(words) > 1 else numbers[0]


def _shown(value: Any) -> Any:
    """Shorten numbers for messages."""
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(number, float) for number in numbers):
        return value
    return " ".join(f"{number:g}" for number in numbers)
