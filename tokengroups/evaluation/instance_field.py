"""How far clustering gets with an instance field: mean IoU over all views, and what perfect prototypes would reach."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.evaluation.tracking import nearest_true_means
from tokengroups.hungarian import match_groups


def joint_mean_iou(labels: Int64[Tensor, "V H W"], ids: Int64[Tensor, "V H W"], min_pixels: int = 1) -> float:
    """Mean IoU of the true instances after one-to-one matching over all views together.

    Unlabelled pixels count in the union of what is predicted there. An instance without a match scores 0.

    Args:
        labels: Predicted instance of every pixel, 0, 1, ...
        ids: True instance of every pixel, 0, 1, ...; -1 = unlabelled.
        min_pixels: Smaller instances are left out.

    Returns:
        Mean over the instances; NaN where there is none.

    Example:
        >>> import torch
        >>> from tokengroups.evaluation.instance_field import joint_mean_iou
        >>> ids = torch.tensor([[[0, 0, 0, 1]], [[0, 0, 1, 1]]])
        >>> round(joint_mean_iou(torch.tensor([[[5, 5, 5, 2]], [[5, 5, 5, 2]]]), ids), 3)  # 5 of 6 and 2 of 3
        0.75
    """
    counts = _count_pairs(labels.cpu(), ids.cpu()).double()
    overlaps = counts[:, 1:][:, counts[:, 1:].sum(dim=0) >= max(min_pixels, 1)]
    if overlaps.shape[1] == 0:
        return float("nan")
    unions = counts.sum(dim=1, keepdim=True) + overlaps.sum(dim=0) - overlaps
    ious = overlaps / unions
    return float(ious[match_groups(-ious)].sum() / ious.shape[1])


def true_means_ceiling(field: Float[Tensor, "V E H W"], ids: Int64[Tensor, "V H W"], min_pixels: int = 1) -> float:
    """Mean IoU where every pixel takes the nearest true mean; arguments as those of `joint_mean_iou`."""
    return joint_mean_iou(nearest_true_means(field, ids), ids, min_pixels)


def _count_pairs(labels: Int64[Tensor, "V H W"], ids: Int64[Tensor, "V H W"]) -> Int64[Tensor, "L M1"]:
    """Number of pixels of every label and every true id; the first column counts unlabelled pixels."""
    rows, columns = int(labels.max()) + 1, int(ids.max()) + 2
    counts = torch.zeros(rows * columns, dtype=torch.int64)
    for label, true in zip(labels, ids, strict=True):  # one view at a time: a joint index of all pixels is large
        counts += torch.bincount((label * columns + true + 1).flatten(), minlength=rows * columns)
    return counts.view(rows, columns)
