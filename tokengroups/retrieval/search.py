"""Finding and naming the groups of a scene by text: cosines with at most L embeddings, never with the Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.scene.groups import GroupLabel, group_box, group_centre, group_name
from tokengroups.ties import ascending
from tokengroups.types import Semantics, TokenScene

# A text selects a group from here on. Probabilities count every class that training knows as an alternative, so that
# even right answers of small weights seldom pass a half.
MATCH_PROBABILITY = 0.25
_SAME_COSINE = 1e-6  # copies of a group have the same embedding, but sums in another order


@dataclass(frozen=True)
class GroupMatch:
    """A group as the answer to a text; lengths in scene units, world axes."""

    id: int
    name: str  # "" = unnamed
    probability: float  # that the group is what the text says (see `match_probabilities`)
    cosine: float
    centre: tuple[float, float, float]
    size: tuple[float, float, float]  # of the axis-parallel box, as in `GroupSummary`


def semantics_of(scene: TokenScene) -> Semantics:
    """The scene's semantics.

    Raises:
        UserError: It has none.
    """
    semantics = scene.semantics
    if semantics is None:
        raise UserError(
            "the scene has no semantics: reconstruct it with weights that have (`tokengroups info` lists them), or "
            "train them with configs/token_groups_tiny_semantics.yaml"
        )
    return semantics


def text_cosines(semantics: Semantics, texts: Float[Tensor, "n D"]) -> Float[Tensor, "n L"]:
    """Cosine of every unit text embedding with every group; 0 for groups about which nothing is known."""
    return texts.to(semantics.embeddings) @ semantics.embeddings.T


def match_probabilities(
    semantics: Semantics, cosines: Float[Tensor, "*n M"], columns: Int64[Tensor, " M"] | None = None
) -> Float[Tensor, "*n M"]:
    """Probability that most of a group is what a text says: p = sigmoid(a (cosine - b)).

    Training fits a and b on the class names of its rooms (Platt scaling). 0 for groups about which nothing is known.
    `columns` says which groups the cosines belong to; None = all.
    """
    slope, threshold = semantics.calibration
    embeddings = semantics.embeddings if columns is None else semantics.embeddings[columns]
    known = embeddings.square().sum(dim=-1) > 0
    return torch.sigmoid(slope * (cosines - threshold)) * known


def find_groups(scene: TokenScene, text: Float[Tensor, " D"], top: int | None = None) -> list[GroupMatch]:
    """Groups by descending cosine with a unit text embedding of the scene's own encoder; the best `top` of them.

    Raises:
        UserError: The scene has no semantics.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.retrieval import find_groups
        >>> scene = tg.example_scene()
        >>> text = scene.semantics.embeddings[1]  # stands for what a text encoder says of "a box"
        >>> [(match.id, round(match.probability, 3)) for match in find_groups(scene, text)]
        [(2, 0.998), (1, 0.002), (3, 0.002)]
    """
    semantics = semantics_of(scene)
    embeddings = semantics.embeddings
    order, nearest = rank(embeddings.numpy(force=True), text.to(embeddings).numpy(force=True), top)
    columns, cosines = (torch.from_numpy(each).to(embeddings.device) for each in (order, nearest))
    probabilities = match_probabilities(semantics, cosines, columns)
    found = zip(columns.tolist(), probabilities.tolist(), cosines.tolist(), strict=True)
    return [_match(scene, *match) for match in found]


def rank(
    embeddings: Float[np.ndarray, "M D"], text: Float[np.ndarray, " D"], top: int | None = None
) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Indices and cosines of the unit embeddings nearest to a unit text embedding, the nearest first.

    An embedding of length zero, about which nothing is known, has cosine 0. Of equal ones the first index comes first.
    NumPy, because its calls cost least, and a scene has few groups.
    """
    cosines = embeddings @ text
    order = ascending(-cosines, _SAME_COSINE, top)
    return order, cosines[order]


def name_groups(scene: TokenScene, names: Sequence[str], embeddings: Float[Tensor, "n D"]) -> list[GroupLabel]:
    """The best name of a vocabulary for every group, in the order of the scene's columns.

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
        raise UserError("the vocabulary has no name in it")
    cosines = text_cosines(semantics, embeddings)
    best, which = match_probabilities(semantics, cosines).max(dim=0)
    labels = zip(which.tolist(), best.tolist(), strict=True)
    return [GroupLabel(names[int(index)], probability) for index, probability in labels]


def _match(scene: TokenScene, column: int, probability: float, cosine: float) -> GroupMatch:
    low, high = group_box(scene, column).tolist()
    return GroupMatch(
        id=int(scene.group_ids[column]),
        name=group_name(scene, column),
        probability=probability,
        cosine=cosine,
        centre=tuple(group_centre(scene, column).tolist()),
        size=tuple(b - a for a, b in zip(low, high, strict=True)),
    )
