"""Upright boxes of groups, with axes that no rounding can flip.

Many shapes have several equally good directions: a square has two longest sides, every side has two directions, a round
table has no sides, and an oblong box is often smallest a little to the left and to the right of its true yaw. The last
bit of a sum would decide a plain comparison, and it differs from processor to processor. So every decision here has a
margin, and the direction as seen from the first camera decides between values that are equal within it.

n is a number of yaws, B of groups, M of Gaussians of each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import transform_points
from tokengroups.scene.groups import EXTENT_QUANTILES, GroupPoints, for_all_groups, points_of_group, select_points
from tokengroups.scene.quantiles import quantile_of_lowest, weighted_quantile
from tokengroups.types import Cameras, TokenScene

_YAWS = 90  # that the search for the smallest footprint tries, evenly spaced over a quarter turn
_VALUES_AT_ONCE = 2**16  # projected positions: larger arrays cost page faults
_SECTOR = 12  # neighbouring directions, among a full turn, for which Gaussians are chosen at once
_SPARE = 1.01  # factor on the weight of the lowest ones, much above rounding
_END = EXTENT_QUANTILES[0]
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
    return _boxes(points_of_group(scene, column)[None], scene.cameras, up.double())[0]


def oriented_boxes(scene: TokenScene, up: Float[Tensor, "3"]) -> list[OrientedBox]:
    """`oriented_box` of every group, by column."""
    return for_all_groups(scene, lambda mine: _boxes(select_points(scene, mine), scene.cameras, up.double()))


def _boxes(points: GroupPoints, cameras: Cameras, up: Float[Tensor, "3"]) -> list[OrientedBox]:
    """Boxes of groups that have equally many Gaussians."""
    pose, level, means = cameras.cam_from_world[0].double(), _level_axes(cameras, up), points.means.double()
    centre = (points.weights[..., None] * means).sum(dim=1)
    noise = _POINT * transform_points(pose, centre).norm(dim=1)
    yaws = _best_yaws(_footprint_areas(level @ means.mT, points.weights), noise**2)
    axes = torch.stack([torch.cat([_turned(level, yaw), up[None]]) for yaw in yaws.tolist()])
    low, high = _extent(axes @ means.mT, points.weights)
    longer = (high - low)[:, 1] > (1 + _SQUARE) * (high - low)[:, 0] + noise  # the second side: a quarter turn more
    axes = torch.where(longer[:, None, None], torch.stack([axes[:, 1], -axes[:, 0], axes[:, 2]], dim=1), axes)
    ends = (
        torch.stack([low[:, 1], -high[:, 0], low[:, 2]], dim=1),
        torch.stack([high[:, 1], -low[:, 0], high[:, 2]], dim=1),
    )
    low, high = torch.where(longer[:, None], ends[0], low), torch.where(longer[:, None], ends[1], high)
    centres = ((low + high)[:, None] / 2 @ axes)[:, 0]
    return [OrientedBox(*fields) for fields in zip(centres, axes, high - low, strict=True)]


def _footprint_areas(plan: Float[Tensor, "B 2 M"], weights: Float[Tensor, "B M"]) -> Float[Tensor, "B n"]:
    """Areas of footprints at n yaws, evenly spaced over a quarter turn, given positions along the level axes."""
    radians = torch.deg2rad(torch.arange(_YAWS, dtype=torch.float64) * (90 / _YAWS))
    cosine, sine = radians.cos(), radians.sin()
    directions = torch.stack([torch.cat([cosine, -sine, -cosine, sine]), torch.cat([sine, cosine, -sine, -cosine])])
    count = plan.shape[-1]
    if groups := _VALUES_AT_ONCE // (4 * _YAWS * count):
        parts = zip(plan.split(groups), weights.split(groups), strict=True)
        lowest = torch.cat([weighted_quantile(some.mT @ directions, masses, _END) for some, masses in parts])
    else:
        sectors = rearrange(directions, "c (s n) -> s n c", n=_SECTOR).split(max(_VALUES_AT_ONCE // (3 * count), 1))
        each = zip(plan, weights, strict=True)
        lowest = torch.stack([torch.cat([_lowest(some, *group) for some in sectors]) for group in each])
    left, near, right, far = lowest.unflatten(1, (4, -1)).unbind(dim=1)
    return (left + right) * (near + far)


def _lowest(
    sectors: Float[Tensor, "s n 2"], plan: Float[Tensor, "2 M"], weights: Float[Tensor, " M"]
) -> Float[Tensor, " sn"]:
    """Where the middle 96 % of the weight begin along neighbouring directions, from the few Gaussians that can be it.

    Some are the lowest along the middle direction of a sector. Those that lie beyond all of these along its first and
    its last direction do so along every direction between, so that enough weight is lower.
    """
    first, middle, last = (sectors[:, [0, sectors.shape[1] // 2, -1]] @ plan).unbind(dim=1)
    higher = middle > weighted_quantile(middle.mT, weights, _SPARE * _END)[:, None]
    kept = torch.stack([ends <= ends.masked_fill(higher, -torch.inf).amax(1, keepdim=True) for ends in (first, last)])
    sector, gaussian = kept.any(dim=0).nonzero(as_tuple=True)
    counts = sector.bincount(minlength=len(sectors))
    place = torch.arange(len(sector)) - (counts.cumsum(0) - counts)[sector]
    chosen = sector.new_zeros(len(sectors), int(counts.max()))
    chosen[sector, place] = gaussian
    missing = torch.arange(chosen.shape[1]) >= counts[:, None]
    values = (sectors @ plan[:, chosen].transpose(0, 1)).masked_fill_(missing[:, None], torch.inf)
    masses = weights[chosen].masked_fill_(missing, 0)
    return quantile_of_lowest(values.mT, masses, _END, len(weights)).flatten()


def _best_yaws(areas: Float[Tensor, "B n"], noise: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Yaws in degrees, from `_FIRST_YAW_DEGREES` on, by the areas of the footprints at n yaws of a quarter turn.

    The middle of a range weights yaws by their distance below the limit, so that a yaw at the limit changes nothing.
    """
    count, noise = areas.shape[1], noise[:, None]
    smallest, largest = areas.amin(dim=1, keepdim=True), areas.argmax(dim=1, keepdim=True)
    limit = (1 + _SMALL) * smallest + noise
    places = largest + torch.arange(count)  # begins outside of all ranges, so that none is cut in two
    areas = areas.gather(1, places % count)
    lead = (limit - areas).clamp(min=0)
    ranges = (lead == 0).cumsum(dim=1)  # yaws of one range have the same number of others before them
    empty = areas.new_zeros(len(areas), count + 1)
    middles = empty.scatter_add(1, ranges, lead * places) / empty.scatter_add(1, ranges, lead)
    best = (empty + torch.inf).scatter_reduce(1, ranges, areas, "amin")
    yaws = (middles * (90 / count) - _FIRST_YAW_DEGREES) % 90 + _FIRST_YAW_DEGREES
    first = yaws.masked_fill(best >= (1 + _SMALLEST) * smallest + noise, torch.inf).amin(dim=1)
    return torch.where(areas[:, 0] <= limit[:, 0], 0.0, first)  # all are as good


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


def _extent(
    values: Float[Tensor, "B C M"], weights: Float[Tensor, "B M"]
) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B C"]]:
    """First and last value of the middle 96 % of the weight, symmetric under a change of sign of all values."""
    low, high = (weighted_quantile(some.mT, weights, EXTENT_QUANTILES[0]) for some in (values, -values))
    return low, -high
