"""Accuracy of predicted depth, cameras and matches of one scene.

Predictions and truth are expressed in the frame of their own first camera. Predictions are multiplied by one scale:
the median ratio of true to predicted point distances over all valid pixels. There is no other alignment.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.encoders import Geometry
from tokengroups.encoders.base import MATCH_DESCRIPTORS
from tokengroups.geometry import invert_rigid, world_points
from tokengroups.losses.cell_matching import cell_targets, match_logits, matching_accuracy
from tokengroups.types import Cameras, Views

MIN_MOTION = 1e-6  # shorter translations (in ground-truth units) have no direction


@dataclass(frozen=True)
class GeometryMetrics:
    """Numbers of one scene; NaN where there is nothing to measure."""

    depth_absrel: float  # mean |depth error| / true depth
    point_error: float  # mean distance of predicted from true points / mean distance of these from view 0
    rotation_error_deg: float  # of the camera of view v relative to view 0; median over the views v > 0
    translation_error_deg: float  # angle between the directions from camera 0 to camera v; median
    translation_length_ratio: float  # predicted (scaled) over true distance of camera v from camera 0; median


def geometry_metrics(
    depth: Float[Tensor, "V H W"], cameras: Cameras, true_depth: Float[Tensor, "V H W"], true_cameras: Cameras
) -> GeometryMetrics:
    """Compare the predicted depth and cameras of one scene with the truth.

    Args:
        depth: Predicted z-depth, any unit.
        cameras: Predicted cameras (batch axis V), in the unit of `depth`.
        true_depth: True z-depth; pixels <= 0 are unknown and ignored.
        true_cameras: True cameras.

    Example:
        >>> import torch
        >>> import tokengroups as tg
        >>> from tokengroups.evaluation.geometry_metrics import geometry_metrics
        >>> scene = tg.example_scene()
        >>> depth = torch.stack([view.depth for view in tg.render_views(scene, scene.cameras)])
        >>> wrong = depth.clone()
        >>> wrong[:, :, 40:] *= 1.1
        >>> round(geometry_metrics(wrong, scene.cameras, depth, scene.cameras).depth_absrel, 3)
        0.029
    """
    depth, true_depth = depth.double(), true_depth.double()
    cameras, true_cameras = cameras.to(torch.float64), true_cameras.to(torch.float64)
    valid = true_depth > 0
    cam_from_first, true_cam_from_first = relative_to_first(cameras), relative_to_first(true_cameras)
    points = world_points(depth, cam_from_first, cameras.intrinsics)
    true_points = world_points(true_depth, true_cam_from_first, true_cameras.intrinsics)
    scale = scene_scale(points, true_points, valid)
    depth_errors = (scale * depth - true_depth).abs()[valid] / true_depth[valid]
    point_errors = (scale * points - true_points)[valid].norm(dim=-1)
    turns, true_turns = cam_from_first[1:, :3, :3], true_cam_from_first[1:, :3, :3]
    moves = scale * invert_rigid(cam_from_first)[1:, :3, 3]
    true_moves = invert_rigid(true_cam_from_first)[1:, :3, 3]
    return GeometryMetrics(
        depth_absrel=float(depth_errors.mean()),
        point_error=float(point_errors.mean() / true_points[valid].norm(dim=-1).mean()),
        rotation_error_deg=_median(rotation_angle_deg(turns, true_turns)),
        translation_error_deg=_median(direction_angle_deg(moves, true_moves)),
        translation_length_ratio=_median(length_ratio(moves, true_moves)),
    )


def encoder_metrics(geometry: Geometry, views: Views) -> dict[str, float]:
    """Compare an encoder's geometry of one scene (a batch of one) with the truth.

    Returns:
        `GeometryMetrics`, and with match descriptors `match_accuracy`: the share of visible cells matched rightly.
    """
    predicted, true = (cameras.map(lambda tensor: tensor[0]) for cameras in (geometry.cameras, views.cameras))
    numbers = asdict(geometry_metrics(geometry.depth[0], predicted, views.depth[0], true))
    descriptors = geometry.evidence.get(MATCH_DESCRIPTORS)
    if descriptors is None or isinstance(descriptors, tuple):
        return numbers
    logits = match_logits(descriptors)
    return numbers | {"match_accuracy": float(matching_accuracy(logits, cell_targets(views, logits.shape[2])))}


def relative_to_first(cameras: Cameras) -> Float[Tensor, "V 4 4"]:
    """Rigid motions from the frame of the first camera to each camera."""
    return cameras.cam_from_world @ invert_rigid(cameras.cam_from_world[:1])


def scene_scale(
    points: Float[Tensor, "*b 3"], true_points: Float[Tensor, "*b 3"], valid: Bool[Tensor, "*b"]
) -> Float[Tensor, ""]:
    """Median over the valid pixels of true / predicted distance from the first camera; NaN without valid pixels."""
    ratio = true_points[valid].norm(dim=-1) / points[valid].norm(dim=-1).clamp(min=1e-12)
    return ratio.median() if len(ratio) else ratio.new_tensor(float("nan"))


def rotation_angle_deg(first: Float[Tensor, "*b 3 3"], second: Float[Tensor, "*b 3 3"]) -> Float[Tensor, "*b"]:
    """Angle of the rotation between two orientations, in degrees; exact near 0 and 180 too."""
    between = first @ second.transpose(-1, -2)
    skew = between - between.transpose(-1, -2)
    sine = 0.5 * torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1).norm(dim=-1)
    cosine = 0.5 * (between.diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1)
    return torch.rad2deg(torch.atan2(sine, cosine))


def direction_angle_deg(first: Float[Tensor, "*b 3"], second: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b"]:
    """Angle between two vectors in degrees; NaN where the second is shorter than `MIN_MOTION`."""
    angle = torch.atan2(torch.linalg.cross(first, second).norm(dim=-1), (first * second).sum(dim=-1))
    return torch.where(second.norm(dim=-1) < MIN_MOTION, float("nan"), torch.rad2deg(angle))


def length_ratio(first: Float[Tensor, "*b 3"], second: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b"]:
    """Length of the first vector over that of the second; NaN where that is shorter than `MIN_MOTION`."""
    length = second.norm(dim=-1)
    return torch.where(length < MIN_MOTION, float("nan"), first.norm(dim=-1) / length.clamp(min=MIN_MOTION))


def _median(values: Float[Tensor, " n"]) -> float:
    return float(values.nanmedian()) if values.numel() else float("nan")
