"""Groups of a scene: members, position, size and colour."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import color_from_sh
from tokengroups.scene.quantiles import weighted_quantiles
from tokengroups.types import TokenScene

_Measured = TypeVar("_Measured")
EXTENT_QUANTILES = (0.02, 0.98)  # of opacity: faint floaters do not blow up a group's box


@dataclass(frozen=True)
class GroupSummary:
    """Row of `tokengroups list`; lengths in scene units, world axes."""

    id: int
    name: str
    num_anchors: int
    num_gaussians: int
    centre: tuple[float, float, float]
    size: tuple[float, float, float]  # box that holds the middle 96 % of the opacity per axis
    color: tuple[int, int, int]  # mean colour, 8 bits a channel
    visible_share: float  # of all pixels of the context views
    score: float | None = None  # the larger, the more certain; None = unknown


@dataclass(frozen=True)
class GroupLabel:
    """Best name of a vocabulary for a group."""

    name: str  # "" = the group has no embedding
    probability: float


def column_of(scene: TokenScene, group_id: int) -> int:
    """Column of a public group id.

    Raises:
        UserError: There is no such group; the message lists those that exist.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene.groups import column_of
        >>> column_of(tg.example_scene(), 3)
        2
    """
    ids = scene.group_ids.tolist()
    if group_id not in ids:
        raise UserError(f"there is no group {group_id}; the scene has the groups {', '.join(map(str, sorted(ids)))}")
    return ids.index(group_id)


def columns_of(scene: TokenScene, ids: Int64[Tensor, "*b"]) -> Int64[Tensor, "*b"]:
    """Columns of public group ids; -1 for ids that are no group's.

    Example:
        >>> import torch
        >>> import tokengroups as tg
        >>> from tokengroups.scene.groups import columns_of
        >>> columns_of(tg.example_scene(), torch.tensor([3, -1, 1]))
        tensor([ 2, -1,  0])
    """
    known, columns = scene.group_ids.to(ids.device).sort()
    place = torch.searchsorted(known, ids).clamp(max=len(known) - 1)
    return torch.where(known[place] == ids, columns[place], -1)


def group_name(scene: TokenScene, column: int) -> str:
    """Name of the group in a column, "" if it has none."""
    return scene.group_names[column] if scene.group_names else ""


def group_score(scene: TokenScene, column: int) -> float | None:
    """Score of the group in a column, None if it is unknown."""
    return None if scene.group_scores is None else scene.group_scores[column].item() or None


def anchor_mask(scene: TokenScene, column: int) -> Bool[Tensor, " K"]:
    """Anchors that the group in a column owns."""
    return scene.assignment.argmax(dim=1) == column


def gaussian_mask(scene: TokenScene, column: int) -> Bool[Tensor, " N"]:
    """Gaussians that the group in a column owns."""
    return gaussian_columns(scene) == column


def gaussian_columns(scene: TokenScene) -> Int64[Tensor, " N"]:
    """Column of the group that owns each Gaussian."""
    return scene.assignment.argmax(dim=1)[scene.anchor_ids]


@dataclass(frozen=True)
class GroupPoints:
    """Positions and opacities of one group's Gaussians, in their order, or of several groups of equal size."""

    means: Float[Tensor, "*b M 3"]
    opacities: Float[Tensor, "*b M"]

    def __getitem__(self, index: Any) -> GroupPoints:
        """Points of some groups, as of a tensor."""
        return GroupPoints(self.means[index], self.opacities[index])

    @cached_property
    def weights(self) -> Float[Tensor, "*b M"]:
        """Weights of the positions: `opacity_weights`."""
        return opacity_weights(self.opacities)

    def mean(self, values: Float[Tensor, "*b M C"]) -> Float[Tensor, "*b C"]:
        """Opacity-weighted mean of values."""
        return (values.double() * self.weights[..., None]).sum(dim=-2)

    def centre(self) -> Float[Tensor, "*b 3"]:
        """Opacity-weighted mean."""
        return self.mean(self.means).to(self.means)

    def box(self) -> Float[Tensor, "2 *b 3"]:
        """Smallest and largest corner of the box around the middle 96 % of the opacity, axis by axis."""
        return weighted_quantiles(self.means, self.weights, EXTENT_QUANTILES)


