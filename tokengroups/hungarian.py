"""One-to-one assignment of predicted groups to ground-truth instances."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match_groups(cost: Float[Tensor, "L M"]) -> tuple[Int64[Tensor, " N"], Int64[Tensor, " N"]]:
    """Pair groups with instances at the least summed cost (Hungarian method).

    Args:
        cost: Finite cost of giving group l to instance m. No gradient flows.

    Returns:
        group_idx, instance_idx: N = min(L, M) pairs on the cost's device, sorted by group index.

    Raises:
        ValueError: If a cost is NaN or infinite.

    Example:
        >>> import torch
        >>> from tokengroups.hungarian import match_groups
        >>> cost = torch.tensor([[0.9, 0.1], [0.2, 0.3], [0.8, 0.7]])  # three groups, two instances
        >>> match_groups(cost)
        (tensor([0, 1]), tensor([1, 0]))
    """
    values = cost.detach().cpu().double()
    if not torch.isfinite(values).all():
        raise ValueError("matching costs must be finite: the predicted probabilities hold NaN or infinity")
    groups, instances = linear_sum_assignment(values.numpy())
    return torch.as_tensor(groups, device=cost.device), torch.as_tensor(instances, device=cost.device)
