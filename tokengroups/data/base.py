"""Interface of data sets, and opening of one by its name."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from tokengroups.config import build_config
from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.registry import resolve
from tokengroups.types import SceneFrames

DATASETS = {
    "procedural": "tokengroups.data.procedural:ProceduralRooms",
    "scannet": "tokengroups.data.readers.scannet:ScanNet",
    "capture": "tokengroups.data.readers.capture:Captures",
    "insscene": "tokengroups.data.readers.insscene:InsScene",
}
WATCHED, MEASURED = ("val", "test"), ("test", "val")  # splits that training watches and `evaluate` measures


@runtime_checkable
class FrameSequence(Protocol):
    """The frames of one scene, read from disk when they are sliced. `SceneFrames` is one that is in memory."""

    @property
    def name(self) -> str: ...  # noqa: D102

    def __len__(self) -> int: ...

    def __getitem__(self, frames: slice) -> SceneFrames: ...


@runtime_checkable
class Dataset(Protocol):
    """Scenes of frames with cameras, depth and instances, under named splits.

    Write your own in a file, say ``my_rooms.py``; its name is ``my_rooms:MyRooms`` wherever a data set is named::

        class MyRooms:
            class_names = ("wall", "floor", "chair", "other")

            def __init__(self, root):
                self.files = sorted(Path(root).glob("*.npz"))
                first = len(self.files) * 9 // 10
                self.splits = {"train": range(first), "val": range(first, len(self.files))}

            def __len__(self):
                return len(self.files)

            def __getitem__(self, index):
                arrays = dict(np.load(self.files[index]))
                classes = dict(enumerate(arrays.pop("class_of_id").tolist()))
                return SceneFrames(name=self.files[index].stem, instance_classes=classes, **arrays)

    Training draws from "train" and watches "val" (or "test"); `evaluate` measures "test" (or "val"). `open_dataset`
    passes the constructor those of `root`, `num_frames` and `size` that are among its parameters, and the user's
    options by name.
    """

    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def splits(self) -> Mapping[str, Sequence[int]]: ...  # noqa: D102

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> FrameSequence: ...


def open_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    num_frames: int = 8,
    size: int = 128,
    options: Mapping[str, Any] | None = None,
) -> Dataset:
    """Open a data set.

    Args:
        name: A key of `DATASETS`, or ``package.module:Class``.
        root: Its folder.
        num_frames: Frames of a scene, for data sets that generate them.
        size: Side of the square images, likewise.
        options: Further arguments of the data set's own.

    Raises:
        UserError: No such data set or option, no folder where one is needed, or damaged files.

    Example:
        >>> from tokengroups.data.base import open_dataset
        >>> rooms = open_dataset("procedural", num_frames=3, size=32, options={"num_rooms": 4})
        >>> {name: len(scenes) for name, scenes in rooms.splits.items()}["train"]
        4
        >>> frames = rooms[rooms.splits["train"][0]][:]
        >>> frames.images.shape, frames.depth.shape
        ((3, 32, 32, 3), (3, 32, 32))
    """
    create = resolve(name, DATASETS, "data set")
    parameters = inspect.signature(create).parameters
    offered = {"root": root, "num_frames": num_frames, "size": size}
    values = {key: value for key, value in offered.items() if key in parameters} | dict(options or {})
    if "root" in parameters and root is None and parameters["root"].default is inspect.Parameter.empty:
        raise UserError(f"data set {name}: it needs its folder; set root")
    if not isinstance(values.get("root", ""), (str, os.PathLike, type(None))):
        raise UserError(f"data set {name}: root must be the name of a folder, got {shown(repr(values['root']))}")
    if isinstance(create, type) and dataclasses.is_dataclass(create):
        dataset = build_config(create, values, f"data set {name}")
    else:
        unknown = [key for key in values if key not in parameters]
        if unknown:
            raise UserError(f"data set {name}: it has no option '{unknown[0]}'; it takes {', '.join(parameters)}")
        dataset = create(**values)
    if not isinstance(dataset, Dataset):
        missing = [m for m in ("class_names", "splits", "__len__", "__getitem__") if not hasattr(dataset, m)]
        raise UserError(f"data set {name}: its class lacks {', '.join(missing)}; see tokengroups.data.base.Dataset")
    return dataset


def choose_split(dataset: Dataset, wanted: Sequence[str]) -> str:
    """Choose the first of the `wanted` splits that has a scene.

    Raises:
        UserError: None of them has one.
    """
    found = next((name for name in wanted if len(dataset.splits.get(name, ())) > 0), None)
    if found is None:
        has = ", ".join(f"{name} ({len(scenes)})" for name, scenes in dataset.splits.items()) or "none"
        raise UserError(f"the data set has no scene in the split {' or '.join(wanted)}; its splits are: {has}")
    return found
