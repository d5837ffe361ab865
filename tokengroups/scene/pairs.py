"""Pairs of upright boxes that are near each other, found by a sweep, and their measures.

n is a number of pairs, P of points that represent a footprint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.scene.boxes import OrientedBox

# Things made with a ruler meet limits exactly, where rounding would decide. A limit that is missed by less than this
# share of the compared value is met.
NOISE = 1e-5

_GRID = 11  # points along each side of a footprint, the edges included
_PAIRS_AT_ONCE, _POINTS_AT_ONCE = 512, 256  # bound the memory


@dataclass(frozen=True)
class Boxes:
    """All boxes of a scene."""

    centres: Float[Tensor, "L 3"]
    axes: Float[Tensor, "L 3 3"]
    sizes: Float[Tensor, "L 3"]

    def corners(self) -> Float[Tensor, "L 8 3"]:
        """All corners."""
        signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * 3)
        return self.centres[:, None] + (signs * self.sizes[:, None]) @ self.axes


@dataclass(frozen=True)
class BoxPairs:
    """Measures of ordered pairs of boxes; the second half of the pairs are those of the first, exchanged."""

    group: Int64[Tensor, " n"]
    other: Int64[Tensor, " n"]
    sizes: Float[Tensor, "n 3"]  # of the group
    other_sizes: Float[Tensor, "n 3"]
    footprint_share: Float[Tensor, " n"]  # of the group's footprint, over the other's
    gap: Float[Tensor, " n"]  # shortest horizontal distance; 0 = footprints touch
    height_overlap: Float[Tensor, " n"]  # length of the common range of heights; negative = vertical distance
    rise: Float[Tensor, " n"]  # from the other's top to the group's bottom
    noise: Float[Tensor, ""]  # length below which a missed limit is met


def stack_boxes(boxes: Sequence[OrientedBox]) -> Boxes:
    """The fields of all boxes, at least one."""
    fields = ([box.centre for box in boxes], [box.axes for box in boxes], [box.size for box in boxes])
    return Boxes(*(torch.stack(values) for values in fields))


def measure_pairs(boxes: Boxes, reach: float) -> BoxPairs:
    """Measure all pairs with a gap of at most `reach` times the longer side of one of them, and some more pairs."""
    noise = NOISE * boxes.sizes.max()  # a footprint's own edge counts as over it
    first, second = _near_pairs(boxes, reach, noise)
    group, other = torch.cat([first, second]), torch.cat([second, first])
    parts = zip(group.split(_PAIRS_AT_ONCE), other.split(_PAIRS_AT_ONCE), strict=True)
    measured = [_footprints(boxes, *some, noise) for some in parts]
    share, gap = (torch.cat(values) for values in zip(*measured, strict=True))
    heights, middle = boxes.sizes[:, 2], (boxes.centres * boxes.axes[:, 2]).sum(dim=1)
    bottom, top = middle - heights / 2, middle + heights / 2
    return BoxPairs(
        group=group,
        other=other,
        sizes=boxes.sizes[group],
        other_sizes=boxes.sizes[other],
        footprint_share=share,
        gap=torch.minimum(gap, exchanged(gap)),
        height_overlap=torch.minimum(top[group], top[other]) - torch.maximum(bottom[group], bottom[other]),
        rise=bottom[group] - top[other],
        noise=noise,
    )


def exchanged(values: Tensor) -> Tensor:
    """Values of `BoxPairs`, of the same pairs the other way round."""
    return values.roll(len(values) // 2)


def diameter(points: Float[Tensor, "n 3"]) -> Float[Tensor, ""]:
    """Largest distance between two points.

    Either end is far out: from the middle by at least the diameter less the longest distance of all.
    """
    distances = (points - points.mean(dim=0)).norm(dim=1)
    apart = (points - points[distances.argmax()]).norm(dim=1).max()
    outer = points[distances + distances.max() >= apart * (1 - NOISE)]
    return torch.stack([torch.cdist(some, outer).max() for some in outer.split(_POINTS_AT_ONCE)]).max()


def _near_pairs(
    boxes: Boxes, reach: float, noise: Float[Tensor, ""]
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Unordered pairs that no axis of a footprint separates by more than the reach of the longer side.

    A sweep finds the pairs whose footprints, each extended by its reach, overlap along two horizontal directions.
    """
    directions, sides = boxes.axes[0, :2], boxes.sizes[:, :2]
    middles, longer = boxes.centres @ directions.T, sides.amax(dim=1)
    half = ((boxes.axes[:, :2] @ directions.T).abs() * sides[:, :, None]).sum(dim=1) / 2
    half = half + reach * longer[:, None] + noise
    low, high = middles - half, middles + half
    first, second = min((_overlapping(low[:, i], high[:, i]) for i in range(2)), key=lambda pairs: len(pairs[0]))
    both = ((low[first] <= high[second]) & (low[second] <= high[first])).all(dim=1)
    first, second = first[both], second[both]
    apart = torch.maximum(_separation(boxes, first, second), _separation(boxes, second, first))
    near = apart <= reach * torch.maximum(longer[first], longer[second]) + noise
    return first[near], second[near]


def _separation(boxes: Boxes, group: Int64[Tensor, " n"], other: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Largest distance between footprints along an axis of the group's; negative where they overlap along both."""
    offset, turned = _in_frame(boxes, other, group)
    half = boxes.sizes[:, :2] / 2
    return (offset.abs() - half[group] - (half[other, :, None] * turned.abs()).sum(dim=1)).amax(dim=1)


def _in_frame(
    boxes: Boxes, group: Int64[Tensor, " n"], other: Int64[Tensor, " n"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2 2"]]:
    """Centre, relative to the other's, and horizontal axes (rows) of each group along the other's horizontal axes."""
    axes = boxes.axes[other, :2]
    offset = (boxes.centres[group] - boxes.centres[other])[:, None] @ axes.mT
    return offset[:, 0], boxes.axes[group, :2] @ axes.mT


def _overlapping(
    low: Float[Tensor, " L"], high: Float[Tensor, " L"]
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """All unordered pairs of ranges that overlap, by a sweep: a range meets those that begin next, up to its end."""
    low, order = low.sort()
    places = torch.arange(len(low))
    counts = torch.searchsorted(low, high[order], right=True) - places - 1
    first = places.repeat_interleave(counts)
    within = torch.arange(len(first)) - (counts.cumsum(dim=0) - counts)[first]
    return order[first], order[first + 1 + within]


def _footprints(
    boxes: Boxes, group: Int64[Tensor, " n"], other: Int64[Tensor, " n"], noise: Float[Tensor, ""]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Share of each group's footprint over the other's, and the distance of its nearest point, on regular grids."""
    ticks = torch.linspace(-0.5, 0.5, _GRID, dtype=torch.float64)
    offset, turned = _in_frame(boxes, group, other)
    steps = boxes.sizes[group, :2, None, None] * turned[..., None] * ticks  # n 2 2 G: along each axis, the coordinates
    local = (offset[..., None] + steps[:, 0])[..., None] + steps[:, 1, :, None]  # n 2 G G
    squares = (local.abs_() - boxes.sizes[other, :2, None, None] / 2).clamp_(min=0).square_().sum(dim=1).flatten(1)
    return (squares <= noise**2).double().mean(dim=1), squares.amin(dim=1).sqrt()
