"""How far the features of an instance field separate true instances, whatever clusters them.

Labels and true ids are over the pixels of all views of a scene together; a true id of -1 is unlabelled.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.hungarian import match_groups


def count_pairs(labels: Int64[Tensor, "V H W"], ids: Int64[Tensor, "V H W"]) -> Int64[Tensor, "L M1"]:
    """Number of pixels of every label and every true id; the first column is for unlabelled pixels."""
    rows, columns = int(labels.max()) + 1, int(ids.max()) + 2
    counts = torch.zeros(rows * columns, dtype=torch.int64)
    for label, true in zip(labels, ids, strict=True):  # view by view: a joint index of all pixels is large
        counts += torch.bincount((label * columns + true + 1).flatten().cpu(), minlength=rows * columns)
    return counts.view(rows, columns)


def joint_mean_iou(labels: Int64[Tensor, "V H W"], ids: Int64[Tensor, "V H W"], min_pixels: int = 1) -> float:
    """Mean IoU of the true instances after one-to-one matching over all views together.

    Unlabelled pixels count in the union of what is predicted there. An instance without a match scores 0.

    Args:
        labels: Predicted instance of every pixel, 0, 1, ...
        ids: True instance of every pixel, -1 = unlabelled.
        min_pixels: Smaller instances are left out.

    Returns:
        Mean over the instances; NaN where there is none.

    Example:
        >>> import torch
        >>> from tokengroups.evaluation.instance_field import joint_mean_iou
        >>> ids = torch.tensor([[[0, 0, 0, 1]], [[0, 0, 1, 1]]])
        >>> joint_mean_iou(torch.tensor([[[5, 5, 5, 2]], [[5, 5, 5, 2]]]), ids)  # 5 of 6 and 2 of 3
        0.75
    """
    counts = count_pairs(labels, ids).double()
    overlaps = counts[:, 1:][:, counts[:, 1:].sum(dim=0) >= max(min_pixels, 1)]
    if overlaps.shape[1] == 0:
        return float("nan")
    unions = counts.sum(dim=1, keepdim=True) + overlaps.sum(dim=0) - overlaps
    ious = overlaps / unions.clamp(min=1)
    return float(ious[match_groups(-ious)].sum() / ious.shape[1])


def nearest_true_means(field: Float[Tensor, "V E H W"], ids: Int64[Tensor, "V H W"]) -> Int64[Tensor, "V H W"]:
    """Give every pixel the true instance whose mean over all views is nearest: no prototypes can know more.

    Args:
        field: Features; they are normalised first.
        ids: True instances, -1 = unlabelled; at least one pixel is labelled.
    """
    instances = torch.unique(ids[ids >= 0])
    sums = torch.zeros(int(ids.max()) + 2, field.shape[1], dtype=torch.float64)
    for view, true in zip(field, ids, strict=True):
        sums.index_add_(0, true.flatten().cpu() + 1, _unit_rows(view).double())
    sizes = torch.bincount(ids.flatten().cpu() + 1, minlength=len(sums))
    means = (sums / sizes.clamp(min=1)[:, None])[instances.cpu() + 1].float()
    bias = means.square().sum(dim=1) / 2
    labels = torch.empty(ids.shape, dtype=torch.int64)
    for view, row in zip(field, labels, strict=True):
        row.copy_(instances.cpu()[(_unit_rows(view) @ means.T - bias).argmax(dim=1)].view(row.shape))
    return labels.to(ids.device)


def true_means_ceiling(field: Float[Tensor, "V E H W"], ids: Int64[Tensor, "V H W"], min_pixels: int = 1) -> float:
    """Joint mean IoU of the nearest true means: what perfect prototypes would reach."""
    return joint_mean_iou(nearest_true_means(field, ids), ids, min_pixels)


def _unit_rows(view: Float[Tensor, "E H W"]) -> Float[Tensor, "X E"]:
    return functional.normalize(view.detach().cpu().float(), dim=0).flatten(1).T.contiguous()
