"""Supervised contrastive loss on embeddings: same instance near, others far (Khosla et al. 2020, eq. 2)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.1  # divides the cosines


def supervised_contrastive_loss(embeddings: Float[Tensor, "K D"], ids: Int64[Tensor, " K"]) -> Float[Tensor, ""]:
    """Mean over embeddings of -log softmax over all others, averaged over the others with the same id.

    It needs no matching of groups with instances.

    Args:
        embeddings: Of any length; cosines are compared.
        ids: Instance of each; -1 = unlabelled, left out. An embedding that is alone with its id counts among the
            others only.

    Returns:
        A float32 scalar; zero, still attached to the graph, where no two share an id.

    Example:
        >>> import torch
        >>> from tokengroups.losses.contrastive import supervised_contrastive_loss
        >>> keys = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> together = supervised_contrastive_loss(keys, torch.tensor([5, 5, 6, 6]))
        >>> mixed = supervised_contrastive_loss(keys, torch.tensor([5, 6, 5, 6]))
        >>> bool(together < mixed)
        True
    """
    labelled = ids >= 0
    unit = functional.normalize(embeddings[labelled].float(), dim=-1)
    own = torch.eye(len(unit), dtype=torch.bool, device=ids.device)
    same = (ids[labelled][:, None] == ids[labelled]) & ~own
    partners = same.sum(dim=1)
    if not partners.any():
        return embeddings.float().sum() * 0
    log_share = (unit @ unit.T / TEMPERATURE).masked_fill(own, -torch.inf).log_softmax(dim=-1)
    means = torch.where(same, log_share, 0.0).sum(dim=1) / partners.clamp_min(1)
    return -means[partners > 0].mean()
