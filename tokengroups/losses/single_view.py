"""Single-view losses: focal length, up vector, normals, relative depth and pair affinities of single photos."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.bounds import Settings, Weight
from tokengroups.encoders.base import PAIR_OFFSETS
from tokengroups.encoders.vggt_tiny import SingleViewPrediction
from tokengroups.geometry import cell_centres, unproject
from tokengroups.losses.local_terms import neighbour_masks, neighbour_normals
from tokengroups.losses.terms import LossTerms
from tokengroups.types import TensorFields, Views

MIN_DEPTH = 1e-3  # metres; keeps logarithms of unknown depths finite


@dataclass(frozen=True)
class SingleViewLossWeights(Settings):
    """Weights of the objective, beside 1 for the focal length's likelihood."""

    up: Weight = 5.0
    normals: Weight = 2.0
    depth: Weight = 1.0
    pair_affinity: Weight = 2.0  # of networks with a detail map


@dataclass(frozen=True)
class SingleViewTargets(TensorFields):
    """Ground truth of N square photos; maps of g cells a side."""

    log_focal: Float[Tensor, " N"]
    up: Float[Tensor, "N 3"]
    normals: Float[Tensor, "N 3 g g"]
    log_depth: Float[Tensor, "N g g"]
    valid: Bool[Tensor, "N g g"]
    group_ids: Int64[Tensor, "N H W"]


def single_view_targets(views: Views, cells: int) -> SingleViewTargets:
    """Ground truth of square photos whose world's z axis points up.

    Args:
        views: With batch axes.
        cells: g; a cell's normal and depth are those at its middle.
    """
    side = views.cameras.size_hw[0]
    intrinsics = views.cameras.intrinsics.flatten(0, -3)
    depth = views.depth.flatten(0, -3)
    middles = cell_centres(side, cells, depth)
    around = (middles[:, None] + torch.arange(-1, 2, device=depth.device)).flatten().clamp(0, side - 1)
    nearby, cell = (slice(None), around[:, None], around), (..., slice(None, None, 3), slice(None, None, 3))
    points, known = unproject(depth, intrinsics)[nearby], depth[nearby] > 0
    candidates, masks = neighbour_normals(points), neighbour_masks(known)
    normals = functional.normalize((candidates * masks[..., None]).sum(dim=0), dim=-1)
    middle = depth[:, middles[:, None], middles]
    return SingleViewTargets(
        log_focal=(intrinsics[:, 0, 0] / side).log(),
        up=views.cameras.cam_from_world.flatten(0, -3)[:, :3, 2],
        normals=normals.permute(0, 3, 1, 2)[cell],
        log_depth=middle.clamp(min=MIN_DEPTH).log(),
        valid=masks.any(dim=0)[cell] & (middle > 0),
        group_ids=views.group_ids.flatten(0, -3),
    )


def single_view_losses(
    prediction: SingleViewPrediction, targets: SingleViewTargets, weights: SingleViewLossWeights
) -> LossTerms:
    """Losses as means over the photos.

    ``focal`` is the negative log-likelihood under a Laplace distribution of the predicted deviation, ``up`` and
    ``normals`` are 1 - cosine, ``depth`` is the mean difference of the logarithms, their mean removed, and
    ``pair_affinity``, where it is predicted, a cross-entropy.
    """
    error = (prediction.log_focal - targets.log_focal).abs()
    focal = (error / prediction.deviation + prediction.deviation.log()).mean()
    up = (1 - functional.cosine_similarity(prediction.up, targets.up, dim=-1)).mean()
    share = targets.valid / targets.valid.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    apart = 1 - functional.cosine_similarity(prediction.normals, targets.normals, dim=1)
    normals = (apart * share).sum(dim=(1, 2)).mean()
    difference = prediction.log_depth - targets.log_depth
    difference = difference - (difference * share).sum(dim=(1, 2), keepdim=True)
    depth = (difference.abs() * share).sum(dim=(1, 2)).mean()
    total = focal + weights.up * up + weights.normals * normals + weights.depth * depth
    terms = {"focal": focal, "up": up, "normals": normals, "depth": depth}
    if prediction.pair_affinity is not None:
        terms["pair_affinity"] = pair_affinity_loss(prediction.pair_affinity, targets.group_ids)
        total = total + weights.pair_affinity * terms["pair_affinity"]
    return LossTerms(total, terms)


def pair_affinity_loss(logits: Float[Tensor, "N R d d"], group_ids: Int64[Tensor, "N H W"]) -> Float[Tensor, ""]:
    """Cross-entropy of pair affinities: mean over the pairs of each offset, then over the offsets.

    Args:
        logits: Stored at the upper or left cell of each pair; cells without a partner in the photo do not count.
        group_ids: Ids in square photos; a cell has the id at its middle, and negative ids (unlabelled) do not count.
    """
    cells = logits.shape[-1]
    middles = cell_centres(group_ids.shape[-1], cells, group_ids)
    ids = group_ids[:, middles[:, None], middles]
    parts = []
    for index, (down, right) in enumerate(PAIR_OFFSETS):
        own, other = ids[:, : cells - down, : cells - right], ids[:, down:, right:]
        valid = (own >= 0) & (other >= 0)
        entropy = functional.binary_cross_entropy_with_logits(
            logits[:, index, : cells - down, : cells - right], (own == other).float(), reduction="none"
        )
        parts.append((entropy * valid).sum() / valid.sum().clamp(min=1))
    return torch.stack(parts).mean()
