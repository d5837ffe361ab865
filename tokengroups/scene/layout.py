"""Layout of a scene from positions and opacities: its up direction, and the relations on, inside and next to.

Reconstructed geometry is wrong by 5 to 10 % of its distance, so the rules are generous.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.scene.boxes import OrientedBox
from tokengroups.scene.groups import GroupPoints, for_all_groups, select_points
from tokengroups.scene.pairs import NOISE, Boxes, BoxPairs, diameter, exchanged, measure_pairs, stack_boxes
from tokengroups.types import Cameras, TokenScene

RelationKind = Literal["on", "inside", "next to"]

# A group is a level surface if its spread (standard deviation) along its normal is at most this share of the next one,
_THIN = 0.4
# its area (product of the two larger spreads) at least this share of the largest group's,
_BIG = 0.25
# it holds this share of the scene's opacity (three stray Gaussians are flat as well),
_HEAVY = 0.02
# and its normal is within this angle of the cameras' up: a floor or table top, not a wall.
_MOST_TILT_DEGREES = 45.0

_STRUCTURE_FLAT = 0.45  # walls, floors and ceilings: the thinnest side is at most this share of the next one
_STRUCTURE_LONG = 0.33  # and the longest at least this share of the scene's diameter
_STRUCTURE_NAMES = frozenset({"wall", "walls", "floor", "ceiling"})
_ON_GAP = 0.15  # of both heights together: largest distance above, or below, the top of the support
_SLAB = 0.35  # a support is a slab if its height is at most this share of its shorter horizontal side
_ON_OVERLAP = 0.5  # share of the footprint that lies over the support
_FLOOR_GAP = 0.5  # of the longer side: largest distance from the seen part of a floor
_INSIDE_SHARE = 0.8  # of the volume lies in the container
_INSIDE_VOLUME = 0.5  # largest volume, as a share of the container's
_NEXT_GAP = 0.5  # of the longer horizontal side of the smaller thing
_NEXT_HEIGHTS = 0.5  # share of the lower thing's height at which the other one is as well


@dataclass(frozen=True)
class Relation:
    """Relation of a group to another one; public ids."""

    kind: RelationKind
    group: int
    other: int


def up_direction(scene: TokenScene) -> Float[Tensor, "3"]:
    """Unit vector against gravity: the mean normal of the floors and table tops, by area; float64.

    The scene's world is the first photo's camera, tilted as it was held. Without such a surface it is the cameras' up.
    """
    guess = cameras_up(scene.cameras)
    planes = for_all_groups(scene, lambda mine: _planes(select_points(scene, mine)))
    normals, spreads, masses = (torch.stack(values) for values in zip(*planes, strict=True))
    cosines = normals @ guess
    areas = spreads[:, 1] * spreads[:, 2]
    level = cosines.abs() >= math.cos(math.radians(_MOST_TILT_DEGREES)) - NOISE
    big = (areas > 0) & (areas >= _BIG * areas.max() * (1 - NOISE))
    heavy = masses >= _HEAVY * masses.sum() * (1 - NOISE)
    chosen = level & big & heavy & (spreads[:, 0] <= _THIN * spreads[:, 1] * (1 + NOISE))
    if not bool(chosen.any()):
        return guess
    upward = normals * cosines.sign()[:, None] * areas[:, None]
    return torch.nn.functional.normalize(upward[chosen].sum(dim=0), dim=0)


def cameras_up(cameras: Cameras) -> Float[Tensor, "3"]:
    """The cameras' common up axis, -y of their mean rotation; the first one's where they cancel out."""
    up = -cameras.cam_from_world[:, 1, :3].double()
    total = up.sum(dim=0)
    return torch.nn.functional.normalize(total if total.norm() > 1e-3 * len(up) else up[0], dim=0)


def relations(boxes: Sequence[OrientedBox], group_ids: Sequence[int], names: Sequence[str] = ()) -> list[Relation]:
    """Find the groups that are on, inside or next to others; ordered by group.

    - inside: most of the group's volume lies in the other's box, which is clearly larger and no structure.
    - on: the group's bottom is near the other's top, or within its thickness if that is a slab; most of its footprint
      lies over the other's, or near it if that is a floor, of which photos see parts; its centre is the higher one.
    - next to: near beside each other and largely at the same height, neither on nor inside the other; both ways.

    Structure (walls, floors, ceilings: very large flat boxes, or so named) is on, inside and next to nothing.

    Args:
        boxes: Of all groups, with a common up axis.
        group_ids: Their public ids.
        names: Label of each, "" = unknown; none at all = all unknown.
    """
    if not boxes:
        return []
    stacked = stack_boxes(boxes)
    pairs, structure = measure_pairs(stacked, max(_FLOOR_GAP, _NEXT_GAP)), structure_mask(stacked, names)
    free, bounded = ~structure[pairs.group], ~structure[pairs.other]
    inside = _inside(pairs) & free & bounded
    on = _on(pairs, structure[pairs.other]) & free & ~inside
    taken = inside | on
    beside = _next_to(pairs) & free & bounded & ~taken & ~exchanged(taken)
    kinds: tuple[tuple[RelationKind, Tensor], ...] = (("on", on), ("inside", inside), ("next to", beside))
    found = [
        Relation(kind, group_ids[group], group_ids[other])
        for kind, holds in kinds
        for group, other in zip(pairs.group[holds].tolist(), pairs.other[holds].tolist(), strict=True)
    ]
    return sorted(found, key=lambda relation: (relation.group, relation.kind, relation.other))


def _planes(points: GroupPoints) -> Iterable[tuple[Float[Tensor, "3"], Float[Tensor, "3"], Float[Tensor, ""]]]:
    """Normal of each group, spreads of its opacity along its principal axes, smallest first, and its opacity in all."""
    centred = points.means.double() - points.mean(points.means)[:, None]
    variances, axes = torch.linalg.eigh((points.weights[..., None] * centred).mT @ centred)
    return zip(axes[:, :, 0], variances.clamp(min=0).sqrt(), points.opacities.double().sum(dim=1), strict=True)


def structure_mask(boxes: Boxes, names: Sequence[str]) -> Bool[Tensor, " L"]:
    """Boxes that are walls, floors or ceilings: so named, or flat and very large for the scene."""
    sides = boxes.sizes.sort(dim=1).values
    flat = sides[:, 0] <= _STRUCTURE_FLAT * sides[:, 1] * (1 + NOISE)
    longest = diameter(boxes.corners().flatten(0, 1))
    large = flat & (sides[:, 2] >= _STRUCTURE_LONG * longest * (1 - NOISE))
    named = [name.strip().lower() in _STRUCTURE_NAMES for name in names] or [False] * len(sides)
    return large | torch.tensor(named)


def _inside(pairs: BoxPairs) -> Bool[Tensor, " n"]:
    height = pairs.sizes[:, 2].clamp(min=1e-12)
    share = pairs.footprint_share * pairs.height_overlap.clamp(min=0) / height
    smaller = pairs.sizes.prod(dim=1) <= _INSIDE_VOLUME * pairs.other_sizes.prod(dim=1) * (1 + NOISE)
    return (share >= _INSIDE_SHARE - NOISE) & smaller


def _on(pairs: BoxPairs, structure: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """`structure` tells of the others."""
    height, other_height = pairs.sizes[:, 2], pairs.other_sizes[:, 2]
    slab = other_height <= _SLAB * pairs.other_sizes[:, :2].amin(dim=1) * (1 + NOISE)
    slack = _ON_GAP * (height + other_height)
    # The thickness of a slab's box is mostly noise: things may stand anywhere in it.
    near = (pairs.rise <= slack + pairs.noise) & (pairs.rise >= -slack - other_height * slab - pairs.noise)
    higher = pairs.rise + (height + other_height) / 2 > pairs.noise
    longer = pairs.sizes[:, :2].amax(dim=1)
    beside_floor = slab & structure & (pairs.gap <= _FLOOR_GAP * longer + pairs.noise)
    return near & higher & ((pairs.footprint_share >= _ON_OVERLAP) | beside_floor)


def _next_to(pairs: BoxPairs) -> Bool[Tensor, " n"]:
    longer = torch.minimum(pairs.sizes[:, :2].amax(dim=1), pairs.other_sizes[:, :2].amax(dim=1))
    lower = torch.minimum(pairs.sizes[:, 2], pairs.other_sizes[:, 2])
    near = pairs.gap <= _NEXT_GAP * longer + pairs.noise
    return near & (pairs.height_overlap >= _NEXT_HEIGHTS * lower - pairs.noise)
