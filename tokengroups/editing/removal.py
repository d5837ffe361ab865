"""Edits that take groups out of a scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from tokengroups.editing.base import Edit, record
from tokengroups.editing.selection import find_columns
from tokengroups.editing.values import Selector
from tokengroups.errors import UserError
from tokengroups.gaussians import select
from tokengroups.types import TokenScene


def remove(scene: TokenScene, groups: Selector | Iterable[Selector]) -> TokenScene:
    """Take groups out, given by ids or names; probabilities of the others are renormalised.

    Raises:
        UserError: An unknown id or name, or nothing would be left.

    Example:
        >>> import tokengroups as tg
        >>> tg.remove(tg.example_scene(), [2, "ball"]).group_names
        ('floor',)
    """
    found = find_columns(scene, groups)
    gone = {column for _, column in found}
    stay = [column for column in range(len(scene.group_ids)) if column not in gone]
    return record(_keep_columns(scene, stay), "remove", groups=[group for group, _ in found])


def keep(scene: TokenScene, groups: Selector | Iterable[Selector]) -> TokenScene:
    """Take out all groups but these; the inverse of `remove`.

    Raises:
        UserError: An unknown id or name, or none given.

    Example:
        >>> import tokengroups as tg
        >>> tg.keep(tg.example_scene(), 2).group_ids
        tensor([2])
    """
    found = find_columns(scene, groups)
    stay = sorted({column for _, column in found})
    return record(_keep_columns(scene, stay), "keep", groups=[group for group, _ in found])


def _keep_columns(scene: TokenScene, columns: list[int]) -> TokenScene:
    if not columns:
        raise UserError("no group would be left; a scene needs at least one")
    owners = scene.assignment.argmax(dim=1)
    anchors = torch.isin(owners, torch.tensor(columns, device=owners.device))
    gaussians = anchors[scene.anchor_ids]
    new_anchor = anchors.cumsum(0) - 1
    assignment, semantics = scene.assignment[anchors][:, columns], scene.semantics
    if semantics is not None:
        semantics = replace(semantics, embeddings=semantics.embeddings[columns], residuals=semantics.residuals[anchors])
    return replace(
        scene,
        gaussians=select(scene.gaussians, gaussians),
        anchor_ids=new_anchor[scene.anchor_ids[gaussians]],
        anchors=scene.anchors[anchors],
        assignment=assignment / assignment.sum(dim=1, keepdim=True),
        group_ids=scene.group_ids[columns],
        group_tokens=scene.group_tokens[columns],
        group_names=tuple(scene.group_names[column] for column in columns) if scene.group_names else (),
        semantics=semantics,
        group_scores=None if scene.group_scores is None else scene.group_scores[columns],
    )


@dataclass(frozen=True)
class Remove(Edit):
    """Command-line form of `remove`."""

    FORM = "GROUP [GROUP ...]"
    HELP = "take groups out"
    DONE = "removed {groups}"
    FUNCTION = staticmethod(remove)

    def apply(self, scene: TokenScene) -> TokenScene:
        """Edit all groups at once."""
        return self.FUNCTION(scene, self.ids)


@dataclass(frozen=True)
class Keep(Remove):
    """Command-line form of `keep`."""

    HELP = "take all others out"
    DONE = "kept only {groups}"
    FUNCTION = staticmethod(keep)
