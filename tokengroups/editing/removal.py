"""Edits that take groups out of a scene."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokengroups.editing.base import Edit, parse_group
from tokengroups.editing.parts import keep_columns, record
from tokengroups.scene.groups import column_of
from tokengroups.types import TokenScene


def remove(scene: TokenScene, groups: int | Iterable[int]) -> TokenScene:
    """Take groups out; probabilities of the others are renormalised.

    Raises:
        UserError: An unknown id, or nothing would be left.

    Example:
        >>> import tokengroups as tg
        >>> tg.remove(tg.example_scene(), [2, 3]).group_names
        ('floor',)
    """
    groups = [groups] if isinstance(groups, int) else list(groups)
    gone = {column_of(scene, group) for group in groups}
    stay = [column for column in range(len(scene.group_ids)) if column not in gone]
    return record(keep_columns(scene, stay), "remove", groups=groups)


def keep(scene: TokenScene, groups: int | Iterable[int]) -> TokenScene:
    """Take out all groups but these; the inverse of `remove`.

    Raises:
        UserError: An unknown id, or none given.

    Example:
        >>> import tokengroups as tg
        >>> tg.keep(tg.example_scene(), 2).group_ids
        tensor([2])
    """
    groups = [groups] if isinstance(groups, int) else list(groups)
    stay = sorted({column_of(scene, group) for group in groups})
    return record(keep_columns(scene, stay), "keep", groups=groups)


@dataclass(frozen=True)
class Remove(Edit):
    """Written form of `remove`."""

    FORM = "GROUP [GROUP ...]"
    HELP = "take groups out"

    @classmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the groups."""
        if not words:
            raise ValueError("a group is missing")
        return cls(tuple(parse_group(word) for word in words))

    def apply(self, scene: TokenScene) -> TokenScene:
        """Remove all groups at once."""
        return remove(scene, self.ids)

    def __str__(self) -> str:
        return f"removed {self.named}"


@dataclass(frozen=True)
class Keep(Remove):
    """Written form of `keep`."""

    HELP = "take all others out"

    def apply(self, scene: TokenScene) -> TokenScene:
        """Remove all groups but these."""
        return keep(scene, self.ids)

    def __str__(self) -> str:
        return f"kept only {self.named}"
