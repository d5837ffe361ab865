"""Edits that add groups: copies from the same scene or from another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from tokengroups.editing.base import Edit, expect, listed, parse_group, parse_numbers, take_option
from tokengroups.editing.parts import Vector, append, group_semantics, local_anchor_ids, next_id, record, vector
from tokengroups.editing.selection import EmbedText, select_groups
from tokengroups.gaussians import select, transform
from tokengroups.scene.file import load_scene
from tokengroups.scene.groups import anchor_mask, column_of, gaussian_mask, group_centre, group_name
from tokengroups.types import TokenScene


def duplicate(scene: TokenScene, group: int, offset: Vector = (0.0, 0.0, 0.0)) -> TokenScene:
    """Add a shifted copy of a group, under the id `next_id(scene)`.

    The copy's probabilities for the original become probabilities for the copy.

    Example:
        >>> import tokengroups as tg
        >>> two_balls = tg.duplicate(tg.example_scene(), 3, (0.7, 0.0, 0.0))
        >>> dict(zip(two_balls.group_ids.tolist(), two_balls.group_names))
        {1: 'floor', 2: 'box', 3: 'ball', 4: 'ball'}
    """
    column = column_of(scene, group)
    shift = vector(scene, offset, "offset")
    mine = anchor_mask(scene, column)
    rows = scene.assignment[mine]
    assignment = torch.cat([rows, rows[:, column : column + 1]], dim=1)
    assignment[:, column] = 0
    copied = append(
        scene,
        gaussians=transform(select(scene.gaussians, gaussian_mask(scene, column)), shift),
        anchor_ids=local_anchor_ids(scene, column, mine),
        anchors=scene.anchors[mine] + shift,
        assignment=assignment,
        token=scene.group_tokens[column],
        semantics=group_semantics(scene, scene, column, mine),
        name=group_name(scene, column),
    )
    return record(copied, "duplicate", group=group, offset=shift.tolist(), new_group=next_id(scene))


def insert(scene: TokenScene, other: TokenScene, group: int, at: Vector) -> TokenScene:
    """Add a group of another scene, under the id `next_id(scene)`, so that its centre lands at a position.

    It keeps its size and its orientation in its own world, and comes with a zero group token where the tokens
    of the two scenes differ in length. Its semantics are kept if both scenes use the same text encoder.

    Example:
        >>> import tokengroups as tg
        >>> floor, other = tg.keep(tg.example_scene(), 1), tg.example_scene()
        >>> tg.insert(floor, other, 3, at=(0.0, 0.6, 2.5)).group_names
        ('floor', 'ball')
    """
    column = column_of(other, group)
    shift = vector(scene, at, "position") - group_centre(other, column).to(scene.anchors)
    mine = anchor_mask(other, column)
    assignment = scene.assignment.new_zeros(int(mine.sum()), len(scene.group_ids) + 1)
    assignment[:, -1] = 1
    token = other.group_tokens[column].to(scene.group_tokens)
    if token.shape != scene.group_tokens.shape[1:]:
        token = scene.group_tokens.new_zeros(scene.group_tokens.shape[1:])
    part = select(other.gaussians, gaussian_mask(other, column)).to(scene.anchors)
    inserted = append(
        scene,
        gaussians=transform(part, shift),
        anchor_ids=local_anchor_ids(other, column, mine).to(scene.anchor_ids),
        anchors=other.anchors[mine].to(scene.anchors) + shift,
        assignment=assignment,
        token=token,
        semantics=group_semantics(scene, other, column, mine),
        name=group_name(other, column),
    )
    details = {"at": [float(value) for value in at], "new_group": next_id(scene), "source": other.provenance}
    return record(inserted, "insert", group=group, **details)


@dataclass(frozen=True)
class Duplicate(Edit):
    """Written form of `duplicate`."""

    FORM = "GROUP [DX DY DZ]"
    HELP = "a shifted copy under a new id (the largest id + 1)"
    offset: tuple[float, ...]

    @classmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the group and the offset, which is 0 unless given."""
        group, *offset = words if len(words) == 1 else expect(words, 4)
        return cls((parse_group(group),), parse_numbers(offset or ("0", "0", "0")))

    def apply(self, scene: TokenScene) -> TokenScene:
        """Add a copy of each group."""
        return self.apply_to_each(scene, lambda scene, group: duplicate(scene, group, self.offset))

    def __str__(self) -> str:
        return f"copied {self.named}, shifted by {listed(self.offset)}"


@dataclass(frozen=True)
class Insert(Edit):
    """Written form of `insert`; takes one group."""

    FORM = "SCENE:GROUP --at X Y Z"
    HELP = "a group of another scene, its centre at X Y Z, under a new id"
    source: str  # scene file that the group comes from
    at: tuple[float, ...]
    loaded: TokenScene | None = field(default=None, repr=False, compare=False)  # that file's scene

    @classmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the scene file, its group and the position."""
        position, words = take_option(words, "--at", 3)
        (word,) = expect(words, 1)
        source, colon, group = word.rpartition(":")
        if not colon or not source:
            raise ValueError("the scene and the group are written SCENE:GROUP")
        return cls((parse_group(group),), str(Path(source)), parse_numbers(position))

    def resolve(self, scene: TokenScene, embed: EmbedText, *, every: bool = False) -> Edit:  # noqa: ARG002
        """Look the text up in the scene that the group comes from."""
        if not self.has_texts:
            return self
        other = load_scene(self.source)
        return replace(self, groups=select_groups(other, self.groups, embed), loaded=other)

    def apply(self, scene: TokenScene) -> TokenScene:
        """Add the group."""
        other = self.loaded or load_scene(self.source)
        return self.apply_to_each(scene, lambda scene, group: insert(scene, other, group, self.at))

    def __str__(self) -> str:
        return f"inserted group {self.named} of {self.source} at {listed(self.at)}"
