"""Edits that add groups: copies from the same scene or from another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.editing.base import Edit, record, split_words
from tokengroups.editing.selection import EmbedText, find_column, select_groups
from tokengroups.editing.values import Selector, Vector, check_numbers, check_vector, parse_group
from tokengroups.errors import UserError
from tokengroups.gaussians import concatenate, select, transform
from tokengroups.scene.consistency import MAX_GROUP_ID
from tokengroups.scene.file import load_scene
from tokengroups.scene.groups import anchor_mask, gaussian_mask, group_centre, group_name
from tokengroups.types import Semantics, TokenScene


def duplicate(scene: TokenScene, group: Selector, offset: Vector = (0.0, 0.0, 0.0)) -> TokenScene:
    """Add a shifted copy of a group, under the largest id + 1.

    The copy's probabilities for the original become probabilities for the copy.

    Example:
        >>> import tokengroups as tg
        >>> two_balls = tg.duplicate(tg.example_scene(), 3, (0.7, 0.0, 0.0))
        >>> dict(zip(two_balls.group_ids.tolist(), two_balls.group_names))
        {1: 'floor', 2: 'box', 3: 'ball', 4: 'ball'}
    """
    group, column = find_column(scene, group)
    shift = check_vector(scene, offset, "offset")
    rows = scene.assignment[anchor_mask(scene, column)]
    assignment = torch.cat([rows, rows[:, column : column + 1]], dim=1)
    assignment[:, column] = 0
    copied = _append(scene, scene, column, shift, assignment)
    return record(copied, "duplicate", group=group, offset=shift.tolist(), new_group=int(copied.group_ids[-1]))


def insert(scene: TokenScene, other: TokenScene, group: Selector, at: Vector) -> TokenScene:
    """Add a group of another scene, under the largest id + 1, so that its centre lands at a position.

    It keeps its size and its orientation in its own world. Its group token is zero if the tokens of the two scenes
    differ in length. Its semantics are kept if both scenes use the same text encoder.

    Example:
        >>> import tokengroups as tg
        >>> floor, other = tg.keep(tg.example_scene(), 1), tg.example_scene()
        >>> tg.insert(floor, other, 3, at=(0.0, 0.6, 2.5)).group_names
        ('floor', 'ball')
    """
    group, column = find_column(other, group)
    shift = check_vector(scene, at, "position") - group_centre(other, column).to(scene.anchors)
    assignment = scene.assignment.new_zeros(int(anchor_mask(other, column).sum()), len(scene.group_ids) + 1)
    assignment[:, -1] = 1
    inserted = _append(scene, other, column, shift, assignment)
    details = {"at": check_numbers(at, "position"), "new_group": int(inserted.group_ids[-1])}
    return record(inserted, "insert", group=group, **details, source=_origin(other))


def _origin(scene: TokenScene) -> dict[str, Any]:
    """Provenance of a scene that a group comes from, without that of groups which came from elsewhere before.

    Else the provenance would double with every group that a scene gives to itself.
    """
    edits = scene.provenance.get("edits")
    if not isinstance(edits, list):
        return scene.provenance
    own = [{**edit, "source": None} if isinstance(edit, dict) and "source" in edit else edit for edit in edits]
    return {**scene.provenance, "edits": own}


def _append(
    scene: TokenScene, other: TokenScene, column: int, shift: Float[Tensor, "3"], assignment: Float[Tensor, "k L"]
) -> TokenScene:
    """Add a group of `other`, which may be `scene` itself, as the last column, with an assignment of its anchors."""
    mine, anchors = gaussian_mask(other, column), anchor_mask(other, column)
    part = select(other.gaussians, mine).to(scene.gaussians.means)
    anchor_ids = (anchors.cumsum(0) - 1)[other.anchor_ids[mine]].to(scene.anchor_ids)
    token = other.group_tokens[column].to(scene.group_tokens)
    if token.shape != scene.group_tokens.shape[1:]:
        token = scene.group_tokens.new_zeros(scene.group_tokens.shape[1:])
    new_id = int(scene.group_ids.max()) + 1
    if new_id > MAX_GROUP_ID:
        raise UserError(f"no id is left for the copy: the largest of the scene is {new_id - 1}")
    names = (*(scene.group_names or [""] * len(scene.group_ids)), group_name(other, column))
    return replace(
        scene,
        gaussians=concatenate([scene.gaussians, transform(part, shift)]),
        anchor_ids=torch.cat([scene.anchor_ids, anchor_ids + len(scene.anchors)]),
        anchors=torch.cat([scene.anchors, other.anchors[anchors].to(scene.anchors) + shift]),
        assignment=torch.cat([torch.nn.functional.pad(scene.assignment, (0, 1)), assignment]),
        group_ids=torch.cat([scene.group_ids, scene.group_ids.new_tensor([new_id])]),
        group_tokens=torch.cat([scene.group_tokens, token[None]]),
        group_names=names if any(names) else (),
        semantics=scene.semantics and _append_semantics(scene.semantics, other.semantics, column, anchors),
        group_scores=_append_score(scene, other, column),
    )


def _append_score(scene: TokenScene, other: TokenScene, column: int) -> Float[Tensor, " L"] | None:
    """Add the score of a group; 0 where it is unknown."""
    if scene.group_scores is None and other.group_scores is None:
        return None
    like = scene.anchors
    known = like.new_zeros(len(scene.group_ids)) if scene.group_scores is None else scene.group_scores
    own = like.new_zeros(1) if other.group_scores is None else other.group_scores[column, None]
    return torch.cat([known, own.to(known)])


def _append_semantics(mine: Semantics, theirs: Semantics | None, column: int, anchors: Bool[Tensor, " K"]) -> Semantics:
    """Add the embedding and residuals of a group; zero where the two scenes use different spaces."""
    embedding = mine.embeddings.new_zeros(mine.embeddings.shape[1])
    residuals = mine.residuals.new_zeros(int(anchors.sum()), mine.residuals.shape[1])
    same_space = theirs is not None and (theirs.encoder, len(theirs.projection)) == (mine.encoder, len(mine.projection))
    if theirs is not None and same_space:
        embedding = theirs.embeddings[column].to(embedding)
        if torch.equal(theirs.projection.to(mine.projection), mine.projection):
            residuals = theirs.residuals[anchors].to(residuals)
    embeddings = torch.cat([mine.embeddings, embedding[None]])
    return replace(mine, embeddings=embeddings, residuals=torch.cat([mine.residuals, residuals]))


@dataclass(frozen=True)
class Duplicate(Edit):
    """Command-line form of `duplicate`."""

    FORM = "GROUP [DX DY DZ]"
    HELP = "a shifted copy under a new id (the largest id + 1)"
    DONE = "copied {groups}, shifted by {offset}"
    FUNCTION = staticmethod(duplicate)
    offset: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Insert(Edit):
    """Command-line form of `insert`; takes one group."""

    FORM = "SCENE:GROUP --at X Y Z"
    HELP = "a group of another scene, its centre at X Y Z, under a new id"
    DONE = "inserted group {groups} of {source} at {at}"
    source: str  # scene file that the group comes from
    at: Vector
    loaded: TokenScene | None = field(default=None, repr=False, compare=False)  # that file's scene

    @classmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the scene file, its group and the position."""
        (word,), (at,) = split_words(cls.FORM, words)
        source, colon, group = word.rpartition(":")
        if not colon or not source:
            raise ValueError("the scene and the group are written SCENE:GROUP")
        if source.startswith("-"):
            raise ValueError(f"a file whose name begins with '-' is written ./{source}, unlike an option")
        return cls((parse_group(group),), str(Path(source)), at)

    def resolve(self, scene: TokenScene, embed: EmbedText, *, every: bool = False) -> Edit:  # noqa: ARG002
        """Look a text up in the scene that the group comes from."""
        other = load_scene(self.source)
        return replace(self, groups=select_groups(other, self.groups, embed), loaded=other)

    def apply(self, scene: TokenScene) -> TokenScene:
        """Add the group."""
        (group,) = self.ids
        return insert(scene, self.loaded or load_scene(self.source), group, self.at)
