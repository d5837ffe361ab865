"""Training scenes of photos and target views: what tasks that learn by rendering draw from a stream of rooms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tokengroups.data.augment import collate
from tokengroups.errors import UserError
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.evaluation.scenes import EvaluationScene, evaluation_scene
from tokengroups.training.config import TrainingConfig
from tokengroups.training.rooms import RoomsConfig, RoomStream
from tokengroups.types import TensorFields, Views

SCENE, PHOTOS = 11, 12  # what is drawn: keeps the random streams of one seed apart


@dataclass(frozen=True)
class ScenesConfig(RoomsConfig):
    """How a path's frames become photos and target views."""

    context_views: int = 2  # every other of 2 n + 1 neighbours; the frames between and around are targets
    min_context_views: int | None = None  # drawn step by step from here to context_views; None = no fewer
    supervise_context: bool = True  # render the photos' own views too


@dataclass(frozen=True)
class TrainingScenes(TensorFields):
    """Photos handed to the model and the views it is asked to render."""

    context: Views
    targets: Views
    classes: tuple[dict[int, str], ...] = ()  # class name of every instance id, one per scene


def stack_scenes(scenes: Sequence[TrainingScenes]) -> TrainingScenes:
    """Unbatched scenes of equal shape along a new first axis B."""
    return TrainingScenes(
        collate([scene.context for scene in scenes]),
        collate([scene.targets for scene in scenes]),
        tuple(classes for scene in scenes for classes in scene.classes),
    )


def held_out_scenes(config: ScenesConfig) -> tuple[EvaluationData, Iterator[EvaluationScene]]:
    """The rooms that watch the training, by the protocol of `tokengroups evaluate`."""
    protocol = EvaluationData("procedural", config.context_views, split="test", seed=config.evaluation_seed)
    rooms = config.held_out(protocol.target_frames[-1] + 1)
    return protocol, (evaluation_scene(rooms[index], protocol) for index in range(len(rooms)))


class SceneStream:
    """Augmented training scenes, a pure function of (seed, step, slot).

    Raises:
        UserError: Paths too short for the views asked for.
    """

    def __init__(self, config: ScenesConfig, training: TrainingConfig) -> None:
        if config.context_views < 1 or config.num_views < 2 * config.context_views + 1:
            raise UserError(
                "data: num_views must be at least 2 * context_views + 1, "
                f"got {config.num_views} for {config.context_views}"
            )
        self.fewest = config.context_views if config.min_context_views is None else config.min_context_views
        if not 1 <= self.fewest <= config.context_views:
            raise UserError(
                f"data: min_context_views must be 1 to context_views ({config.context_views}), got {self.fewest}"
            )
        self.config, self.training = config, training
        self.rooms = RoomStream(config, training.seed)

    def batch(self, step: int, slots: range) -> TrainingScenes:
        """Scenes of some slots, stacked."""
        return stack_scenes([self.scene(step, slot) for slot in slots])

    def scene(self, step: int, slot: int) -> TrainingScenes:
        """One unbatched scene: a stretch of a path, walked either way."""
        config, seed = self.config, self.training.seed
        rng = np.random.default_rng([SCENE, seed, step, slot])
        path = self.rooms.path(step * self.training.batch_size + slot)
        photos = np.random.default_rng([PHOTOS, seed, step]).integers(self.fewest, config.context_views + 1)
        stretch = 2 * int(photos) + 1
        start = int(rng.integers(0, config.num_views - stretch + 1))
        order = list(range(start, start + stretch))
        if rng.random() < 0.5:
            order.reverse()
        views = self.rooms.augment(path.views.select(order), rng)
        context = list(range(1, stretch, 2))
        targets = list(range(stretch)) if config.supervise_context else list(range(0, stretch, 2))
        return TrainingScenes(views.select(context), views.select(targets), (path.classes,))
