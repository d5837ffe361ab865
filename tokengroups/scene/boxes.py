"""Upright boxes of groups, with axes that no rounding can flip.

Many shapes have several equally good directions: a square has two longest sides, every side has two directions, a round
table has no sides, and an oblong box is often smallest a little to the left and to the right of its true yaw. The last
bit of a sum would decide a plain comparison, and it differs from processor to processor. So every decision here has a
margin, and the direction as seen from the first camera decides between values that are equal within it.

n is a number of yaws, M of Gaussians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import transform_points
from tokengroups.scene.groups import EXTENT_QUANTILES, GroupPoints, points_of_group, points_of_groups
from tokengroups.scene.quantiles import weighted_quantile
from tokengroups.types import Cameras, TokenScene

_YAWS = 90  # that the search for the smallest footprint tries, evenly spaced over a quarter turn
_PROJECTED_AT_ONCE = 15  # of them: a product of another shape may round in another way
_VALUES_AT_ONCE = 2**22  # projected positions, both ways: bounds the memory
_SMALL = 0.04  # footprints larger by less than this share than the smallest make up its surroundings
_SMALLEST = 0.01  # those larger by less than this share are as good as the smallest
_SQUARE = 0.017  # sides that differ by less than this share are equally long
_POINT = 1e-5  # of the distance from the first camera: smaller lengths are noise
# Equally good directions are ordered from here on: nobody turns a thing by this angle, or by a right angle more.
_FIRST_YAW_DEGREES = -41.3
_STEEP = 0.8  # cosine with up: a steeper camera axis does not define horizontal directions


@dataclass(frozen=True)
class OrientedBox:
    """Box that stands upright, in scene units and the scene's world."""

    centre: Float[Tensor, "3"]
    axes: Float[Tensor, "3 3"]  # rows: unit axes, right-handed; longer side (see `oriented_box`), other, up
    size: Float[Tensor, "3"]  # full lengths along the axes


def oriented_box(scene: TokenScene, column: int, up: Float[Tensor, "3"]) -> OrientedBox:
    """Upright box around the middle 96 % of a group's opacity along each axis, turned to the smallest footprint.

    CONVENTIONS.md has the rules for the axes (`groups.json`). Their result jumps only at shapes and yaws that nobody
    makes on purpose, and no rounding flips an axis. The box moves and turns with the scene. `up` is the unit vector
    `tokengroups.scene.layout.up_direction`.
    """
    return _boxes([points_of_group(scene, column)], scene.cameras, up)[0]


def oriented_boxes(scene: TokenScene, up: Float[Tensor, "3"]) -> list[OrientedBox]:
    """`oriented_box` of every group, by column."""
    return _boxes(points_of_groups(scene), scene.cameras, up)


def _boxes(groups: Sequence[GroupPoints], cameras: Cameras, up: Float[Tensor, "3"]) -> list[OrientedBox]:
    up, pose = up.double(), cameras.cam_from_world[0].double()
    level = _level_axes(cameras, up)
    tried = torch.stack([_turned(level, 90 * i / _YAWS) for i in range(_YAWS)])
    return [_smallest_box(points, pose, up, level, tried) for points in groups]


def _smallest_box(
    points: GroupPoints,
    pose: Float[Tensor, "4 4"],
    up: Float[Tensor, "3"],
    level: Float[Tensor, "2 3"],
    tried: Float[Tensor, "n 2 3"],
) -> OrientedBox:
    """Box of one group, given the first camera's pose and the horizontal axes to try."""
    means, weights = points.means.double(), points.weights
    centre = (weights[:, None] * means).sum(dim=0, keepdim=True)
    noise = _POINT * float(transform_points(pose, centre).norm())
    at_once = max(_VALUES_AT_ONCE // (4 * len(means)), 1)
    at_once -= at_once % _PROJECTED_AT_ONCE if at_once > _PROJECTED_AT_ONCE else 0
    areas = torch.cat([_sides(means, weights, some).prod(dim=1) for some in tried.split(at_once)])
    axes = _turned(level, _best_yaw(areas, noise**2))
    first, other = _sides(means, weights, axes[None])[0].tolist()
    if other > (1 + _SQUARE) * first + noise:
        axes = torch.stack([axes[1], -axes[0]])
    axes = torch.cat([axes, up[None]])
    low, high = _extent(means @ axes.T, weights)
    return OrientedBox(centre=(low + high) / 2 @ axes, axes=axes, size=high - low)


def _best_yaw(areas: Float[Tensor, " n"], noise: float) -> float:
    """Yaw in degrees, from `_FIRST_YAW_DEGREES` on, by the areas of the footprints at n yaws of a quarter turn.

    The middle of a range weights yaws by their distance below the limit, so that a yaw at the limit changes nothing.
    """
    smallest, largest = areas.min(), int(areas.argmax())
    limit = (1 + _SMALL) * smallest + noise
    if areas[largest] <= limit:
        return 0.0
    places = largest + torch.arange(len(areas))  # begins outside of all ranges, so that none is cut in two
    areas = areas[places % len(areas)]
    lead = (limit - areas).clamp(min=0)
    ranges = (lead == 0).cumsum(dim=0)  # yaws of one range have the same number of others before them
    empty = areas.new_zeros(len(areas) + 1)
    middles = empty.index_add(0, ranges, lead * places) / empty.index_add(0, ranges, lead)
    best = (empty + torch.inf).scatter_reduce(0, ranges, areas, "amin")
    chosen = middles[best < (1 + _SMALLEST) * smallest + noise] * (90 / len(areas))
    return float(((chosen - _FIRST_YAW_DEGREES) % 90).min()) + _FIRST_YAW_DEGREES


def _level_axes(cameras: Cameras, up: Float[Tensor, "3"]) -> Float[Tensor, "2 3"]:
    """Horizontal unit axes, right-handed with up; the first one from the first camera's axes."""
    right, forward = cameras.cam_from_world[0, [0, 2], :3].double()
    first = right if float((right @ up).abs()) < _STEEP else forward
    first = torch.nn.functional.normalize(first - (first @ up) * up, dim=0)
    return torch.stack([first, torch.linalg.cross(up, first)])


def _turned(level: Float[Tensor, "2 3"], degrees: float) -> Float[Tensor, "2 3"]:
    """Horizontal axes turned about up."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return level.new_tensor([[cosine, sine], [-sine, cosine]]) @ level


def _sides(
    means: Float[Tensor, "M 3"], weights: Float[Tensor, " M"], axes: Float[Tensor, "n 2 3"]
) -> Float[Tensor, "n 2"]:
    """Lengths of footprints along their two axes."""
    values = [means @ some.flatten(0, 1).T for some in axes.split(_PROJECTED_AT_ONCE)]
    low, high = _extent(torch.cat(values, dim=1), weights)
    return (high - low).unflatten(0, (-1, 2))


def _extent(
    values: Float[Tensor, "M C"], weights: Float[Tensor, " M"]
) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"]]:
    """First and last value of the middle 96 % of the weight, symmetric under a change of sign of all values."""
    low, high = weighted_quantile(torch.cat([values, -values], dim=1), weights, EXTENT_QUANTILES[0]).chunk(2)
    return low, -high
