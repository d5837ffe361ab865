"""Cutting recorded or generated frames into context and target views."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.data.sampling import to_views
from tokengroups.errors import UserError
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.types import Cameras, SceneFrames, Views


@dataclass(frozen=True)
class EvaluationScene:
    """A scene as the model sees it, and what the renderings are compared with."""

    name: str
    context: Views
    targets: Views
    classes: dict[int, str]  # class name of every instance id


def evaluation_scene(frames: SceneFrames, data: EvaluationData, size: int | None = None) -> EvaluationScene:
    """Split the frames of a path into context (every second one) and targets (the others).

    Args:
        frames: Frames of the scene after `data.frame_step`, that is ``data.frames`` of its recording.
        data: Number of views.
        size: Side of the square that is cut out and resized; None keeps the images as they are.

    Raises:
        UserError: If the scene has too few frames.
    """
    needed = 2 * data.num_views + 1
    if len(frames.images) < needed:
        raise UserError(
            f"scene {frames.name} has {len(frames.images)} frames at frame step {data.frame_step}, but "
            f"{data.num_views} views need {needed}; ask for fewer views or a smaller step"
        )
    context, targets = to_views(frames, range(1, needed, 2)), to_views(frames, range(0, needed, 2))
    if size is not None:
        context, targets = square_views(context, size), square_views(targets, size)
    return EvaluationScene(frames.name, context, targets, frames.instance_classes)


def square_views(views: Views, size: int) -> Views:
    """Cut the central square out of unbatched views and resize it, with the intrinsics to match.

    Photos are resized with antialiasing; depth and instance ids take the nearest pixel, never a mixture.
    """
    height, width = views.cameras.size_hw
    if (height, width) == (size, size):
        return views
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = (..., slice(top, top + side), slice(left, left + side))
    images = functional.interpolate(
        views.images[square], (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    nearest = ((torch.arange(size) + 0.5) * (side / size)).long()
    pixels = (..., nearest[:, None] + top, nearest + left)
    intrinsics = _square_intrinsics(views.cameras.intrinsics, top, left, size / side)
    cameras = Cameras(views.cameras.cam_from_world, intrinsics, (size, size))
    return Views(images.clamp(0, 1), cameras, views.depth[pixels], views.group_ids[pixels])


def _square_intrinsics(
    intrinsics: Float[Tensor, "V 3 3"], top: int, left: int, factor: float
) -> Float[Tensor, "V 3 3"]:
    """Pinholes after a crop and a resize; the first pixel's centre is (0.5, 0.5), so (0, 0) is the corner."""
    squared = intrinsics.clone()
    squared[:, 0, 2] -= left
    squared[:, 1, 2] -= top
    squared[:, :2] *= factor
    return squared
