"""Alignment of true cameras with a prediction, by its first camera and one scale per scene."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import median_distance_ratio, relative_cameras, transform_points, world_points
from tokengroups.types import Cameras, Views


def align_cameras(
    targets: Cameras, context: Views, predicted_points: Float[Tensor, "B V H W 3"]
) -> tuple[Cameras, Float[Tensor, " B"]]:
    """Express target cameras in the predicted frame of the first context camera.

    Translations are multiplied by the scene's scale: the median, over all context pixels of known depth, of the
    predicted point's distance from the first camera over the true point's.

    Args:
        targets: True cameras, batch axes B T.
        context: The photos with true depth and cameras.
        predicted_points: Points of the photos' pixels, in the predicted frame of the first context camera.

    Returns:
        Cameras whose world is that frame, with the true intrinsics; predicted units per metre.
    """
    first = context.cameras.cam_from_world[:, 0]
    true_points = world_points(context.depth, context.cameras.cam_from_world, context.cameras.intrinsics)
    true_points = transform_points(first, rearrange(true_points, "b v h w c -> b (v h w) c"))
    predicted = rearrange(predicted_points, "b v h w c -> b (v h w) c")
    scale = median_distance_ratio(predicted, true_points, context.depth.flatten(1) > 0)
    cam_from_first = relative_cameras(targets.cam_from_world, first, scale)
    return Cameras(cam_from_first, targets.intrinsics, targets.size_hw), scale
