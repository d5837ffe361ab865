"""VGGT's training losses (Wang et al. 2025, section 3.4; constants of the released fine-tuning code).

Ground truth is moved into the first camera's frame and divided by the mean distance of its points;
predictions are not normalised, so the network learns that scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.bounds import Settings, Weight
from tokengroups.encoders.vggt import VGGTOutput
from tokengroups.encoders.vggt.pose_encoding import FIELD_OF_VIEW, ROTATION, TRANSLATION, encode_pose
from tokengroups.geometry import invert_rigid, mean_distance, world_points
from tokengroups.losses.local_terms import LIMIT, gradient_loss, normal_loss
from tokengroups.losses.terms import LossTerms
from tokengroups.types import Cameras, TensorFields, Views

STAGE_DECAY = 0.6  # weight of an earlier camera iteration relative to the next one
CONFIDENCE_LOG = 0.2  # alpha; gamma is 1
VALID_QUANTILE = 0.98
MIN_FIRST_FRAME_POINTS = 100  # a scene's cameras count only if its first frame has more valid points
MIN_VALID = 100  # fewer valid pixels in the batch: no dense loss
MIN_KEPT = 1000  # the quantile filter leaves smaller sets alone


@dataclass(frozen=True)
class GeometryLossWeights(Settings):
    """Weights of VGGT's objective."""

    camera: Weight = 5.0
    field_of_view: Weight = 0.5  # inside the camera term; translation and rotation have 1
    depth: Weight = 1.0
    points: Weight = 1.0


@dataclass(frozen=True)
class GeometryTargets(TensorFields):
    """Ground truth in the first camera's frame, usually divided by the mean distance of all its points."""

    pose_encodings: Float[Tensor, "B V 9"]
    depth: Float[Tensor, "B V H W"]
    points: Float[Tensor, "B V H W 3"]
    valid: Bool[Tensor, "B V H W"]
    scale: Float[Tensor, " B"]  # units of the ground truth per unit


class DenseLosses(NamedTuple):
    """The three terms of a dense head."""

    confidence: Float[Tensor, ""]
    regression: Float[Tensor, ""]
    gradient: Float[Tensor, ""]

    @property
    def sum(self) -> Float[Tensor, ""]:
        """All three, equally weighted."""
        return self.confidence + self.regression + self.gradient


class CameraLosses(NamedTuple):
    """Weighted means over the camera iterations."""

    translation: Float[Tensor, ""]
    rotation: Float[Tensor, ""]
    field_of_view: Float[Tensor, ""]


def geometry_losses(output: VGGTOutput, views: Views, weights: GeometryLossWeights | None = None) -> LossTerms:
    """VGGT's loss of the predictions for `views` (batched: axes B V); computed in float32.

    Args:
        output: Predictions for `views.images`.
        views: Ground truth at the same resolution.
        weights: None = VGGT's.

    Returns:
        Terms have names such as camera.rotation and depth.gradient; heads that are off have none.
    """
    return target_losses(output, normalise_targets(views), weights or GeometryLossWeights())


def target_losses(output: VGGTOutput, targets: GeometryTargets, weights: GeometryLossWeights) -> LossTerms:
    """As `geometry_losses`, of targets of any origin."""
    camera = camera_losses(output.pose_encodings, targets)
    total = weights.camera * (camera.translation + camera.rotation + weights.field_of_view * camera.field_of_view)
    terms = {f"camera.{name}": value for name, value in camera._asdict().items()}
    if output.depth is not None and output.depth_confidence is not None:
        depth = dense_losses(output.depth[..., None], output.depth_confidence, targets.depth[..., None], targets.valid)
        total = total + weights.depth * depth.sum
        terms |= {f"depth.{name}": value for name, value in depth._asdict().items()}
    if output.points is not None and output.points_confidence is not None:
        points = dense_losses(output.points, output.points_confidence, targets.points, targets.valid, normal_loss)
        total = total + weights.points * points.sum
        terms |= {f"points.{name}": value for name, value in points._asdict().items()}
    return LossTerms(total, terms)


def normalise_targets(views: Views) -> GeometryTargets:
    """Targets in the frame of the first camera, divided by the mean distance of all valid points."""
    return geometry_targets(views.cameras, views.depth)


