"""Semi-global matching: the best label of every pixel when neighbouring pixels like similar ones (Hirschmueller 2008).

Costs are summed along rows and columns in both directions; a change of label costs less across an edge of the photo.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

STEP_PENALTY = 1.0  # of a change to the next label between neighbouring pixels
JUMP_PENALTY = 4.0  # of any larger change
EDGE_FALL = 10.0  # penalties fall by exp(-10 x difference of colours in [0, 1])


def aggregate(costs: Float[Tensor, "V P H W"], photos: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V P H W"]:
    """Sum of the costs of the cheapest paths that end at each pixel with each label, from four directions.

    Args:
        costs: Of each of P ordered labels.
        photos: In [0, 1].
    """
    total = torch.zeros_like(costs)
    for axis in (-1, -2):
        along, shown = costs.transpose(axis, -1), photos.transpose(axis, -1)
        forth = _path_costs(along, shown)
        back = _path_costs(along.flip(-1), shown.flip(-1)).flip(-1)
        total += (forth + back).transpose(axis, -1)
    return total


def best_label(costs: Float[Tensor, "V P H W"]) -> Float[Tensor, "V H W"]:
    """Cheapest label between the first and the last, refined by the parabola through its and its neighbours' costs."""
    label = costs.argmin(dim=1, keepdim=True).clamp(1, costs.shape[1] - 2)
    before, own, after = (costs.gather(1, label + step) for step in (-1, 0, 1))
    bend = before - 2 * own + after
    offset = torch.where(bend > 1e-9, (before - after) / (2 * bend.clamp_min(1e-9)), 0.0)
    return (label + offset.clamp(-0.5, 0.5))[:, 0]


def _path_costs(costs: Float[Tensor, "V P H W"], photos: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V P H W"]:
    """Costs of the cheapest paths along rows from the left, less what all labels of the pixel before have cost."""
    weights = (-EDGE_FALL * photos.diff(dim=-1).abs().mean(dim=1, keepdim=True)).exp().unbind(dim=-1)
    columns = list(costs.unbind(dim=-1))
    for x, weight in enumerate(weights, start=1):
        before = columns[x - 1]
        least = before.amin(dim=1, keepdim=True)
        beside = functional.pad(before, (0, 0, 1, 1), value=torch.inf)
        stepped = torch.minimum(beside[:, :-2], beside[:, 2:]) + STEP_PENALTY * weight
        cheapest = torch.minimum(torch.minimum(before, stepped), least + JUMP_PENALTY * weight)
        columns[x] = columns[x] + cheapest - least
    return torch.stack(columns, dim=-1)
