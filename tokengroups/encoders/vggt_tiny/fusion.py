"""Fusion of two predictions of focal length and depth: the VGGT heads' and the single-view network's."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.encoders.vggt_tiny.single_view import SingleViewPrediction
from tokengroups.geometry import cell_centres, central_square

# Standard deviation of the camera head's log focal length. It is 0.08 off on average, but the errors of both
# predictions are correlated (0.63 on 132 rooms), so the worse one counts for less than its own variance says.
CAMERA_HEAD_LOG_FOCAL_STD = 0.12
# Both depths are 7 % off and their errors are correlated (0.75 on 60 rooms): weights from 0.3 to 0.7 work alike.
SINGLE_VIEW_DEPTH_WEIGHT = 0.6
MAX_LOG_DEPTH_DIFFERENCE = 0.3  # beyond it, the two predictions see different surfaces
MIN_DEPTH = 1e-6


def fuse_focal(
    intrinsics: Float[Tensor, "B V 3 3"], prediction: SingleViewPrediction, size_hw: tuple[int, int]
) -> Float[Tensor, "B V 3 3"]:
    """Fuse the focal lengths of both; photos have square pixels, so that of the camera head is the mean of its two."""
    focal = (intrinsics[..., 0, 0] * intrinsics[..., 1, 1]).sqrt() * focal_factor(intrinsics, prediction, size_hw)
    fused = intrinsics.clone()
    fused[..., 0, 0] = fused[..., 1, 1] = focal
    return fused


def focal_factor(
    intrinsics: Float[Tensor, "B V 3 3"], prediction: SingleViewPrediction, size_hw: tuple[int, int]
) -> Float[Tensor, "B 1"]:
    """Factor on the focal lengths of each scene: the inverse-variance weighted mean of both predictions.

    One camera took all photos of a scene, so both errors are shared by its views. The single-view network predicts
    its own expected error.
    """
    focal = intrinsics[..., 0, 0].log() / 2 + intrinsics[..., 1, 1].log() / 2
    difference = (prediction.log_focal.float() + math.log(min(size_hw)) - focal).mean(dim=1, keepdim=True)
    variance = prediction.deviation.float().mean(dim=1, keepdim=True).square()
    return (difference * CAMERA_HEAD_LOG_FOCAL_STD**2 / (CAMERA_HEAD_LOG_FOCAL_STD**2 + variance)).exp()


def fuse_depth(depth: Float[Tensor, "B V H W"], prediction: SingleViewPrediction) -> Float[Tensor, "B V H W"]:
    """Weighted mean of the logarithms of both depths."""
    change = depth_change(depth.flatten(0, 1), prediction.log_depth.float().flatten(0, 1))
    return depth * change.view_as(depth).exp()


def depth_change(depth: Float[Tensor, "N H W"], log_depth: Float[Tensor, "N g g"]) -> Float[Tensor, "N H W"]:
    """Correction of log depth towards the single-view network's.

    Its cells cover the photo's central square and are known up to a factor, so the medians are made equal. The
    correction is smooth: edges stay where the depth head has them.
    """
    height, width = depth.shape[-2:]
    top, left, side = central_square((height, width))
    centres = cell_centres(side, log_depth.shape[-1], depth)
    own = depth[:, (top + centres)[:, None], left + centres].clamp_min(MIN_DEPTH).log()
    difference = log_depth - own
    difference = difference - difference.flatten(1).median(dim=1).values[:, None, None]
    difference = difference.clamp(-MAX_LOG_DEPTH_DIFFERENCE, MAX_LOG_DEPTH_DIFFERENCE)[:, None]
    smooth = functional.avg_pool2d(functional.pad(difference, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    square = functional.interpolate(smooth, (side, side), mode="bilinear", align_corners=False)
    around = (left, width - side - left, top, height - side - top)
    return SINGLE_VIEW_DEPTH_WEIGHT * functional.pad(square, around, mode="replicate")[:, 0]