@torch.no_grad()
def geometry_targets(cameras: Cameras, depth: Float[Tensor, "B V H W"], *, normalise: bool = True) -> GeometryTargets:
    """Targets in the frame of the first camera; without `normalise` their scale is kept.

    Args:
        cameras: Batch axes B V.
        depth: z; 0 = unknown.
        normalise: Divide by the mean distance of all valid points.
    """
    cam_from_world = cameras.cam_from_world.float()
    intrinsics = cameras.intrinsics.float()
    depth = finite(depth.float())
    valid = depth > 0
    cam_from_first = cam_from_world @ invert_rigid(cam_from_world[..., :1, :, :])
    points = finite(world_points(depth, cam_from_first, intrinsics))
    scale = mean_distance(points.flatten(-4, -2), valid.flatten(-3))
    scale = scale if normalise else torch.ones_like(scale)
    encodings = encode_pose(cam_from_first, intrinsics, cameras.size_hw)
    encodings[..., TRANSLATION] /= scale[..., None, None]
    per_pixel = scale[..., None, None, None]
    return GeometryTargets(encodings, depth / per_pixel, points / per_pixel[..., None], valid, scale)


def finite(x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Replace infinite and undefined entries by 0, and clamp the others to +-LIMIT."""
    return torch.where(x.isfinite(), x, 0.0).clamp(-LIMIT, LIMIT)


def camera_losses(pose_encodings: tuple[Float[Tensor, "B V 9"], ...], targets: GeometryTargets) -> CameraLosses:
    """L1 on translation, quaternion and field of view; later camera iterations weigh more."""
    counted = targets.valid[:, 0].flatten(1).sum(dim=1) > MIN_FIRST_FRAME_POINTS
    stages = len(pose_encodings)
    sums = pose_encodings[0].new_zeros(3)
    for stage, encodings in enumerate(pose_encodings):
        # Scenes that do not count are masked, not indexed away: no wait for the device.
        error = (encodings.float() - targets.pose_encodings).abs()
        parts = [error[..., TRANSLATION].clamp(max=LIMIT), error[..., ROTATION], error[..., FIELD_OF_VIEW]]
        means = torch.stack([finite(part).mean(dim=(1, 2)) for part in parts], dim=-1)
        stage_weight = STAGE_DECAY ** (stages - 1 - stage) / stages
        sums = sums + stage_weight * (means * counted[:, None]).sum(dim=0) / counted.sum().clamp(min=1)
    return CameraLosses(*sums.unbind(0))


def dense_losses(
    predicted: Float[Tensor, "B V H W C"],
    confidence: Float[Tensor, "B V H W"],
    target: Float[Tensor, "B V H W C"],
    valid: Bool[Tensor, "B V H W"],
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor] = gradient_loss,
) -> DenseLosses:
    """Distance to the target, the distance weighted by the confidence (minus its logarithm), and a local term."""
    predicted, confidence = predicted.float(), confidence.float()
    if valid.sum() < MIN_VALID:
        zero = predicted.sum() * 0.0
        return DenseLosses(zero, zero, zero)
    distance = finite((predicted - target).norm(dim=-1)[valid])
    trusted = confidence[valid]
    weighted = distance * trusted - CONFIDENCE_LOG * trusted.log()
    return DenseLosses(
        confidence=filtered_mean(finite(weighted)),
        regression=filtered_mean(distance),
        gradient=gradient(predicted.flatten(0, 1), target.flatten(0, 1), valid.flatten(0, 1)),
    )


def filtered_mean(errors: Float[Tensor, " M"]) -> Float[Tensor, ""]:
    """Mean of the errors below their 98th percentile; of all of them if 1000 or fewer are given or would remain."""
    if errors.numel() <= MIN_KEPT:
        return errors.mean()
    clamped = errors.clamp(max=LIMIT)
    rank = 1 + round(VALID_QUANTILE * (errors.numel() - 1))
    kept = clamped < clamped.detach().kthvalue(rank).values
    if kept.sum() <= MIN_KEPT:
        return clamped.mean()
    return torch.where(kept, clamped, 0.0).sum() / kept.sum()
