"""Farthest-point sampling that never picks an index twice."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@torch.no_grad()
def farthest_point_sampling(
    points: Float[Tensor, "B M D"], num_samples: int, start: int | None = None
) -> Int64[Tensor, "B K"]:
    """Greedy farthest-point sampling.

    A sampled point is never a candidate again, so that indices are distinct even where points coincide.

    Args:
        points: Candidate positions, of any dimension; finite.
        num_samples: K, between 1 and M.
        start: Index of the first sample; None = the point nearest to each cloud's centroid.

    Returns:
        Indices into M, in the order of sampling. Ties go to the lowest index.

    Raises:
        ValueError: If K is out of range.

    Example:
        >>> import torch
        >>> from tokengroups.farthest_points import farthest_point_sampling
        >>> points = torch.tensor([[[0.0, 0, 0], [0.1, 0, 0], [5, 0, 0], [0, 3, 0]]])
        >>> farthest_point_sampling(points, 3, start=0)
        tensor([[0, 2, 3]])
    """
    batch_size, num_points, _ = points.shape
    if not 1 <= num_samples <= num_points:
        raise ValueError(f"num_samples must be in [1, {num_points}], got {num_samples}")
    points = points.float()
    if start is None:
        first = (points - points.mean(dim=1, keepdim=True)).square().sum(dim=-1).argmin(dim=1, keepdim=True)
    else:
        first = torch.full((batch_size, 1), start, dtype=torch.int64, device=points.device)
    chosen = [first]
    distance = torch.full((batch_size, num_points), torch.inf, device=points.device)
    axes = points.permute(2, 0, 1).contiguous()  # rows of [B, M]: contiguous arithmetic
    # gather and scatter instead of indexing: at this size an indexing call costs more than the arithmetic.
    for _ in range(num_samples - 1):
        latest = chosen[-1]
        delta = axes - axes.gather(2, latest.expand(len(axes), -1, -1))
        torch.minimum(distance, delta.square_().sum(dim=0), out=distance)
        distance.scatter_(1, latest, -1.0)
        chosen.append(distance.argmax(dim=1, keepdim=True))
    return torch.cat(chosen, dim=1)
