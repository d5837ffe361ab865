"""Boundary CRF: mean-field inference that aligns groups with predicted object boundaries.

A decoder of few tokens knows which objects there are, but not precisely where one ends and the next begins. Pair
affinities of photo cells say just that. Every iteration averages the groups of the anchors nearest to each cell in
space, runs mean field within each photo (Kraehenbuehl and Koltun, 2011, with predicted couplings that may repel), and
averages the cells nearest to each anchor back.

Symbols: K anchors, L groups, V photos of d x d cells, R pair offsets; *unary* are log probabilities of a cell's own
groups, *coupling* is what both cells of a pair gain in logits by being in one group.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.bounds import Between, Settings, Weight
from tokengroups.encoders.base import PAIR_AFFINITY, PAIR_OFFSETS, Geometry
from tokengroups.geometry import cell_centres, central_square
from tokengroups.nearest import nearest
from tokengroups.postprocess.draft import Draft

MIN_PROBABILITY = 1e-6
MAX_LOGIT = 4.0  # of a coupling
FAR = 100.0  # times the largest coordinate of a point
DISTANCE_OFFSET = 0.15  # added to distances, in sides of a cell


@dataclass(frozen=True)
class BoundaryCRF(Settings):
    """Align groups with the object boundaries that a single-view network predicts (a `Step`).

    Results hardly change within half and twice these settings. Anchors outside the photos' central squares, which the
    network does not see, keep their groups. No group is added; some may lose all of their anchors.
    """

    iterations: Annotated[int, Between(0, 100)] = 8
    pair_weight: Weight = 0.6  # of a pair's logit; pairs overlap, so each counts less than alone
    mean_field_steps: Annotated[int, Between(0, 100)] = 3  # in an iteration
    neighbours: Annotated[int, Between(1, 64)] = 6  # anchors that a cell averages, and cells that an anchor does

    when: ClassVar[str] = "after_decoding"
    needs: ClassVar[frozenset[str]] = frozenset({PAIR_AFFINITY})

    def __call__(self, draft: Draft) -> Draft:
        """Replace the assignment of the prediction."""
        prediction = draft.predicted()
        assignment = self.refine(prediction.assignment, prediction.anchor_pixels, draft.geometry)
        return replace(draft, prediction=replace(prediction, assignment=assignment))

    def refine(
        self, assignment: Float[Tensor, "K L"], anchor_pixels: Int64[Tensor, "K 3"], geometry: Geometry
    ) -> Float[Tensor, "K L"]:
        """Probabilities of anchors over groups that agree with the boundaries.

        Args:
            assignment: Rows sum to 1.
            anchor_pixels: View, row and column of the photo pixel behind every anchor.
            geometry: Geometry of one scene, with pair affinities.
        """
        if self.iterations == 0:
            return assignment
        affinity = geometry.evidence[PAIR_AFFINITY]
        assert isinstance(affinity, Tensor)
        num_views, _, cells, _ = affinity.shape
        pixels, inside = _cell_pixels(anchor_pixels, geometry.cameras.size_hw, num_views, cells)
        if not inside.any():
            return assignment
        couplings = affinity.float().clamp(-MAX_LOGIT, MAX_LOGIT)
        places, sides = _places(pixels, geometry, cells)
        anchors, anchor_sides = _places(anchor_pixels, geometry, cells)
        anchors_of_cells = _nearest(places, sides, anchors, self.neighbours)
        cells_of_anchors = _nearest(anchors[inside], anchor_sides[inside], places, self.neighbours)
        # A group that owns no anchor would be dropped from the scene; without it there is less to compute.
        owners = assignment.argmax(dim=-1).unique()
        refined = assignment[:, owners]
        refined = refined / refined.sum(dim=-1, keepdim=True)
        for _ in range(self.iterations):
            unary = _mean(refined, anchors_of_cells).clamp_min(MIN_PROBABILITY).log()
            unary = rearrange(unary, "(v r c) l -> l v r c", v=num_views, r=cells)
            marginals = mean_field(unary, self.pair_weight * couplings, self.mean_field_steps)
            refined[inside] = _mean(rearrange(marginals, "l v r c -> (v r c) l"), cells_of_anchors)
        return torch.zeros_like(assignment).index_copy_(1, owners, refined)


def mean_field(
    unary: Float[Tensor, "L V d d"], couplings: Float[Tensor, "V R d d"], steps: int
) -> Float[Tensor, "L V d d"]:
    """Marginal probabilities of photos' cells over groups when pairs of cells attract or repel each other.

    Args:
        unary: Log probabilities of each cell by itself.
        couplings: Of the upper or left cell of each pair, by `PAIR_OFFSETS`; those without a partner in the photo do
            not count.
        steps: Parallel updates of all cells.
    """
    cells = unary.shape[-1]
    # One long row a group, so that a partner is so many places on; pairs that would wrap around count 0.
    pairs = []
    for (down, right), coupling in zip(PAIR_OFFSETS, couplings.unbind(dim=1), strict=True):
        within = torch.zeros_like(coupling)
        here = (slice(None), slice(0, max(cells - down, 0)), slice(0, max(cells - right, 0)))
        within[here] = coupling[here]
        offset = down * cells + right
        pairs.append((offset, within.flatten()[:-offset]))
    unary = unary.flatten(1).contiguous()
    marginals = unary.softmax(dim=0)
    for _ in range(steps):
        logits = unary.clone()
        for offset, coupling in pairs:
            logits[:, :-offset] += coupling * marginals[:, offset:]
            logits[:, offset:] += coupling * marginals[:, :-offset]
        marginals = logits.softmax(dim=0)
    return marginals.view(len(unary), -1, cells, cells)


def _cell_pixels(
    anchor_pixels: Int64[Tensor, "K 3"], size_hw: tuple[int, int], num_views: int, cells: int
) -> tuple[Int64[Tensor, "M 3"], Bool[Tensor, " K"]]:
    """View, row and column in the middle of every cell, and which anchors lie in the square that the cells cover."""
    top, left, side = central_square(size_hw)
    start = anchor_pixels.new_tensor([top, left])
    centres = cell_centres(side, cells, anchor_pixels)
    view = torch.arange(num_views, device=anchor_pixels.device)
    grid = torch.meshgrid(view, top + centres, left + centres, indexing="ij")
    places = anchor_pixels[:, 1:]
    inside = ((places >= start) & (places < start + side)).all(dim=-1)
    return torch.stack(grid, dim=-1).flatten(0, 2), inside


def _places(
    pixels: Int64[Tensor, "M 3"], geometry: Geometry, cells: int
) -> tuple[Float[Tensor, "M 3"], Float[Tensor, " M"]]:
    """Points in space behind pixels, and the side of a cell there."""
    view, row, column = pixels.unbind(dim=-1)
    points = geometry.points[view, row, column]
    if geometry.mask is not None:  # what does not count is near to nothing
        points = torch.where(geometry.mask[view, row, column][:, None], points, FAR * points.abs().amax())
    focal = geometry.cameras.intrinsics[view, 0, 0]
    side = geometry.depth[view, row, column] / focal * (min(geometry.cameras.size_hw) / cells)
    return points, side.clamp_min(1e-6)


Neighbours = tuple[Int64[Tensor, "N k"], Float[Tensor, "N k"]]


def _nearest(
    places: Float[Tensor, "N 3"], sides: Float[Tensor, " N"], others: Float[Tensor, "M 3"], count: int
) -> Neighbours:
    """The nearest others of every place, and their weights, which sum to 1."""
    distances, index = nearest(places, others, count)
    weights = 1 / (distances / sides[:, None] + DISTANCE_OFFSET)
    return index, weights / weights.sum(dim=1, keepdim=True)


def _mean(values: Float[Tensor, "M L"], neighbours: Neighbours) -> Float[Tensor, "N L"]:
    index, weights = neighbours
    return torch.einsum("nkl,nk->nl", values[index], weights)
