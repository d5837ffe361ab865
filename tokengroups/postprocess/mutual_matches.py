"""What photos have in common, by the match descriptors of their cells."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


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
