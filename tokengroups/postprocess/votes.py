"""Votes of instance masks for the groups of anchors: two segmentations of the same photos as one.

Symbols: K anchors, L groups, M instances of another segmentation. A [K, L] is the assignment, S [K, M] the share of
every anchor's pixels in every instance. The groups of instance m are D [M, L]: the rows of S^T A, divided by their
sums. V = S D + (1 - sum_m S) A are the votes: pixels in no instance vote for their anchor's own groups. With the
weight w the result is A^(1 - w) V^w, rows divided by their sums. So log probabilities are mixed, and w = 0 changes
nothing. Probabilities below a millionth count as one, so that votes can move an anchor that is certain.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

MIN_PROBABILITY = 1e-6


def anchor_shares(
    labels: Int64[Tensor, "V H W"], num_instances: int, anchor_pixels: Int64[Tensor, "K 3"], stride: int
) -> Float[Tensor, "K M"]:
    """Share of every instance in the pixels of every anchor, those of the square around its own.

    Args:
        labels: Instance at every pixel of the photos, below `num_instances`; -1 = none.
        num_instances: M.
        anchor_pixels: View, row and column of every anchor.
        stride: Side of the square: pixels between neighbouring candidates of anchors.
    """
    height, width = labels.shape[1:]
    view, row, column = anchor_pixels.unbind(-1)
    offsets = torch.arange(stride, device=labels.device) - stride // 2
    rows, columns = torch.broadcast_tensors(
        row[:, None, None] + offsets[:, None], column[:, None, None] + offsets[None, :]
    )
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    votes = labels[view[:, None, None], rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    counts = torch.zeros(len(view), num_instances + 1, device=labels.device)  # the first column is "none"
    counts.scatter_add_(1, votes.flatten(1) + 1, inside.flatten(1).float())
    return counts[:, 1:] / inside.flatten(1).sum(dim=1, keepdim=True)


def vote(assignment: Float[Tensor, "K L"], shares: Float[Tensor, "K M"], weight: float) -> Float[Tensor, "K L"]:
    """Mix the assignment of anchors with the groups of their instances, by the formula above.

    Args:
        assignment: Rows sum to 1.
        shares: Of every anchor's pixels in every instance; rows sum to at most 1.
        weight: Of the votes, from 0 to 1.

    Example:
        >>> import torch
        >>> from tokengroups.postprocess.votes import vote
        >>> assignment = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
        >>> vote(assignment, torch.ones(3, 1), weight=0.5)[2]  # one mask shows all three anchors
        tensor([0.5752, 0.4248])
    """
    if weight == 0 or not shares.any():
        return assignment
    groups = shares.T @ assignment
    groups = groups / groups.sum(dim=1, keepdim=True).clamp_min(MIN_PROBABILITY)  # zero for a mask without an anchor
    votes = shares @ groups + (1 - shares.sum(dim=1, keepdim=True)) * assignment
    own, others = (each.clamp_min(MIN_PROBABILITY).log() for each in (assignment, votes))
    return torch.lerp(own, others, weight).softmax(dim=1)
