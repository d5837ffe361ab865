"""Search and naming of a scene's groups by text: cosines with L group embeddings instead of N Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.scene.groups import GroupLabel, group_members, group_name, select_points
from tokengroups.ties import ascending
from tokengroups.types import Semantics, TokenScene

# Least probability of a group that a text selects. Every class of the training data is an alternative, so that right
# answers of small weights seldom exceed a half.
MATCH_PROBABILITY = 0.25
_SAME_COSINE = 1e-6  # copies of a group have cosines that are equal except for rounding


@dataclass(frozen=True)
class GroupMatch:
    """A group that was found by a text; lengths in scene units, world axes."""

    id: int
    name: str  # "" = unnamed
    probability: float  # see `match_probabilities`
    cosine: float
    centre: tuple[float, float, float]
    size: tuple[float, float, float]  # of the axis-parallel box, as in `GroupSummary`


def semantics_of(scene: TokenScene) -> Semantics:
    """The scene's semantics; raises UserError if it has none."""
    if scene.semantics is None:
        names = ", ".join(sorted({name for name in scene.group_names if name}))
        only = f", only groups with the names {shown(names)}" if names else ""
        raise UserError(
            f"the scene has no semantics{only}: reconstruct it with weights that have them (see `tokengroups info`), "
            "add embeddings of an image encoder with `tokengroups embed`, or train weights with "
            "configs/token_groups_tiny_semantics.yaml"
        )
    return scene.semantics


def text_cosines(semantics: Semantics, texts: Float[Tensor, "n D"]) -> Float[Tensor, "n L"]:
    """Cosine of every unit text embedding with every group; 0 for groups without an embedding."""
    return texts.to(semantics.embeddings) @ semantics.embeddings.T


def match_probabilities(
    semantics: Semantics, cosines: Float[Tensor, "*n M"], columns: Int64[Tensor, " M"] | None = None
) -> Float[Tensor, "*n M"]:
    """Probability that a text applies to most of a group: p = sigmoid(a (cosine - b)), Platt scaling.

    Training fits a and b on the class names of its rooms; `embed_groups` takes them from the image encoder. Groups
    without an embedding have probability 0. The cosines belong to the groups of `columns`; None = all.
    """
    slope, threshold = semantics.calibration
    embeddings = semantics.embeddings if columns is None else semantics.embeddings[columns]
    embedded = embeddings.square().sum(dim=-1) > 0
    return torch.sigmoid(slope * (cosines - threshold)) * embedded


def find_groups(scene: TokenScene, text: Float[Tensor, " D"], top: int | None = None) -> list[GroupMatch]:
    """Find the groups with the largest cosines with a unit text embedding; at most `top`, best first.

    Raises:
        UserError: The scene has no semantics.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.retrieval import find_groups
        >>> scene = tg.example_scene()
        >>> text = scene.semantics.embeddings[1]  # stands for a text encoder's embedding of "a box"
        >>> [(match.id, round(match.probability, 3)) for match in find_groups(scene, text)]
        [(2, 0.998), (1, 0.002), (3, 0.002)]
    """
    semantics = semantics_of(scene)
    embeddings = semantics.embeddings
    order, nearest = rank(embeddings.numpy(force=True), text.to(embeddings).numpy(force=True), top)
    columns, cosines = (torch.from_numpy(each).to(embeddings.device) for each in (order, nearest))
    probabilities = match_probabilities(semantics, cosines, columns)
    found = zip(columns.tolist(), probabilities.tolist(), cosines.tolist(), strict=True)
    members = group_members(scene)
    return [_match(scene, members[column], column, *rest) for column, *rest in found]


def rank(
    embeddings: Float[np.ndarray, "M D"], text: Float[np.ndarray, " D"], top: int | None = None
) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Indices and cosines of the unit embeddings nearest to a unit text embedding, nearest first.

    Of equal cosines the first index comes first. NumPy's calls cost least, and a scene has few groups.
    """
    cosines = embeddings @ text
    order = ascending(-cosines, _SAME_COSINE, top)
    return order, cosines[order]


def name_groups(scene: TokenScene, names: Sequence[str], embeddings: Float[Tensor, "n D"]) -> list[GroupLabel]:
    """Choose the name of largest cosine for every group, in the order of the scene's columns; "" without an embedding.

    Raises:
        UserError: The scene has no semantics, or the vocabulary is empty.

    Example:
        >>> import torch
        >>> import tokengroups as tg
        >>> from tokengroups.retrieval import name_groups
        >>> labels = name_groups(tg.example_scene(), ["ground", "carton", "sphere"], torch.eye(3))
        >>> [label.name for label in labels]
        ['ground', 'carton', 'sphere']
    """
    semantics = semantics_of(scene)
    if not names:
        raise UserError("the vocabulary is empty; give at least one name")
    best = match_probabilities(semantics, text_cosines(semantics, embeddings).amax(dim=0)).tolist()
    rows = best_names(semantics.embeddings, embeddings).tolist()
    labels = ["" if row < 0 else names[int(row)] for row in rows]
    return [GroupLabel(label, probability) for label, probability in zip(labels, best, strict=True)]


def best_names(groups: Float[Tensor, "L D"], names: Float[Tensor, "n D"]) -> Int64[Tensor, " L"]:
    """Row of the unit text embedding with the largest cosine for every group; -1 for groups whose embedding is zero."""
    known = (groups != 0).any(dim=1)
    return torch.where(known, (names.to(groups) @ groups.T).argmax(dim=0), -1)


def _match(scene: TokenScene, mine: Tensor, column: int, probability: float, cosine: float) -> GroupMatch:
    points = select_points(scene, mine)
    low, high = points.box().tolist()
    return GroupMatch(
        id=int(scene.group_ids[column]),
        name=group_name(scene, column),
        probability=probability,
        cosine=cosine,
        centre=tuple(points.centre().tolist()),
        size=tuple(b - a for a, b in zip(low, high, strict=True)),
    )
