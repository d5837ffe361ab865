"""What photos have in common, by the match descriptors of their cells."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor


def cells_that_count(mask: Bool[Tensor, "V H W"], cells: int) -> Bool[Tensor, "V Q"]:
    """Which cells of a grid over every view, row-major, have no pixel that does not count."""
    height, width = mask.shape[-2:]
    side = round((height * width / cells) ** 0.5)
    return rearrange(mask, "v (h p) (w q) -> v (h w) (p q)", p=side, q=side).all(dim=2)


def mutual_shares(
    descriptors: Float[Tensor, "V Q D"], counts: Bool[Tensor, "V Q"] | None = None
) -> Float[Tensor, "V V"]:
    """Share of cells that are each other's best match, for all pairs of views; -1 for a view with itself.

    Args:
        descriptors: Of the cells of every view.
        counts: Cells that are matched; None = all. Of two views, the share is that of the smaller number.
    """
    views, cells = descriptors.shape[:2]
    shares = descriptors.new_full((views, views), -1.0)
    own = torch.arange(cells, device=descriptors.device)
    for view in range(views - 1):
        logits = descriptors[view + 1 :] @ descriptors[view].T
        matched = logits.new_ones(())
        if counts is not None:
            logits = logits.masked_fill(~(counts[view + 1 :, :, None] & counts[view]), -torch.inf)
            fewest = torch.minimum(counts[view + 1 :].sum(dim=1), counts[view].sum()).clamp(min=1)
            matched = counts[view].float() * cells / fewest[:, None]
        there, back = logits.argmax(dim=1), logits.argmax(dim=2)
        mutual = ((back.gather(1, there) == own) * matched).mean(dim=1)
        shares[view, view + 1 :] = shares[view + 1 :, view] = mutual
    return shares
