"""Procedural rooms as a stream of training scenes: which room a slot gets, and how its views are augmented."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tokengroups.data.rooms import ProceduralRooms
from tokengroups.data.sampling import jitter_colours, mirror
from tokengroups.types import SceneFrames, Views

ORDER = 2  # what is drawn: keeps the random streams of one seed apart


@dataclass(frozen=True)
class RoomsConfig:
    """Which rooms, and how they are varied."""

    cache: str  # folder where generated rooms are kept
    num_rooms: int = 4000
    num_views: int = 8  # frames of a room's path
    size: int = 128
    seed: int = 0
    mirror: float = 0.5  # probability
    colour_jitter: float = 1.0  # strength (see jitter_colours); 0 = off
    evaluation_rooms: int = 32
    evaluation_seed: int = 714_025  # of the held-out rooms that watch the training; not for reported numbers


class RoomStream:
    """Training rooms in a random order that depends on the seed alone."""

    def __init__(self, config: RoomsConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.rooms = ProceduralRooms(
            seed=config.seed, num_rooms=config.num_rooms, split="train", num_views=config.num_views,
            size=config.size, cache_dir=config.cache,
        )  # fmt: skip
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def room(self, draw: int) -> SceneFrames:
        """The n-th draw of the run: every room once, in random order, then again in another order."""
        epoch, position = divmod(draw, self.config.num_rooms)
        if self.order[0] != epoch:
            rng = np.random.default_rng([ORDER, self.seed, epoch])
            self.order = (epoch, rng.permutation(self.config.num_rooms))
        return self.rooms[int(self.order[1][position])]

    def augment(self, views: Views, rng: np.random.Generator) -> Views:
        """Mirror and recolour one scene."""
        if rng.random() < self.config.mirror:
            views = mirror(views)
        return replace(views, images=jitter_colours(views.images, rng, self.config.colour_jitter))


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
