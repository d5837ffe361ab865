"""Interface of an edit: the groups it changes, how it is written on a command line, and what it does to a scene."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from tokengroups.editing.selection import EmbedText, select_groups
from tokengroups.types import TokenScene

EDITS: dict[str, type[Edit]] = {}  # the operations of this package, by their names


@dataclass(frozen=True)
class Edit(ABC):
    """One edit of a scene: subclass it to add an operation to ``tokengroups edit``.

    A subclass is a frozen dataclass. The command line knows those of this package by their class name in lower
    case, and anybody's by its import path. With the following in ``fade.py``,
    ``tokengroups edit scene.safetensors fade:Fade 7 0.5 -o out.safetensors`` works::

        from dataclasses import dataclass, replace

        import torch

        from tokengroups.editing.base import Edit, expect, parse_group, parse_numbers
        from tokengroups.editing.parts import record
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
            factor: float

            @classmethod
            def parse(cls, words):
                group, factor = expect(words, 2)
                return cls((parse_group(group),), *parse_numbers([factor]))

            def apply(self, scene):
                return self.apply_to_each(scene, lambda scene, group: fade(scene, group, self.factor))

            def __str__(self):
                return f"faded {self.named} by {self.factor:g}"
    """

    FORM: ClassVar[str]  # arguments as the help shows them
    HELP: ClassVar[str]  # what it does, in one line

    groups: tuple[int | str, ...]  # ids; also names or descriptions, until `resolve` has replaced them

    def __init_subclass__(cls) -> None:
        """Make an edit of this package known by its name."""
        if cls.__module__.startswith(f"{__package__}."):
            EDITS[cls.__name__.lower()] = cls

    @classmethod
    @abstractmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the arguments of one operation.

        Raises:
            ValueError: They have another form than `FORM`.
        """

    @abstractmethod
    def apply(self, scene: TokenScene) -> TokenScene:
        """Return the edited scene.

        Raises:
            UserError: Unknown group ids, impossible values, or an unreadable file.
            ValueError: A text among the groups; see `resolve`.
        """

    @abstractmethod
    def __str__(self) -> str:
        """Tell people what was done."""

    def resolve(self, scene: TokenScene, embed: EmbedText, *, every: bool = False) -> Edit:
        """Replace names and descriptions by ids. Arguments and errors are those of `select_groups`."""
        if self.has_texts:
            return replace(self, groups=select_groups(scene, self.groups, embed, every=every))
        return self

    @property
    def has_texts(self) -> bool:
        """Whether any group is still given by a name or description."""
        return any(isinstance(group, str) for group in self.groups)

    @property
    def ids(self) -> tuple[int, ...]:
        """Group ids.

        Raises:
            ValueError: A text among the groups.
        """
        if self.has_texts:
            raise ValueError("texts must be resolved to group ids first")
        return tuple(group for group in self.groups if isinstance(group, int))

    @property
    def named(self) -> str:
        """The groups as a message lists them."""
        return ", ".join(map(str, self.groups))

    def apply_to_each(self, scene: TokenScene, edit: Callable[[TokenScene, int], TokenScene]) -> TokenScene:
        """Apply a function to one group after the other."""
        for group in self.ids:
            scene = edit(scene, group)
        return scene


# --- arguments ------------------------------------------------------------------------------------------------------


def expect(words: Sequence[str], count: int) -> Sequence[str]:
    """Return the words if there are so many of them, else raise `ValueError`."""
    if len(words) != count:
        raise ValueError(f"{count} argument{'s' if count > 1 else ''} expected, {len(words)} found")
    return words


def parse_group(word: str) -> int | str:
    """Read a group: an id, or a text, which is whatever is no number and no option."""
    with contextlib.suppress(ValueError):
        return int(word)
    text = " ".join(word.split())
    if not text or text.startswith("-") or _is_number(text):
        raise ValueError(f"'{word}' is neither a group id nor a text")
    return text


def parse_numbers(words: Sequence[str]) -> tuple[float, ...]:
    """Read decimal numbers."""
    try:
        return tuple(float(word) for word in words)
    except ValueError:
        raise ValueError(f"'{' '.join(words)}' should be numbers") from None


def take_option(words: Sequence[str], option: str, count: int) -> tuple[list[str], list[str]]:
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


def listed(numbers: Sequence[float]) -> str:
    """Numbers as a message shows them."""
    return " ".join(f"{number:g}" for number in numbers)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
