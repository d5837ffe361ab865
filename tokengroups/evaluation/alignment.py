"""Cameras that render a reconstruction from true viewpoints: first camera and one scale, no target pixels."""

from __future__ import annotations

from einops import rearrange

from tokengroups.geometry import median_distance_ratio, relative_cameras, transform_points, world_points
from tokengroups.models import Reconstruction
from tokengroups.types import Cameras, Views


def scene_scale(prediction: Reconstruction, context: Views) -> float:
    """Predicted units per metre.

    The median, over all context pixels of known depth, of the predicted point's distance from the first
    camera over the true point's. The first camera is the world of the prediction.
    """
    cameras = prediction.scene.cameras
    predicted = world_points(prediction.depth, cameras.cam_from_world, cameras.intrinsics)
    points = world_points(context.depth, context.cameras.cam_from_world, context.cameras.intrinsics)
    points = transform_points(context.cameras.cam_from_world[0], rearrange(points, "v h w c -> 1 (v h w) c"))
    predicted = rearrange(predicted, "v h w c -> 1 (v h w) c")
    return median_distance_ratio(predicted, points, context.depth.reshape(1, -1) > 0).item()


def target_cameras(targets: Cameras, context: Cameras, scale: float) -> Cameras:
    """True target cameras relative to the true first context camera, translations multiplied by `scale`.

    Their intrinsics are the true ones.
    """
    factor = targets.cam_from_world.new_tensor(scale)
    cam_from_first = relative_cameras(targets.cam_from_world, context.cam_from_world[0], factor)
    return Cameras(cam_from_first, targets.intrinsics, targets.size_hw)
