"""Cutting recorded or generated frames into context and target views."""

from __future__ import annotations

from dataclasses import dataclass

from tokengroups.data.augment import square_views, to_views
from tokengroups.errors import UserError
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.types import SceneFrames, Views


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