def group_members(scene: TokenScene) -> tuple[Int64[Tensor, " M"], ...]:
    """Indices of every group's Gaussians, ascending, by column; one sort for all groups."""
    columns = gaussian_columns(scene)
    counts = torch.bincount(columns, minlength=len(scene.group_ids))
    return columns.argsort(stable=True).split(counts.tolist())


def for_all_groups(
    scene: TokenScene, measure: Callable[[Int64[Tensor, "B M"]], Iterable[_Measured]]
) -> list[_Measured]:
    """Measures of all groups, by column.

    `measure` is given the indices of the Gaussians of several groups of equal size and returns a value for each: many
    small groups then take little longer than a large one.
    """
    members, columns = group_members(scene), defaultdict[int, list[int]](list)
    for column, mine in enumerate(members):
        columns[len(mine)].append(column)
    found: dict[int, _Measured] = {}
    for some in columns.values():
        found |= zip(some, measure(torch.stack([members[column] for column in some])), strict=True)
    return [found[column] for column in range(len(members))]


def points_of_group(scene: TokenScene, column: int) -> GroupPoints:
    """Points of one group; `for_all_groups` is much faster for all of many."""
    return select_points(scene, gaussian_mask(scene, column))


def select_points(scene: TokenScene, mine: Tensor) -> GroupPoints:
    """Points of one group, given the indices or the mask of its Gaussians; of several, given a row of indices each."""
    return GroupPoints(scene.gaussians.means[mine], scene.gaussians.opacities[mine])


def group_centre(scene: TokenScene, column: int) -> Float[Tensor, "3"]:
    """Opacity-weighted mean of a group's Gaussians, about which edits rotate and scale.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import group_centre
        >>> [round(value, 3) for value in group_centre(tg.example_scene(), 1).tolist()]
        [-0.6, 0.5, 3.2]
    """
    return points_of_group(scene, column).centre()


def group_box(scene: TokenScene, column: int) -> Float[Tensor, "2 3"]:
    """Smallest and largest corner of the box around the middle 96 % of a group's opacity, axis by axis."""
    return points_of_group(scene, column).box()


def opacity_weights(opacities: Float[Tensor, "*b M"]) -> Float[Tensor, "*b M"]:
    """Opacities as weights that sum to 1, float64; equal ones if all are 0."""
    weights = opacities.double()
    totals = weights.sum(dim=-1, keepdim=True)
    return torch.where(totals > 0, weights / totals, 1 / max(weights.shape[-1], 1))


def summarise(scene: TokenScene, visible_shares: Float[Tensor, " L"]) -> list[GroupSummary]:
    """Summarise every group, most visible first, given `tokengroups.scene.views.visible_shares`.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import summarise, visible_shares
        >>> scene = tg.example_scene()
        >>> [(group.id, group.name, group.color) for group in summarise(scene, visible_shares(scene))]
        [(1, 'floor', (140, 128, 115)), (2, 'box', (204, 64, 51)), (3, 'ball', (51, 89, 204))]
    """
    num_anchors = torch.bincount(scene.assignment.argmax(dim=1), minlength=len(scene.group_ids)).tolist()
    colors = color_from_sh(scene.gaussians.sh)

    def measure(mine: Int64[Tensor, "B M"]) -> Iterable[Any]:
        points = select_points(scene, mine)
        low, high = points.box()
        values = points.centre(), high - low, points.mean(colors[mine])
        return zip([mine.shape[1]] * len(mine), *(value.tolist() for value in values), strict=True)

    summaries, measured = [], for_all_groups(scene, measure)
    for column, (group_id, (count, centre, size, color)) in enumerate(
        zip(scene.group_ids.tolist(), measured, strict=True)
    ):
        red, green, blue = (round(255 * value) for value in color)
        summaries.append(
            GroupSummary(
                id=group_id,
                name=group_name(scene, column),
                num_anchors=num_anchors[column],
                num_gaussians=count,
                centre=tuple(centre),
                size=tuple(size),
                color=(red, green, blue),
                visible_share=float(visible_shares[column]),
                score=group_score(scene, column),
            )
        )
    return sorted(summaries, key=lambda summary: (-summary.visible_share, summary.id))
