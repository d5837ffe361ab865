"""Groups of a scene: members, position, size and colour."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import color_from_sh
from tokengroups.types import TokenScene

EXTENT_QUANTILES = (0.02, 0.98)  # of opacity: faint floaters do not blow up a group's box
_TIE = 1e-4  # of the mean weight: cumulative weights that miss a share by less reach it


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


@dataclass(frozen=True)
class GroupLabel:
    """Best name of a vocabulary for a group."""

    name: str
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


def group_name(scene: TokenScene, column: int) -> str:
    """Name of the group in a column, "" if it has none."""
    return scene.group_names[column] if scene.group_names else ""


def anchor_mask(scene: TokenScene, column: int) -> Bool[Tensor, " K"]:
    """Anchors that the group in a column owns."""
    return scene.assignment.argmax(dim=1) == column


def gaussian_mask(scene: TokenScene, column: int) -> Bool[Tensor, " N"]:
    """Gaussians that the group in a column owns."""
    return gaussian_columns(scene) == column


def gaussian_columns(scene: TokenScene) -> Int64[Tensor, " N"]:
    """Column of the group that owns each Gaussian."""
    return scene.assignment.argmax(dim=1)[scene.anchor_ids]


def group_centre(scene: TokenScene, column: int) -> Float[Tensor, "3"]:
    """Opacity-weighted mean of a group's Gaussians, about which edits rotate and scale.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import group_centre
        >>> [round(value, 3) for value in group_centre(tg.example_scene(), 1).tolist()]
        [-0.6, 0.5, 3.2]
    """
    mine = gaussian_mask(scene, column)
    means, weights = scene.gaussians.means[mine], opacity_weights(scene.gaussians.opacities[mine])
    return (means.double() * weights[:, None]).sum(dim=0).to(means)


def group_box(scene: TokenScene, column: int) -> Float[Tensor, "2 3"]:
    """Smallest and largest corner of the box around the middle 96 % of a group's opacity, axis by axis."""
    mine = gaussian_mask(scene, column)
    means, weights = scene.gaussians.means[mine], opacity_weights(scene.gaussians.opacities[mine])
    return torch.stack([weighted_quantile(means, weights, quantile) for quantile in EXTENT_QUANTILES])


def opacity_weights(opacities: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """Opacities as weights that sum to 1, float64; equal ones if all are 0."""
    weights = opacities.double()
    total = weights.sum()
    return weights / total if total > 0 else torch.full_like(weights, 1 / max(len(weights), 1))


def weighted_quantile(
    values: Float[Tensor, "M C"], weights: Float[Tensor, " M"], quantile: float
) -> Float[Tensor, " C"]:
    """First value of each column at which the cumulative weight reaches a share of the whole.

    Equal weights often sum to exactly the share, so a sum that misses it by a rounding error reaches it as well.
    """
    ordered, order = values.sort(dim=0)
    cumulative = weights[order].cumsum(dim=0)
    first = (cumulative < (quantile - _TIE / len(values)) * cumulative[-1]).sum(dim=0).clamp(max=len(values) - 1)
    return ordered.gather(0, first[None])[0]


def summarise(scene: TokenScene, visible_shares: Float[Tensor, " L"]) -> list[GroupSummary]:
    """Summarise every group, most visible first, given `tokengroups.scene.views.visible_shares`.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import summarise, visible_shares
        >>> scene = tg.example_scene()
        >>> [(group.id, group.name, group.color) for group in summarise(scene, visible_shares(scene))]
        [(1, 'floor', (140, 128, 115)), (2, 'box', (204, 64, 51)), (3, 'ball', (51, 89, 204))]
    """
    columns = gaussian_columns(scene)
    summaries = []
    for column, group_id in enumerate(scene.group_ids.tolist()):
        mine = columns == column
        weights = opacity_weights(scene.gaussians.opacities[mine])
        color = (color_from_sh(scene.gaussians.sh[mine]) * weights[:, None]).sum(dim=0).tolist()
        low, high = group_box(scene, column)
        red, green, blue = (round(255 * value) for value in color)
        summaries.append(
            GroupSummary(
                id=group_id,
                name=group_name(scene, column),
                num_anchors=int(anchor_mask(scene, column).sum()),
                num_gaussians=int(mine.sum()),
                centre=tuple(group_centre(scene, column).tolist()),
                size=tuple((high - low).tolist()),
                color=(red, green, blue),
                visible_share=float(visible_shares[column]),
            )
        )
    return sorted(summaries, key=lambda summary: (-summary.visible_share, summary.id))
