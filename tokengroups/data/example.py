"""Examples: scenes cut into context views, which a model gets, and target views, which it must predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokengroups.data.augment import to_views
from tokengroups.data.base import FrameSequence
from tokengroups.errors import UserError
from tokengroups.types import TensorFields, Views, stack


@dataclass(frozen=True)
class Example(TensorFields):
    """A scene, or a batch of scenes, for training, evaluation and fitting."""

    context: Views  # the photos
    targets: Views  # the views that renderings are compared with
    classes: tuple[dict[int, str], ...] = ()  # one per scene: class names of group ids
    names: tuple[str, ...] = ()  # one per scene


@dataclass(frozen=True)
class FramePlan:
    """Choice of frames of a recording: every second one is a photo, those before, between and after are targets."""

    num_views: int  # photos
    frame_step: int = 1  # frames of the recording from one that is used to the next

    @property
    def length(self) -> int:
        """Frames that are used."""
        return 2 * self.num_views + 1

    @property
    def span(self) -> slice:
        """Those frames of the recording."""
        return slice(0, (self.length - 1) * self.frame_step + 1, self.frame_step)

    @property
    def context(self) -> tuple[int, ...]:
        """Numbers of the photos in the recording."""
        return tuple(range(self.frame_step, 2 * self.num_views * self.frame_step, 2 * self.frame_step))

    @property
    def targets(self) -> tuple[int, ...]:
        """Numbers of the target frames."""
        return tuple(range(0, 2 * self.num_views * self.frame_step + 1, 2 * self.frame_step))


def cut_example(scene: FrameSequence, plan: FramePlan, size: int | None = None) -> Example:
    """Cut the beginning of a scene into an unbatched example.

    The images become squares of `size` pixels a side; None keeps them as they are.

    Raises:
        UserError: The scene has too few frames.

    Example:
        >>> from tokengroups.data.base import open_dataset
        >>> from tokengroups.data.example import FramePlan, cut_example
        >>> rooms = open_dataset("procedural", num_frames=5, size=32)
        >>> example = cut_example(rooms[0], FramePlan(num_views=2))
        >>> example.context.images.shape, example.targets.images.shape
        (torch.Size([2, 3, 32, 32]), torch.Size([3, 3, 32, 32]))
    """
    frames = scene[plan.span]
    if len(frames) < plan.length:
        raise UserError(
            f"scene {scene.name} has {len(frames)} frames at frame step {plan.frame_step}, but "
            f"{plan.num_views} views need {plan.length}; ask for fewer views or a smaller step"
        )
    context, targets = (to_views(frames, range(first, plan.length, 2), size) for first in (1, 0))
    return Example(context, targets, (frames.instance_classes,), (scene.name,))


def stack_examples(examples: Sequence[Example]) -> Example:
    """Stack unbatched examples of equal shape along a new first axis B."""
    classes = tuple(classes for example in examples for classes in example.classes)
    names = tuple(name for example in examples for name in example.names)
    return replace(stack(examples), classes=classes, names=names)
