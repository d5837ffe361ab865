"""Training data as a pure function of (seed, step, slot): scenes, their frames, and augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import torch

from tokengroups.bounds import Between, Count, NumFrames, Settings, Share
from tokengroups.data.augment import crop_views, jitter_colours, mirror, shrink_turns, to_views, turn_views
from tokengroups.data.base import WATCHED, Dataset, FrameSequence, choose_split, open_dataset
from tokengroups.data.example import Example, FramePlan, cut_example, stack_examples
from tokengroups.data.looks import paint, photograph
from tokengroups.errors import UserError
from tokengroups.types import SceneFrames, Views

ORDER, START, SCENE, PHOTOS, SHAPE = 2, 3, 11, 12, 13  # what is drawn: keeps the random streams of one seed apart
PORTRAITS = 0.25  # share of the images that are not square
Zoom = Annotated[float, Between(1, 100)]
Degrees = Annotated[float, Between(0, 90)]


@dataclass(frozen=True)
class DataConfig(Settings):
    """Scenes and their augmentation."""

    dataset: str = "procedural"  # or scannet, insscene, or package.module:Class; see tokengroups.data.base
    root: str | None = None  # folder of the scenes; procedural rooms are kept there once they are generated
    options: dict[str, Any] = field(default_factory=dict)  # of the data set's own, such as seeds of procedural rooms
    num_frames: NumFrames = 8  # of the path that is taken from a scene
    frame_step: Annotated[int, Between(1, 10_000)] = 1  # frames of a recording between neighbours of a path
    size: Annotated[int, Between(16, 4096)] = 128  # longer side of the images
    aspect: Annotated[float, Between(1, 4)] = 1.0  # largest ratio of their sides; drawn for every second step
    mirror: Share = 0.5  # probability
    zoom: Zoom = 1.0  # largest central enlargement of every second scene, on average; 1 = off
    turn: Degrees = 0.0  # largest rotation of every enlarged photo by itself; within what it shows
    colour_jitter: Annotated[float, Between(0, 10)] = 1.0  # strength (see jitter_colours); 0 = off
    photographic: Share = 0.0  # probability of a camera's faults (see photograph)
    painted: Share = 0.0  # probability of natural textures on all surfaces (see paint)
    evaluation_scenes: Count = 32  # most held-out scenes that training is watched on

    def __post_init__(self) -> None:
        """Refuse rotations without a zoom, which makes room for them."""
        super().__post_init__()
        if self.turn > 0 and self.zoom == 1:
            raise ValueError(f"data.turn needs data.zoom above 1, got {self.turn} with {self.zoom}")

    def open(self, num_frames: int) -> Dataset:
        """Open the data set; a generator makes so many frames of every scene."""
        length = (num_frames - 1) * self.frame_step + 1
        return open_dataset(self.dataset, self.root, num_frames=length, size=self.size, options=self.options)


@dataclass(frozen=True)
class ExampleConfig(DataConfig):
    """Choice of photos and target views among a path's frames."""

    context_views: NumFrames = 2  # every other of 2 n + 1 neighbours; the frames between and around are targets
    min_context_views: NumFrames | None = None  # drawn step by step from here to context_views; None = no fewer
    supervise_context: bool = True  # render the photos' own views too
    # Photos of a step over all scenes, which draws 2, 4, 6, ... batch_size scenes that share them evenly: few scenes of
    # many photos or many scenes of few (IGGT's sampler: 24 photos, 2 to 12 scenes). None = batch_size scenes always.
    photo_budget: Annotated[int, Between(2, 10**6)] | None = None

    @property
    def plan(self) -> FramePlan:
        """Choice of frames of a held-out scene, as in `tokengroups evaluate`."""
        return FramePlan(self.context_views, self.frame_step)


