"""Rooms as a stream of training scenes: which room a slot gets, and how its views are augmented."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from tokengroups.data.augment import jitter_colours, mirror, shrink_turns, square_views, to_views, turn_views
from tokengroups.data.procedural.cache import ProceduralRooms
from tokengroups.data.readers.scannet import count_frames, find_scenes, read_scannet
from tokengroups.errors import UserError
from tokengroups.types import Views

ORDER, START = 2, 3  # what is drawn: keeps the random streams of one seed apart


@dataclass(frozen=True)
class RoomsConfig:
    """Which rooms, and how they are varied."""

    cache: str  # folder where generated rooms are kept
    num_rooms: int = 4000  # generated ones
    num_views: int = 8  # frames of a room's path
    size: int = 128
    seed: int = 0
    more_seeds: tuple[int, ...] = ()  # of further sets of as many rooms
    recorded: str | None = None  # folder of scenes in ScanNet's layout to train on instead
    frame_step: int = 10  # of recorded scenes: frames between neighbours of a path
    mirror: float = 0.5  # probability
    zoom: float = 1.0  # largest central enlargement of every second scene, on average; 1 = off
    turn: float = 0.0  # largest turn of every enlarged photo by itself, in degrees; within what it shows
    colour_jitter: float = 1.0  # strength (see jitter_colours); 0 = off
    evaluation_rooms: int = 32
    evaluation_seed: int = 714_025  # of the held-out rooms that watch the training; not for reported numbers

    def __post_init__(self) -> None:
        """Refuse photos that would be shrunk, and turns without the room that an enlargement makes for them."""
        if self.zoom < 1:
            raise ValueError(f"data.zoom must be >= 1, got {self.zoom}")
        if self.turn < 0 or (self.turn > 0 and self.zoom == 1):
            raise ValueError(
                f"data.turn must be >= 0 and needs data.zoom above 1, got {self.turn} with {self.zoom}"
            )

    def held_out(self, num_views: int) -> ProceduralRooms:
        """The rooms that watch the training, with paths of so many frames."""
        return ProceduralRooms(
            seed=self.evaluation_seed, num_rooms=self.evaluation_rooms, split="test", num_views=num_views,
            size=self.size, cache_dir=self.cache,
        )  # fmt: skip


@dataclass(frozen=True)
class RoomPath:
    """The views along one path through a room."""

    views: Views
    classes: dict[int, str]  # class name of every instance id


class RoomStream:
    """Training rooms in a random order that depends on the seed alone."""

    def __init__(self, config: RoomsConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.recorded = find_scenes(config.recorded) if config.recorded is not None else []
        self.rooms = [
            ProceduralRooms(
                seed=rooms_seed, num_rooms=config.num_rooms, split="train", num_views=config.num_views,
                size=config.size, cache_dir=config.cache,
            )
            for rooms_seed in (config.seed, *config.more_seeds)
        ]  # fmt: skip
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def path(self, draw: int) -> RoomPath:
        """The n-th draw of the run: every room once, in random order, then again in another order."""
        count = len(self.recorded) or len(self.rooms) * self.config.num_rooms
        epoch, position = divmod(draw, count)
        if self.order[0] != epoch:
            rng = np.random.default_rng([ORDER, self.seed, epoch])
            self.order = (epoch, rng.permutation(count))
        index = int(self.order[1][position])
        if not self.recorded:
            collection, index = divmod(index, self.config.num_rooms)
            room = self.rooms[collection][index]
            return RoomPath(to_views(room, range(self.config.num_views)), room.instance_classes)
        return self._recorded_path(self.recorded[index], np.random.default_rng([START, self.seed, draw]))

    def _recorded_path(self, folder: Path, rng: np.random.Generator) -> RoomPath:
        """A stretch of a recording that starts anywhere."""
        step, num_views = self.config.frame_step, self.config.num_views
        spare = count_frames(folder) - step * (num_views - 1)
        if spare < 1:
            raise UserError(
                f"{folder}: too few frames with a pose for {num_views} views {step} apart; "
                "lower data.frame_step or data.num_views"
            )
        start = int(rng.integers(spare))
        frames = read_scannet(folder, slice(start, start + step * (num_views - 1) + 1, step))
        views = square_views(to_views(frames, range(num_views)), self.config.size)
        return RoomPath(views, frames.instance_classes)

    def augment(self, views: Views, rng: np.random.Generator) -> Views:
        """Mirror, enlarge, turn and recolour one scene."""
        if rng.random() < self.config.mirror:
            views = mirror(views)
        if self.config.zoom > 1 and rng.random() < 0.5:
            views = self._enlarge(views, self.config.zoom ** rng.random(), rng)
        return replace(views, images=jitter_colours(views.images, rng, self.config.colour_jitter))

    def _enlarge(self, views: Views, zoom: float, rng: np.random.Generator) -> Views:
        """Enlarge one scene, about the middle or, with turns, as far beside it as every photo reaches."""
        if self.config.turn == 0:
            return square_views(views, self.config.size, zoom)
        turns = rng.uniform(-self.config.turn, self.config.turn, (len(views.images), 3))
        turns = torch.deg2rad(torch.from_numpy(turns).float())
        return turn_views(views, shrink_turns(views.cameras, turns, zoom), zoom)


def draw_frames(rng: np.random.Generator, path_length: int, num_frames: int, max_gap: int) -> list[int]:
    """Frames of a path in random order, neighbours along the path 1 ... `max_gap` frames apart.

    The first one drawn defines the world, so every role of a frame is learnt.
    """
    if num_frames > path_length:
        raise ValueError(f"num_frames must be at most the path's {path_length}, got {num_frames}")
    gaps = rng.integers(1, max_gap + 1, size=num_frames - 1)
    while gaps.sum() > path_length - 1:
        gaps[int(gaps.argmax())] -= 1
    start = int(rng.integers(0, path_length - gaps.sum()))
    frames = start + np.concatenate([[0], np.cumsum(gaps)])
    return [int(frame) for frame in rng.permutation(frames)]
