"""Groups that end where objects end: anchors agree with what single photos tell of the borders between objects.

A decoder of few tokens knows which things there are, and is vague about where one ends and the next begins. A small
encoder's perspective network was asked just that: whether cells of a photo show one object. The two are put together
in rounds. Every cell hears the groups of the anchors that are nearest in space, whichever photo they come from; a
photo's cells agree by mean field (Kraehenbuehl and Koltun, 2011, with couplings that a network tells and that may
repel); every anchor takes over what the cells nearest to it say.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.encoders.vggt_tiny.single_view import REACHES
from tokengroups.nearest import nearest
from tokengroups.systems.token_groups.context import FrozenGeometry

MIN_PROBABILITY = 1e-6


@dataclass(frozen=True)
class BorderSettings:
    """How anchors and cells listen to each other; results hardly change within half and twice these."""

    trust: float = 0.6  # of a pair's logit; pairs overlap, so each counts less than by itself
    logit_limit: float = 4.0
    steps: int = 3  # of mean field in a round
    nearest: int = 6  # anchors that a cell listens to, and cells that an anchor does
    near: float = 0.15  # added to distances, in sides of a cell


def follow_borders(
    assignment: Float[Tensor, "K L"],
    anchor_pixels: Int64[Tensor, "K 3"],
    geometry: FrozenGeometry,
    rounds: int,
    settings: BorderSettings = BorderSettings(),  # noqa: B008 (frozen)
) -> Float[Tensor, "K L"]:
    """Probabilities of anchors over groups after `rounds` of agreement with the photos' borders.

    Anchors outside the photos' central squares, where the network does not look, keep theirs. No group is added; some
    may lose all of their anchors.

    Args:
        assignment: Rows sum to 1.
        anchor_pixels: View, row and column of the photo pixel behind every anchor.
        geometry: Of one scene, batch axis 1; its `same_object` tells the borders.
        rounds: Number of rounds; 0 leaves everything as it is.
        settings: Strengths and neighbourhoods.

    Raises:
        ValueError: If the number of rounds is negative.
    """
    if rounds < 0:
        raise ValueError(f"the number of border rounds must not be negative, got {rounds}")
    if rounds == 0:
        return assignment
    assert geometry.same_object is not None  # `build_decoder` sees to it
    num_views, _, cells, _ = geometry.same_object[0].shape
    pixels, inside = _cell_pixels(anchor_pixels, geometry.cameras.size_hw, num_views, cells)
    if not inside.any():
        return assignment
    couplings = geometry.same_object[0].float().clamp(-settings.logit_limit, settings.logit_limit)
    places, sides = _places(pixels, geometry, cells)
    anchors, anchor_sides = _places(anchor_pixels, geometry, cells)
    heard = _nearest(places, sides, anchors, settings)
    read = _nearest(anchors[inside], anchor_sides[inside], places, settings)
    # A group that owns no anchor would be dropped from the scene; without it there is less to compute.
    owners = assignment.argmax(dim=-1).unique()
    agreed = assignment[:, owners]
    agreed = agreed / agreed.sum(dim=-1, keepdim=True)
    for _ in range(rounds):
        own = _mean(agreed, heard).clamp_min(MIN_PROBABILITY).log()
        own = rearrange(own, "(v r c) l -> l v r c", v=num_views, r=cells)
        belief = mean_field(own, settings.trust * couplings, settings.steps)
        agreed[inside] = _mean(rearrange(belief, "l v r c -> (v r c) l"), read)
    return torch.zeros_like(assignment).index_copy_(1, owners, agreed)


def mean_field(
    own: Float[Tensor, "L V d d"], couplings: Float[Tensor, "V R d d"], steps: int
) -> Float[Tensor, "L V d d"]:
    """Probabilities of photos' cells over groups when pairs of cells in a photo attract or repel each other.

    Args:
        own: Logarithms of what the cells believe by themselves.
        couplings: Of the upper or left cell of each pair, by `REACHES`: what both gain in logits by being in one
            group; those without a partner in the photo do not count.
        steps: All cells change at once in each.
    """
    cells = own.shape[-1]
    # One long row a group, so that a partner is so many places on; pairs that would wrap around count 0.
    pairs = []
    for (down, right), coupling in zip(REACHES, couplings.unbind(dim=1), strict=True):
        within = torch.zeros_like(coupling)
        here = (slice(None), slice(0, max(cells - down, 0)), slice(0, max(cells - right, 0)))
        within[here] = coupling[here]
        reach = down * cells + right
        pairs.append((reach, within.flatten()[:-reach]))
    own = own.flatten(1).contiguous()
    belief = own.softmax(dim=0)
    for _ in range(steps):
        logits = own.clone()
        for reach, pull in pairs:
            logits[:, :-reach] += pull * belief[:, reach:]
            logits[:, reach:] += pull * belief[:, :-reach]
        belief = logits.softmax(dim=0)
    return belief.view(len(own), -1, cells, cells)


def _cell_pixels(
    anchor_pixels: Int64[Tensor, "K 3"], size_hw: tuple[int, int], num_views: int, cells: int
) -> tuple[Int64[Tensor, "M 3"], Bool[Tensor, " K"]]:
    """View, row and column in the middle of every cell, and which anchors lie in the square that the cells cover."""
    short = min(size_hw)
    start = anchor_pixels.new_tensor([(size_hw[0] - short) // 2, (size_hw[1] - short) // 2])
    index = torch.arange(cells, device=anchor_pixels.device)
    middles = ((index + 0.5) * (short / cells)).long()
    view = torch.arange(num_views, device=anchor_pixels.device)
    grid = torch.meshgrid(view, start[0] + middles, start[1] + middles, indexing="ij")
    places = anchor_pixels[:, 1:]
    inside = ((places >= start) & (places < start + short)).all(dim=-1)
    return torch.stack(grid, dim=-1).flatten(0, 2), inside


def _places(
    pixels: Int64[Tensor, "M 3"], geometry: FrozenGeometry, cells: int
) -> tuple[Float[Tensor, "M 3"], Float[Tensor, " M"]]:
    """Points in space behind pixels, and how large a cell is there."""
    view, row, column = pixels.unbind(dim=-1)
    focal = geometry.cameras.intrinsics[0, view, 0, 0]
    side = geometry.depth[0, view, row, column] / focal * (min(geometry.cameras.size_hw) / cells)
    return geometry.points[0, view, row, column], side.clamp_min(1e-6)


Neighbours = tuple[Int64[Tensor, "N k"], Float[Tensor, "N k"]]


def _nearest(
    places: Float[Tensor, "N 3"],
    sides: Float[Tensor, " N"],
    others: Float[Tensor, "M 3"],
    settings: BorderSettings,
) -> Neighbours:
    """The nearest others of every place, and their weights, which sum to 1."""
    distances, index = nearest(places, others, settings.nearest)
    weights = 1 / (distances / sides[:, None] + settings.near)
    return index, weights / weights.sum(dim=1, keepdim=True)


def _mean(values: Float[Tensor, "M L"], neighbours: Neighbours) -> Float[Tensor, "N L"]:
    index, weights = neighbours
    return torch.einsum("nkl,nk->nl", values[index], weights)
