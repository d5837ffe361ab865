"""Which photos show the same: pairs whose cells find each other again, as a graph that joins all photos."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

PARTNERS = 2  # of every view


def covisible_pairs(descriptors: Float[Tensor, "V Q D"]) -> list[tuple[int, int]]:
    """Pairs (u, v), u < v, in ascending order: every view's best partners, and a maximum spanning tree of all views.

    Args:
        descriptors: `EncoderOutput.cell_descriptors` of one scene.
    """
    shares = mutual_shares(descriptors)
    best = shares.topk(min(PARTNERS, len(shares) - 1), dim=1).indices.tolist()
    pairs = {(min(view, partner), max(view, partner)) for view, row in enumerate(best) for partner in row}
    joined, rest = [0], set(range(1, len(shares)))
    while rest:  # Prim's algorithm
        _, view, partner = max((float(shares[u, v]), v, u) for u in joined for v in rest)
        pairs.add((min(view, partner), max(view, partner)))
        joined.append(view)
        rest.remove(view)
    return sorted(pairs)


def mutual_shares(descriptors: Float[Tensor, "V Q D"]) -> Float[Tensor, "V V"]:
    """Share of cells that are each other's best match, for all pairs of views; -1 for a view with itself."""
    views, cells = descriptors.shape[:2]
    shares = descriptors.new_full((views, views), -1.0)
    own = torch.arange(cells, device=descriptors.device)
    for view in range(views - 1):
        logits = descriptors[view + 1 :] @ descriptors[view].T
        there, back = logits.argmax(dim=1), logits.argmax(dim=2)
        mutual = (back.gather(1, there) == own).float().mean(dim=1)
        shares[view, view + 1 :] = shares[view + 1 :, view] = mutual
    return shares