class PathStream:
    """Stretches of the scenes of the split "train", in a random order that depends on the seed alone.

    Args:
        config: Scenes and augmentation.
        seed: Of everything random.
        multiple: The sides of images that are not square are multiples of it.
    """

    def __init__(self, config: DataConfig, seed: int, multiple: int = 16) -> None:
        self.config, self.seed, self.multiple = config, seed, multiple
        self.dataset = config.open(config.num_frames)
        self.scenes = self.dataset.splits[choose_split(self.dataset, ["train"])]
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def path(self, draw: int) -> SceneFrames:
        """Frames of the n-th draw of the run: every scene once, in random order, then again in another order.

        Raises:
            UserError: The scene is too short.
        """
        epoch, position = divmod(draw, len(self.scenes))
        if self.order[0] != epoch:
            rng = np.random.default_rng([ORDER, self.seed, epoch])
            self.order = (epoch, rng.permutation(len(self.scenes)))
        scene = self.dataset[self.scenes[int(self.order[1][position])]]
        spare = len(scene) - self.config.frame_step * (self.config.num_frames - 1)
        start = int(np.random.default_rng([START, self.seed, draw]).integers(spare)) if spare > 1 else 0
        return _cut_path(scene, start, self.config.num_frames, self.config.frame_step)

    def shape(self, step: int) -> tuple[int, int]:
        """Height and width of the images of a step: squares, and for every second step, on average, other shapes."""
        size, aspect = self.config.size, self.config.aspect
        rng = np.random.default_rng([SHAPE, self.seed, step])
        if aspect == 1 or rng.random() < 0.5:
            return size, size
        short = max(1, round(size / aspect ** rng.random() / self.multiple)) * self.multiple
        return (size, short) if rng.random() < PORTRAITS else (short, size)

    def views(
        self, frames: SceneFrames, chosen: Sequence[int], size_hw: tuple[int, int], rng: np.random.Generator
    ) -> Views:
        """Chosen frames of a path, of one shape and augmented."""
        return self.augment(to_views(frames, chosen, size_hw), rng)

    def augment(self, views: Views, rng: np.random.Generator) -> Views:
        """Mirror, enlarge, rotate, paint and recolour one scene."""
        config = self.config
        if rng.random() < config.mirror:
            views = mirror(views)
        if config.painted and rng.random() < config.painted:
            views = paint(views, rng)
        if config.zoom > 1 and rng.random() < 0.5:
            zoom = config.zoom ** rng.random()
            if config.turn == 0:
                views = crop_views(views, views.cameras.size_hw, zoom)
            else:
                turns = rng.uniform(-config.turn, config.turn, (len(views.images), 3))
                turns = torch.deg2rad(torch.from_numpy(turns).float())
                views = turn_views(views, shrink_turns(views.cameras, turns, zoom), zoom)
        images = jitter_colours(views.images, rng, config.colour_jitter)
        if config.photographic and rng.random() < config.photographic:
            images = photograph(images, rng)
        return replace(views, images=images)


