"""Building blocks of edits: select, transform and append groups, with all tensors of a scene together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import concatenate, select, transform
from tokengroups.scene.groups import anchor_mask, gaussian_mask
from tokengroups.types import Gaussians, TokenScene

Vector = Sequence[float]


def next_id(scene: TokenScene) -> int:
    """The id that the next added group gets: one more than the largest one."""
    return int(scene.group_ids.max()) + 1


def keep_columns(scene: TokenScene, columns: list[int]) -> TokenScene:
    """The scene with these groups only.

    Raises:
        UserError: None is given.
    """
    if not columns:
        raise UserError("no group would be left; a scene needs at least one")
    owners = scene.assignment.argmax(dim=1)
    anchors = torch.isin(owners, torch.tensor(columns, device=owners.device))
    gaussians = anchors[scene.anchor_ids]
    new_anchor = anchors.cumsum(0) - 1
    assignment = scene.assignment[anchors][:, columns]
    return replace(
        scene,
        gaussians=select(scene.gaussians, gaussians),
        anchor_ids=new_anchor[scene.anchor_ids[gaussians]],
        anchors=scene.anchors[anchors],
        assignment=assignment / assignment.sum(dim=1, keepdim=True),
        group_ids=scene.group_ids[columns],
        group_tokens=scene.group_tokens[columns],
        group_names=tuple(scene.group_names[column] for column in columns) if scene.group_names else (),
        semantics=scene.semantics
        and replace(
            scene.semantics,
            embeddings=scene.semantics.embeddings[columns],
            residuals=scene.semantics.residuals[anchors],
        ),
    )


def transform_group(
    scene: TokenScene, column: int, translation: Tensor, rotation: Tensor | None = None, factor: float = 1.0
) -> TokenScene:
    """Apply ``x -> factor * rotation @ x + translation`` to one group."""
    mine, owned = gaussian_mask(scene, column), anchor_mask(scene, column)
    part = transform(select(scene.gaussians, mine), translation, rotation, factor)
    anchors = factor * scene.anchors[owned]
    if rotation is not None:
        anchors = anchors @ rotation.to(anchors).T
    return replace(
        scene,
        gaussians=_scatter(scene.gaussians, mine, part),
        anchors=scene.anchors.masked_scatter(owned[:, None], anchors + translation.to(anchors)),
    )


def _scatter(whole: Gaussians, mask: Bool[Tensor, " N"], part: Gaussians) -> Gaussians:
    """Put `part` in the places of `mask`."""

    def put(values: Tensor, new: Tensor) -> Tensor:
        return values.masked_scatter(mask.reshape(-1, *[1] * (values.ndim - 1)), new)

    return Gaussians(
        put(whole.means, part.means),
        put(whole.quats, part.quats),
        put(whole.scales, part.scales),
        put(whole.opacities, part.opacities),
        put(whole.sh, part.sh),
    )


def append(
    scene: TokenScene,
    *,
    gaussians: Gaussians,
    anchor_ids: Tensor,
    anchors: Tensor,
    assignment: Tensor,  # [new anchors, L + 1]
    token: Tensor,
    semantics: tuple[Tensor, Tensor] | None,  # of `group_semantics`: embedding [D] and residuals [new anchors, d]
    name: str,
) -> TokenScene:
    """Add one group as the last column."""
    grown = scene.semantics
    if grown is not None and semantics is not None:
        embedding, residuals = semantics
        grown = replace(
            grown,
            embeddings=torch.cat([grown.embeddings, embedding[None]]),
            residuals=torch.cat([grown.residuals, residuals]),
        )
    old = torch.nn.functional.pad(scene.assignment, (0, 1))
    names = scene.group_names or ("",) * len(scene.group_ids)
    return replace(
        scene,
        gaussians=concatenate([scene.gaussians, gaussians]),
        anchor_ids=torch.cat([scene.anchor_ids, anchor_ids + len(scene.anchors)]),
        anchors=torch.cat([scene.anchors, anchors]),
        assignment=torch.cat([old, assignment]),
        group_ids=torch.cat([scene.group_ids, scene.group_ids.new_tensor([next_id(scene)])]),
        group_tokens=torch.cat([scene.group_tokens, token[None]]),
        group_names=(*names, name) if any((*names, name)) else (),
        semantics=grown,
    )


def group_semantics(
    scene: TokenScene, other: TokenScene, column: int, anchors: Bool[Tensor, " K"]
) -> tuple[Tensor, Tensor] | None:
    """Embedding and residuals of a group of `other` for `scene`; zero where the two scenes use different spaces."""
    mine, theirs = scene.semantics, other.semantics
    if mine is None:
        return None
    embedding = mine.embeddings.new_zeros(mine.embeddings.shape[1])
    residuals = mine.residuals.new_zeros(int(anchors.sum()), mine.residuals.shape[1])
    if theirs is not None and theirs.encoder == mine.encoder:
        embedding = theirs.embeddings[column].to(embedding)
        if torch.equal(theirs.projection.to(mine.projection), mine.projection):
            residuals = theirs.residuals[anchors].to(residuals)
    return embedding, residuals


def local_anchor_ids(scene: TokenScene, column: int, anchors: Bool[Tensor, " K"]) -> Tensor:
    """Anchor of each Gaussian of a group, numbered within the group."""
    return (anchors.cumsum(0) - 1)[scene.anchor_ids[gaussian_mask(scene, column)]]


def vector(scene: TokenScene, values: str | Vector, what: str) -> Tensor:
    """Check a vector of the scene's world and make it a tensor of the scene's type."""
    try:
        checked = scene.anchors.new_tensor([float(value) for value in values])
    except ValueError as error:
        raise UserError(f"the {what} must be three numbers, got {values!r}") from error
    if checked.shape != (3,) or not bool(checked.isfinite().all()):
        raise UserError(f"the {what} must be three finite numbers, got {values!r}")
    return checked


def finite(value: float, what: str) -> float:
    """Return a number that is neither infinite nor NaN, else raise `UserError`."""
    if not math.isfinite(value):
        raise UserError(f"{what} must be a finite number, got {value}")
    return value


def record(scene: TokenScene, operation: str, **details: Any) -> TokenScene:
    """Add an entry to ``provenance["edits"]``."""
    edits = [*scene.provenance.get("edits", []), {"operation": operation, **details}]
    return replace(scene, provenance={**scene.provenance, "edits": edits})
