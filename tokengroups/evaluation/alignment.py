"""Cameras that render a reconstruction from true viewpoints."""

from __future__ import annotations

from torch import Tensor

from tokengroups.alignment import align_cameras
from tokengroups.geometry import transform_points, world_points
from tokengroups.postprocess import Reconstruction
from tokengroups.types import Cameras, Views


def target_cameras(prediction: Reconstruction, context: Views, targets: Cameras) -> tuple[Cameras, float]:
    """True target cameras in the world of a reconstruction, and its scale in predicted units per metre.

    See `align_cameras`; views and cameras are unbatched.
    """
    predicted = prediction.scene.cameras
    first = predicted.cam_from_world[0]
    points = world_points(prediction.depth, predicted.cam_from_world, predicted.intrinsics)
    points = transform_points(first, points.flatten(0, 2)).reshape(1, *points.shape)

    def batched(tensor: Tensor) -> Tensor:
        return tensor[None]

    cameras, scale = align_cameras(targets.map(batched), context.map(batched), points)
    return Cameras(cameras.cam_from_world[0] @ first, cameras.intrinsics[0], cameras.size_hw), scale.item()