class ExampleStream:
    """Augmented training examples, a pure function of (seed, step, slot).

    Args:
        config: Scenes, augmentation and choice of frames.
        seed: Of everything random.
        batch_size: Slots of a step.
        multiple: As in `PathStream`.

    Raises:
        UserError: Paths too short for the views asked for.
    """

    def __init__(self, config: ExampleConfig, seed: int, batch_size: int, multiple: int = 16) -> None:
        if config.context_views < 1 or config.num_frames < 2 * config.context_views + 1:
            raise UserError(
                "data: num_frames must be at least 2 * context_views + 1, "
                f"got {config.num_frames} for {config.context_views}"
            )
        self.fewest = config.context_views if config.min_context_views is None else config.min_context_views
        if not 1 <= self.fewest <= config.context_views:
            raise UserError(
                f"data: min_context_views must be 1 to context_views ({config.context_views}), got {self.fewest}"
            )
        self.config, self.seed, self.batch_size = config, seed, batch_size
        self.counts = self._scene_counts()
        self.paths = PathStream(config, seed, multiple)

    def batch(self, step: int, slots: range) -> Example:
        """Examples of some slots, stacked; with a budget of photos, of the share of them that the step has."""
        count = len(slots)
        if self.counts:
            count = max(1, count * (self.config.photo_budget or 0) // (self.photos(step) * self.batch_size))
        return stack_examples([self.example(step, slot) for slot in slots[:count]])

    def photos(self, step: int) -> int:
        """Photos of every scene of a step."""
        rng = np.random.default_rng([PHOTOS, self.seed, step])
        if self.counts and self.config.photo_budget:
            return self.config.photo_budget // int(rng.choice(self.counts))
        return int(rng.integers(self.fewest, self.config.context_views + 1))

    def _scene_counts(self) -> list[int]:
        """Numbers of scenes that a budget of photos may be shared by; none without a budget."""
        budget, config = self.config.photo_budget, self.config
        if budget is None:
            return []
        even = range(2, self.batch_size + 1, 2)
        counts = [n for n in even if budget % n == 0 and self.fewest <= budget // n <= config.context_views]
        if not counts:
            raise UserError(
                f"data: photo_budget {budget} cannot be shared evenly by 2, 4, ... {self.batch_size} scenes of "
                f"{self.fewest} to {config.context_views} photos; change it, context_views or training.batch_size"
            )
        return counts

    def example(self, step: int, slot: int) -> Example:
        """One unbatched example: a stretch of a path in either direction."""
        config = self.config
        rng = np.random.default_rng([SCENE, self.seed, step, slot])
        path = self.paths.path(step * self.batch_size + slot)
        stretch = 2 * self.photos(step) + 1
        start = int(rng.integers(0, config.num_frames - stretch + 1))
        order = list(range(start, start + stretch))
        if rng.random() < 0.5:
            order.reverse()
        views = self.paths.views(path, order, self.paths.shape(step), rng)
        context = list(range(1, stretch, 2))
        targets = list(range(stretch)) if config.supervise_context else list(range(0, stretch, 2))
        return Example(views.select(context), views.select(targets), (path.instance_classes,), (path.name,))


def _cut_path(scene: FrameSequence, start: int, num_frames: int, step: int) -> SceneFrames:
    frames = scene[start : start + step * (num_frames - 1) + 1 : step]
    if len(frames) < num_frames:
        raise UserError(
            f"scene {scene.name}: too few frames for {num_frames} views {step} apart; "
            "lower data.frame_step or data.num_frames"
        )
    return frames


def held_out_views(config: DataConfig, num_frames: int) -> Iterator[Views]:
    """Square views of the first frames of every scene that training is watched on."""
    for scene in _held_out(config, num_frames):
        yield to_views(_cut_path(scene, 0, num_frames, config.frame_step), range(num_frames), config.size)


def held_out_examples(config: ExampleConfig) -> Iterator[Example]:
    """Examples that training is watched on, cut as in `tokengroups evaluate`."""
    return (cut_example(scene, config.plan, config.size) for scene in _held_out(config, config.plan.length))


def _held_out(config: DataConfig, num_frames: int) -> Iterator[FrameSequence]:
    dataset = config.open(num_frames)
    scenes = dataset.splits[choose_split(dataset, WATCHED)]
    return (dataset[index] for index in scenes[: config.evaluation_scenes])


def draw_frames(rng: np.random.Generator, path_length: int, num_frames: int, max_gap: int) -> list[int]:
    """Draw frames of a path in random order, neighbours along the path 1 ... `max_gap` frames apart.

    The first frame defines the world, so the order is random.
    """
    if num_frames > path_length:
        raise ValueError(f"num_frames must be at most the path's {path_length}, got {num_frames}")
    gaps = rng.integers(1, max_gap + 1, size=num_frames - 1)
    while gaps.sum() > path_length - 1:
        gaps[int(gaps.argmax())] -= 1
    start = int(rng.integers(0, path_length - gaps.sum()))
    frames = start + np.concatenate([[0], np.cumsum(gaps)])
    return [int(frame) for frame in rng.permutation(frames)]
