"""The procedural rooms as a dataset with a cache on disk: one uncompressed .npz a room."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from tokengroups.data.procedural.generate import GENERATOR_VERSION, generate_room
from tokengroups.data.procedural.views import DEPTH_STEPS
from tokengroups.io.files import atomic_path, make_folder
from tokengroups.types import SceneFrames


@dataclass(frozen=True)
class ProceduralRooms:
    """Rooms of one seed and split; `rooms[i]` generates room i, or reads it from the cache.

    Args:
        seed: Seed of the collection.
        num_rooms: How many rooms `len` reports.
        split: "train" or "test".
        num_views: Frames a room.
        size: Image side in pixels.
        cache_dir: Folder that keeps generated rooms; None generates afresh every time.
    """

    seed: int
    num_rooms: int
    split: str = "train"
    num_views: int = 8
    size: int = 128
    cache_dir: str | Path | None = None

    def __len__(self) -> int:
        return self.num_rooms

    def __getitem__(self, index: int) -> SceneFrames:
        if not 0 <= index < self.num_rooms:
            raise IndexError(f"room {index} of {self.num_rooms}")
        path = self.path(index)
        if path is not None:
            cached = _read(path)
            if cached is not None:
                return cached
        frames = generate_room(self.seed, index, self.split, self.num_views, self.size)
        if path is not None:
            make_folder(path.parent)
            _write(path, frames)
        return frames

    def path(self, index: int) -> Path | None:
        """The cache file of a room; its folder names everything that determines the pixels."""
        if self.cache_dir is None:
            return None
        key = f"rooms_v{GENERATOR_VERSION}_{self.split}_seed{self.seed}_{self.num_views}x{self.size}"
        return Path(self.cache_dir) / key / f"{index:06d}.npz"

    def fill_cache(self, num_workers: int) -> Iterator[int]:
        """Generate all missing rooms with this many processes; yields each index when its room is there."""
        if self.cache_dir is None:
            raise ValueError("fill_cache needs a cache_dir")
        if num_workers <= 1:
            for index in range(self.num_rooms):
                self._ensure(index)
                yield index
            return
        with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(self._ensure, range(self.num_rooms), chunksize=4)

    def _ensure(self, index: int) -> int:
        path = self.path(index)
        if path is not None and not path.exists():
            self[index]
        return index


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


def _read(path: Path) -> SceneFrames | None:
    """A cached room; None if it is missing or damaged (it is then made again)."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            classes = json.loads(stored["instance_classes"].tobytes())
            return SceneFrames(
                name=str(stored["name"]),
                images=stored["images"],
                depth=stored["depth_steps"].astype(np.float32) / DEPTH_STEPS,
                group_ids=stored["ids_plus_one"].astype(np.int16) - np.int16(1),
                cam_from_world=stored["cam_from_world"],
                intrinsics=stored["intrinsics"],
                instance_classes={int(number): name for number, name in classes.items()},
            )
    except (FileNotFoundError, zipfile.BadZipFile, KeyError, ValueError, EOFError):
        return None
