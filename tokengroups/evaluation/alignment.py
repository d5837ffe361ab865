"""Cameras that render a reconstruction from true viewpoints: first camera and one scale, no target pixels."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import median_distance_ratio, relative_cameras, transform_points, world_points
from tokengroups.systems import Reconstruction
from tokengroups.types import Cameras, Views


def scene_scale(prediction: Reconstruction, context: Views) -> float:
    """Predicted units per metre.

    The median, over all context pixels of known depth, of the predicted point's distance from the first
    camera over the true point's.
    """
    predicted = _points_from_first(prediction.depth, prediction.scene.cameras)
    points = _points_from_first(context.depth, context.cameras)
    return median_distance_ratio(predicted, points, context.depth.reshape(1, -1) > 0).item()


def target_cameras(targets: Cameras, context: Cameras, predicted: Cameras, scale: float) -> Cameras:
    """True target cameras in the world of the prediction.

    They stand to the predicted first context camera as they stand to the true one, with translations
    multiplied by `scale`. Their intrinsics are the true ones.
    """
    factor = targets.cam_from_world.new_tensor(scale)
    cam_from_first = relative_cameras(targets.cam_from_world, context.cam_from_world[0], factor)
    return Cameras(cam_from_first @ predicted.cam_from_world[0], targets.intrinsics, targets.size_hw)


def _points_from_first(depth: Float[Tensor, "V H W"], cameras: Cameras) -> Float[Tensor, "1 M 3"]:
    """Points of all views in the frame of the first camera."""
    points = world_points(depth, cameras.cam_from_world, cameras.intrinsics)
    return transform_points(cameras.cam_from_world[:1], rearrange(points, "v h w c -> 1 (v h w) c"))
