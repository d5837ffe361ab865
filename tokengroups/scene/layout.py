"""Layout of a scene from positions and opacities: its up direction, and the relations on, inside and next to.

Reconstructed geometry is wrong by 5 to 10 % of its distance, so the rules are generous.
P is the number of points that represent a footprint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.scene.boxes import OrientedBox
from tokengroups.scene.groups import gaussian_mask, opacity_weights
from tokengroups.types import Cameras, TokenScene

RelationKind = Literal["on", "inside", "next to"]

# Things made with a ruler meet limits exactly, where rounding would decide. A limit that is missed by less than this
# share of the compared value is met.
_NOISE = 1e-5

# A group is a level surface if its spread (standard deviation) along its normal is at most this share of the next one,
_THIN = 0.4
# its area (product of the two larger spreads) at least this share of the largest group's,
_BIG = 0.25
# it holds this share of the scene's opacity (three stray Gaussians are flat as well),
_HEAVY = 0.02
# and its normal is within this angle of the cameras' up: a floor or table top, not a wall.
_MOST_TILT_DEGREES = 45.0

_GRID = 11  # points along each side of a footprint, the edges included

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


@dataclass(frozen=True)
class _Pairs:
    """Measures of boxes, and of every pair of them: row = the group, column = the other one."""

    sizes: Float[Tensor, "L 3"]
    footprint_share: Float[Tensor, "L L"]  # of the group's footprint, over the other's
    gap: Float[Tensor, "L L"]  # shortest horizontal distance; 0 = footprints touch
    height_overlap: Float[Tensor, "L L"]  # length of the common range of heights; negative = vertical distance
    rise: Float[Tensor, "L L"]  # from the other's top to the group's bottom
    noise: Float[Tensor, ""]  # length below which a missed limit is met


def up_direction(scene: TokenScene) -> Float[Tensor, "3"]:
    """Unit vector against gravity: the mean normal of the floors and table tops, by area; float64.

    The scene's world is the first photo's camera, tilted as it was held. Without such a surface it is the cameras' up.
    """
    guess = cameras_up(scene.cameras)
    columns = range(len(scene.group_ids))
    planes = [_principal_axes(scene, column) for column in columns]
    normals, spreads = torch.stack([axes[0] for axes, _ in planes]), torch.stack([s for _, s in planes])
    cosines = normals @ guess
    areas = spreads[:, 1] * spreads[:, 2]
    opacities = scene.gaussians.opacities.double()
    masses = torch.stack([opacities[gaussian_mask(scene, column)].sum() for column in columns])
    level = cosines.abs() >= math.cos(math.radians(_MOST_TILT_DEGREES)) - _NOISE
    big = (areas > 0) & (areas >= _BIG * areas.max() * (1 - _NOISE))
    heavy = masses >= _HEAVY * masses.sum() * (1 - _NOISE)
    chosen = level & big & heavy & (spreads[:, 0] <= _THIN * spreads[:, 1] * (1 + _NOISE))
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
    pairs, structure = _pairs(boxes), _structure(boxes, names)
    apart = ~torch.eye(len(boxes), dtype=torch.bool)
    inside = _inside(pairs) & apart & ~structure[:, None] & ~structure
    on = _on(pairs, structure) & apart & ~structure[:, None] & ~inside
    taken = inside | inside.T | on | on.T
    beside = _next_to(pairs) & apart & ~structure[:, None] & ~structure & ~taken
    kinds: tuple[tuple[RelationKind, Tensor], ...] = (("on", on), ("inside", inside), ("next to", beside))
    found = [Relation(kind, group_ids[a], group_ids[b]) for kind, holds in kinds for a, b in holds.nonzero().tolist()]
    return sorted(found, key=lambda relation: (relation.group, relation.kind, relation.other))


def _principal_axes(scene: TokenScene, column: int) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3"]]:
    """Principal axes (rows) of a group's opacity and its spread along them, smallest first."""
    mine = gaussian_mask(scene, column)
    means = scene.gaussians.means[mine].double()
    weights = opacity_weights(scene.gaussians.opacities[mine])[:, None]
    centred = means - (weights * means).sum(dim=0)
    variances, axes = torch.linalg.eigh((weights * centred).T @ centred)
    return axes.T, variances.clamp(min=0).sqrt()


