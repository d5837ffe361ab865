"""Instances followed over the photos of a scene: temporal mIoU and success rate (IGGT, Li et al. 2026, section 4.1).

The authors publish no matching rule. Here a predicted instance is matched with one true instance by their IoU over all
photos together (Hungarian method). True instances without a partner score 0; those of few pixels are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.hungarian import match_groups

MIN_PIXELS = 200  # of a true instance, over all photos


@dataclass(frozen=True)
class TrackScores:
    """Scores of the true instances of one scene, M in number."""

    instances: Int64[np.ndarray, " M"]  # their ids
    visible: Float[np.ndarray, " M"]  # IoU, mean over the photos that show the instance
    all_views: Float[np.ndarray, " M"]  # IoU, mean over all photos; neither predicted nor true = 1
    success: Float[np.ndarray, " M"]  # 1 where the predicted mask is not empty in any photo that shows the instance

    def summary(self) -> dict[str, float]:
        """Means over the instances; NaN where there is none."""
        values = {"t_miou": self.visible, "t_miou_all_views": self.all_views, "t_sr": self.success}
        return {name: float(numbers.mean()) if len(numbers) else float("nan") for name, numbers in values.items()}


def track_scores(predicted: Int64[Tensor, "V H W"], true: Int64[Tensor, "V H W"]) -> TrackScores:
    """Score predicted instances against true ones.

    Args:
        predicted: Instance of every pixel, any ids; negative = none.
        true: Likewise; negative = unlabelled. Unlabelled pixels count as outside of every true instance.

    Example:
        >>> import torch
        >>> from tokengroups.evaluation.tracking import track_scores
        >>> true = torch.zeros(2, 20, 20, dtype=torch.long)
        >>> true[:, :, 10:] = 1
        >>> predicted = true + 5
        >>> predicted[1, :, :10] = 6  # in the second photo all is one instance
        >>> {name: round(value, 2) for name, value in track_scores(predicted, true).summary().items()}
        {'t_miou': 0.62, 't_miou_all_views': 0.62, 't_sr': 0.5}
    """
    ids, sizes = true[true >= 0].unique(return_counts=True)
    ids = ids[sizes >= MIN_PIXELS]
    mine = _masks(predicted, predicted[predicted >= 0].unique())
    theirs = _masks(true, ids)
    together = torch.einsum("pvx,tvx->ptv", mine, theirs)
    areas, true_areas = mine.sum(-1), theirs.sum(-1)
    total = together.sum(-1)
    joint = total / (areas.sum(-1)[:, None] + true_areas.sum(-1) - total).clamp(min=1)
    rows, columns = match_groups(-joint)
    views = true_areas.shape[1]
    overlap, own = torch.zeros(len(ids), views), torch.zeros(len(ids), views)
    overlap[columns.cpu()], own[columns.cpu()] = together[rows, columns].cpu(), areas[rows].cpu()
    return _scores(ids.cpu(), overlap, own, true_areas.cpu())


def _masks(labels: Int64[Tensor, "V H W"], ids: Int64[Tensor, " n"]) -> Float[Tensor, "n V X"]:
    return (rearrange(labels, "v h w -> v (h w)") == ids[:, None, None]).float()


def _scores(
    ids: Int64[Tensor, " M"], overlap: Float[Tensor, "M V"], own: Float[Tensor, "M V"], true: Float[Tensor, "M V"]
) -> TrackScores:
    union = own + true - overlap
    iou = torch.where(union > 0, overlap / union.clamp(min=1), 1.0)
    shown = true > 0
    visible = (iou * shown).sum(-1) / shown.sum(-1).clamp(min=1)
    found = ((own > 0) | ~shown).all(-1).float()
    return TrackScores(ids.numpy(), visible.numpy(), iou.mean(-1).numpy(), found.numpy())


def nearest_true_means(field: Float[Tensor, "V E H W"], true: Int64[Tensor, "V H W"]) -> Int64[Tensor, "V H W"]:
    """Label every pixel with the true instance whose mean is nearest: the ceiling of any clustering of the field."""
    ids = true.unique()
    sums, sizes = (
        field.new_zeros(len(ids), field.shape[1], dtype=torch.float64),
        field.new_zeros(len(ids), dtype=torch.int64),
    )
    for view, row in zip(field, true, strict=True):  # one view at a time: a copy of a large field does not fit
        columns = torch.searchsorted(ids, row.flatten())
        sums.index_add_(0, columns, _unit_pixels(view).double())
        sizes += columns.bincount(minlength=len(ids))
    means, ids = (sums / sizes[:, None])[ids >= 0].float(), ids[ids >= 0]
    labels = torch.empty_like(true)
    for view, row in zip(field, labels, strict=True):
        nearest = (2 * _unit_pixels(view) @ means.T - means.square().sum(-1)).argmax(-1)
        row.copy_(ids[nearest].view(row.shape))
    return labels


def _unit_pixels(view: Float[Tensor, "E H W"]) -> Float[Tensor, "X E"]:
    return rearrange(functional.normalize(view.float(), dim=0), "e h w -> (h w) e")
