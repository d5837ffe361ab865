"""Farthest-point sampling that never picks an index twice."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@torch.no_grad()
def farthest_point_sampling(
    points: Float[Tensor, "B M 3"], num_samples: int, start: int | None = None
) -> Int64[Tensor, "B K"]:
    """Greedy farthest-point sampling.

    A sampled point is never a candidate again, so the indices are distinct even where points coincide:
    plain argmax over distances repeats index 0 once all distances are 0 (the released token-groups scenes
    spend half of their anchors that way).

    Args:
        points: Candidate positions; finite.
        num_samples: K, between 1 and M.
        start: Index of the first sample; None = the point nearest to each cloud's centroid.

    Returns:
        Indices into M, in the order of sampling. Ties go to the lowest index.

    Raises:
        ValueError: If K is out of range.
    """
    batch_size, num_points, _ = points.shape
    if not 1 <= num_samples <= num_points:
        raise ValueError(f"num_samples must be in [1, {num_points}], got {num_samples}")
    points = points.float()
    rows = torch.arange(batch_size, device=points.device)
    if start is None:
        nearest = (points - points.mean(dim=1, keepdim=True)).square().sum(dim=-1).argmin(dim=1)
    else:
        nearest = rows.new_full((batch_size,), start)
    chosen = torch.empty(batch_size, num_samples, dtype=torch.int64, device=points.device)
    distance = torch.full((batch_size, num_points), torch.inf, device=points.device)
    coordinates = points.unbind(-1)  # three [B, M] rows: contiguous arithmetic
    for step in range(num_samples):
        chosen[:, step] = nearest
        squared = torch.zeros_like(distance)
        for axis in coordinates:
            squared.addcmul_(delta := axis - axis[rows, nearest][:, None], delta)
        torch.minimum(distance, squared, out=distance)
        distance[rows, nearest] = -1.0
        nearest = distance.argmax(dim=1)
    return chosen
