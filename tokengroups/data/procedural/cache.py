"""The procedural rooms as a data set, with a cache on disk: one uncompressed .npz a room."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from tokengroups.bounds import Between, NumFrames, Seed, Settings
from tokengroups.data.procedural.generate import CLASS_NAMES, GENERATOR_VERSION, Gaze, generate_room
from tokengroups.data.procedural.views import DEPTH_STEPS
from tokengroups.io.files import atomic_path, make_folder
from tokengroups.reading import path_kind
from tokengroups.types import SceneFrames

VALIDATION_SEED, VALIDATION_ROOMS = 714_025, 1000


@dataclass(frozen=True)
class ProceduralRooms(Settings):
    """Furnished rooms that are generated on demand, or read from the cache.

    The splits "train" and "test" hold `num_rooms` rooms of every seed and never share one. "val" is for watching a
    training: test rooms of a seed of its own, whatever `seeds` are, so that no reported number comes from it.

    Args:
        root: Folder that keeps generated rooms; None generates afresh every time.
        num_frames: Frames a room, along a path.
        size: Image side in pixels.
        seeds: One collection of rooms each, one after the other.
        num_rooms: Rooms of every seed.
        gaze: Where the cameras look, as for `generate_room`: "around" gives walks on which a thing is seldom in view.
    """

    root: str | Path | None = None
    num_frames: NumFrames = 8
    size: Annotated[int, Between(16, 4096)] = 128
    seeds: Annotated[tuple[Seed, ...], Between(1, 100)] = (0,)
    num_rooms: Annotated[int, Between(1, 10**6)] = 4000
    gaze: Gaze = "centre"

    class_names: ClassVar[tuple[str, ...]] = CLASS_NAMES

    @property
    def splits(self) -> dict[str, range]:
        """Indices of the rooms of every split."""
        count = len(self.seeds) * self.num_rooms
        return {
            "train": range(count),
            "test": range(count, 2 * count),
            "val": range(2 * count, 2 * count + VALIDATION_ROOMS),
        }

    def __len__(self) -> int:
        return self.splits["val"].stop

    def __getitem__(self, index: int) -> SceneFrames:
        path = self.path(index)
        if path is not None:
            cached = _read(path, self.num_frames, self.size)
            if cached is not None:
                return cached
        split, seed, number = self._room(index)
        frames = generate_room(seed, number, split, self.num_frames, self.size, self.gaze)
        if path is not None:
            make_folder(path.parent)
            _write(path, frames)
        return frames

    def path(self, index: int) -> Path | None:
        """The cache file of a room; its folder names everything that determines the pixels."""
        split, seed, number = self._room(index)
        if self.root is None:
            return None
        key = f"rooms_v{GENERATOR_VERSION}_{split}_seed{seed}_{self.num_frames}x{self.size}"
        if self.gaze != "centre":
            key += f"_{self.gaze}"
        return Path(self.root) / key / f"{number:06d}.npz"

    def _room(self, index: int) -> tuple[str, int, int]:
        """Arguments of the generator: split, seed and number of the room."""
        name = next((name for name, rooms in self.splits.items() if index in rooms), None)
        if name is None:
            raise IndexError(f"room {index} of {len(self)}")
        number = index - self.splits[name].start
        if name == "val":
            return "test", VALIDATION_SEED, number
        collection, number = divmod(number, self.num_rooms)
        return name, self.seeds[collection], number


def _write(path: Path, frames: SceneFrames) -> None:
    classes = json.dumps(frames.instance_classes).encode()
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            name=np.array(frames.name),
            images=frames.images,
            depth_steps=np.round(frames.depth * DEPTH_STEPS).astype(np.uint16),
            ids_plus_one=(frames.group_ids + 1).astype(np.uint8),
            cam_from_world=frames.cam_from_world,
            intrinsics=frames.intrinsics,
            instance_classes=np.frombuffer(classes, np.uint8),
        )


def _read(path: Path, num_frames: int, size: int) -> SceneFrames | None:
    """A cached room; None if it is missing, damaged or none of this shape (it is then made again)."""
    if path_kind(path) != "file":
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            classes = json.loads(stored["instance_classes"].tobytes())
            frames = SceneFrames(
                name=str(stored["name"]),
                images=stored["images"],
                depth=stored["depth_steps"].astype(np.float32) / DEPTH_STEPS,
                group_ids=stored["ids_plus_one"].astype(np.int16) - np.int16(1),
                cam_from_world=stored["cam_from_world"],
                intrinsics=stored["intrinsics"],
                instance_classes={int(number): str(name) for number, name in classes.items()},
            )
    except Exception:  # zipfile, its decompressors, NumPy and JSON, each with errors of its own
        return None
    return frames if frames.images.shape == (num_frames, size, size, 3) else None