def _pairs(boxes: Sequence[OrientedBox]) -> _Pairs:
    """Compare all boxes with all; regular grids of points represent the footprints."""
    centres, sizes = torch.stack([box.centre for box in boxes]), torch.stack([box.size for box in boxes])
    axes = torch.stack([box.axes for box in boxes])
    ticks = torch.linspace(-0.5, 0.5, _GRID, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks)  # P 2
    points = centres[:, None] + (grid * sizes[:, None, :2]) @ axes[:, :2]  # L P 3
    local = torch.einsum("abpc,bkc->abpk", points[:, None] - centres[None, :, None], axes[:, :2])
    beyond = (local.abs() - sizes[:, None, :2] / 2).clamp(min=0).norm(dim=-1)  # L L P
    noise = _NOISE * sizes.max()  # a footprint's own edge counts as over it
    gap = beyond.amin(dim=-1)
    middle = (centres * axes[:, 2]).sum(dim=1)
    bottom, top = middle - sizes[:, 2] / 2, middle + sizes[:, 2] / 2
    return _Pairs(
        sizes=sizes,
        footprint_share=(beyond <= noise).double().mean(dim=-1),
        gap=torch.minimum(gap, gap.T),
        height_overlap=torch.minimum(top[:, None], top) - torch.maximum(bottom[:, None], bottom),
        rise=bottom[:, None] - top,
        noise=noise,
    )


def _structure(boxes: Sequence[OrientedBox], names: Sequence[str]) -> Bool[Tensor, " L"]:
    """Boxes that are walls, floors or ceilings: so named, or flat and very large for the scene."""
    signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * 3)
    corners = torch.cat([box.centre + (signs * box.size) @ box.axes for box in boxes])
    sides = torch.stack([box.size for box in boxes]).sort(dim=1).values
    flat = sides[:, 0] <= _STRUCTURE_FLAT * sides[:, 1] * (1 + _NOISE)
    diameter = torch.cdist(corners, corners).max()
    large = flat & (sides[:, 2] >= _STRUCTURE_LONG * diameter * (1 - _NOISE))
    named = [name.strip().lower() in _STRUCTURE_NAMES for name in names] or [False] * len(boxes)
    return large | torch.tensor(named)


def _inside(pairs: _Pairs) -> Bool[Tensor, "L L"]:
    heights, volumes = pairs.sizes[:, 2], pairs.sizes.prod(dim=1)
    share = pairs.footprint_share * pairs.height_overlap.clamp(min=0) / heights[:, None].clamp(min=1e-12)
    smaller = volumes[:, None] <= _INSIDE_VOLUME * volumes * (1 + _NOISE)
    return (share >= _INSIDE_SHARE - _NOISE) & smaller


def _on(pairs: _Pairs, structure: Bool[Tensor, " L"]) -> Bool[Tensor, "L L"]:
    sides, heights = pairs.sizes[:, :2], pairs.sizes[:, 2]
    shorter, longer = sides.amin(dim=1), sides.amax(dim=1)
    slab = heights <= _SLAB * shorter * (1 + _NOISE)
    slack = _ON_GAP * (heights[:, None] + heights)
    # The thickness of a slab's box is mostly noise: things may stand anywhere in it.
    near = (pairs.rise <= slack + pairs.noise) & (pairs.rise >= -slack - heights * slab - pairs.noise)
    higher = pairs.rise + (heights[:, None] + heights) / 2 > pairs.noise
    beside_floor = slab & structure & (pairs.gap <= _FLOOR_GAP * longer[:, None] + pairs.noise)
    return near & higher & ((pairs.footprint_share >= _ON_OVERLAP) | beside_floor)


def _next_to(pairs: _Pairs) -> Bool[Tensor, "L L"]:
    longer, heights = pairs.sizes[:, :2].amax(dim=1), pairs.sizes[:, 2]
    near = pairs.gap <= _NEXT_GAP * torch.minimum(longer[:, None], longer) + pairs.noise
    lower = torch.minimum(heights[:, None], heights)
    return near & (pairs.height_overlap >= _NEXT_HEIGHTS * lower - pairs.noise)
