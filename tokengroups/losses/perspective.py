"""What a single photo's perspective cues are compared with: camera, normals and relative depth of the ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import unproject
from tokengroups.losses.local_terms import neighbour_masks, neighbour_normals
from tokengroups.types import PerspectiveCues, TensorFields, Views

MIN_DEPTH = 1e-3  # metres; keeps logarithms of unknown depths finite


@dataclass(frozen=True)
class PerspectiveLossWeights:
    """Weights of the objective, beside 1 for the focal length's likelihood."""

    up: float = 5.0
    normals: float = 2.0
    depth: float = 1.0

    def __post_init__(self) -> None:
        """Refuse negative weights."""
        if min(self.up, self.normals, self.depth) < 0:
            raise ValueError(f"losses must be >= 0, got {self.up}, {self.normals}, {self.depth}")


@dataclass(frozen=True)
class PerspectiveTargets(TensorFields):
    """The truth about N square photos; maps of g pixels a side."""

    log_focal: Float[Tensor, " N"]
    up: Float[Tensor, "N 3"]
    normals: Float[Tensor, "N 3 g g"]
    log_depth: Float[Tensor, "N g g"]
    valid: Bool[Tensor, "N g g"]


@dataclass(frozen=True)
class PerspectiveLosses(TensorFields):
    """The weighted total and its unweighted parts, means over the photos."""

    total: Float[Tensor, ""]
    focal: Float[Tensor, ""]  # negative log-likelihood
    up: Float[Tensor, ""]  # 1 - cosine
    normals: Float[Tensor, ""]  # likewise
    depth: Float[Tensor, ""]  # mean difference of the logarithms, their mean removed


def perspective_targets(views: Views, cells: int) -> PerspectiveTargets:
    """Ground truth of square photos whose world's z axis points up.

    Args:
        views: With batch axes.
        cells: g; a cell's normal and depth are those at its middle.
    """
    side = views.cameras.size_hw[0]
    intrinsics = views.cameras.intrinsics.flatten(0, -3)
    depth = views.depth.flatten(0, -3)
    middles = ((torch.arange(cells, device=depth.device) + 0.5) * (side / cells)).long()
    around = (middles[:, None] + torch.arange(-1, 2, device=depth.device)).flatten().clamp(0, side - 1)
    nearby, cell = (slice(None), around[:, None], around), (..., slice(None, None, 3), slice(None, None, 3))
    points, known = unproject(depth, intrinsics)[nearby], depth[nearby] > 0
    candidates, masks = neighbour_normals(points), neighbour_masks(known)
    normals = functional.normalize((candidates * masks[..., None]).sum(dim=0), dim=-1)
    middle = depth[:, middles[:, None], middles]
    return PerspectiveTargets(
        log_focal=(intrinsics[:, 0, 0] / side).log(),
        up=views.cameras.cam_from_world.flatten(0, -3)[:, :3, 2],
        normals=normals.permute(0, 3, 1, 2)[cell],
        log_depth=middle.clamp(min=MIN_DEPTH).log(),
        valid=masks.any(dim=0)[cell] & (middle > 0),
    )


def perspective_losses(
    cues: PerspectiveCues, targets: PerspectiveTargets, weights: PerspectiveLossWeights
) -> PerspectiveLosses:
    """Likelihood of the focal length under a Laplace distribution of the predicted deviation, and the other cues'."""
    focal = ((cues.log_focal - targets.log_focal).abs() / cues.deviation + cues.deviation.log()).mean()
    up = (1 - functional.cosine_similarity(cues.up, targets.up, dim=-1)).mean()
    share = targets.valid / targets.valid.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    apart = 1 - functional.cosine_similarity(cues.normals, targets.normals, dim=1)
    normals = (apart * share).sum(dim=(1, 2)).mean()
    difference = cues.log_depth - targets.log_depth
    difference = difference - (difference * share).sum(dim=(1, 2), keepdim=True)
    depth = (difference.abs() * share).sum(dim=(1, 2)).mean()
    total = focal + weights.up * up + weights.normals * normals + weights.depth * depth
    return PerspectiveLosses(total, focal, up, normals, depth)
