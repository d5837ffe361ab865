"""What the scenes of InsScene-15K's three parts share (see `insscene`)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from tokengroups.data.readers.insscene_files import ADVICE, NO_CAMERA, Shortfall
from tokengroups.errors import UserError
from tokengroups.io.pixels import pixel_size, read_pixels, resize_nearest
from tokengroups.io.posed_cameras import check_pinhole, check_pose
from tokengroups.types import SceneFrames

_SAME_ASPECT = 0.02


@dataclass(frozen=True)
class Frame:
    """Files and camera of one frame."""

    name: str
    photo: Path
    world_from_cam: np.ndarray
    pinhole: np.ndarray  # [3, 3], our pixel centres
    depth: Path | None
    ids: Path | None
    index: int = 0  # in the scene's masks, where one file holds all


class InsSceneScene(ABC):
    """One scene, whose frames are read when it is sliced. Frames that lack a part or do not fit are left out.

    Raises:
        UserError: When its frames are asked for: too many are left out, or a file is damaged.
    """

    FOLDER: ClassVar[str]  # of the part
    DEPTH: ClassVar[int]  # folders from that to a scene
    MARK: ClassVar[str]  # what only this part's scenes have
    NEEDS: ClassVar[Sequence[str]]

    def __init__(self, folder: Path, part_folder: Path, skip_limit: float) -> None:
        self.folder, self.part_folder, self.skip_limit = folder, part_folder, skip_limit
        self.room = folder if self.DEPTH == 1 else folder.parent
        self.name = folder.name if self.DEPTH == 1 else f"{folder.parent.name}_{folder.name}"

    @classmethod
    def find(cls, root: Path) -> tuple[Path, list[Path]]:
        """The part's folder and what may be scenes in it: all folders of a named part, else those with the mark."""
        named = root / cls.FOLDER
        pattern = "/".join(["*"] * cls.DEPTH)
        if root.name == cls.FOLDER or named.is_dir():
            folder = named if named.is_dir() else root
            inside = [path for path in folder.glob(pattern) if path.is_dir()]
        else:
            folder, inside = root, [path.parent for path in root.glob(f"{pattern}/{cls.MARK}")]
        hidden = (".", "__MACOSX", "sam2_results")
        return folder, [p for p in inside if not any(part.startswith(hidden) for part in p.relative_to(folder).parts)]

    def reopened(self) -> InsSceneScene:
        """The same scene with nothing in memory."""
        return type(self)(self.folder, self.part_folder, self.skip_limit)

    def missing(self) -> str:
        """What the scene lacks as a whole; "" = nothing."""
        return next((name for name in self.NEEDS if not (self.folder / name).exists()), "")

    def trouble(self) -> str:
        """Why its frames cannot be used; "" = they can."""
        try:
            return "" if self.frames else "frames"
        except UserError as error:
            return str(error)

    @abstractmethod
    def list_frames(self, faults: Shortfall) -> Iterator[Frame]:
        """Frames in order that have all files; counts every one."""

    @abstractmethod
    def sizes(self, frame: Frame) -> list[tuple[int, int]]:
        """Sizes of the frame's depth and ids."""

    def read_depth(self, frame: Frame) -> np.ndarray | None:
        """Depth in metres, not finite or 0 where unknown; None = no depth."""
        del frame

    @abstractmethod
    def read_ids(self, frame: Frame) -> np.ndarray:
        """Ids of instances, -1 for none."""

    def classes(self, frames: list[Frame]) -> dict[int, str]:
        """Class names of ids, as far as the files have them."""
        del frames
        return {}

    @cached_property
    def _listed(self) -> tuple[list[Frame], str]:
        faults = Shortfall(str(self.folder), "frames", ADVICE)
        frames, sizes = [], {}
        for frame in self.list_frames(faults):
            lacks, size = self._fault(frame)
            faults.drop(frame.name, lacks)
            if not lacks:
                frames.append(frame)
                sizes[frame.name] = size
        usual = Counter(sizes.values()).most_common(1)[0][0] if sizes else None
        for frame in frames:
            faults.drop(frame.name, "" if sizes[frame.name] == usual else "photo of another size")
        if faults.total == 0:
            raise UserError(f"{self.folder}: no photo in it; {ADVICE}")
        return [frame for frame in frames if sizes[frame.name] == usual], faults.settle(self.skip_limit)

    def _fault(self, frame: Frame) -> tuple[str, tuple[int, int]]:
        """What does not fit in a frame ("" = all fits), and the size of its photo."""
        try:
            check_pose(frame.name, frame.world_from_cam)
            check_pinhole(frame.name, frame.pinhole, None)
        except UserError:
            return NO_CAMERA, (0, 0)
        try:
            size = pixel_size(frame.photo)
            fits = all(abs(math.log(h * size[1] / (w * size[0]))) < _SAME_ASPECT for h, w in self.sizes(frame))
        except UserError:
            return "damaged", (0, 0)
        return "" if fits else "depth or ids of another shape", size

    @property
    def frames(self) -> list[Frame]:
        """Its usable frames."""
        return self._listed[0]

    @property
    def note(self) -> str:
        """What was left out, in one line; "" = nothing, or its frames were not asked for yet."""
        return self._listed[1]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, frames: slice) -> SceneFrames:
        chosen = self.frames[frames]
        photos = [read_pixels(frame.photo) for frame in chosen]
        size = pixel_size(self.frames[0].photo)
        ids = [resize_nearest(self.read_ids(frame), size).astype(np.int32) for frame in chosen]
        poses = [np.linalg.inv(check_pose(frame.name, frame.world_from_cam)) for frame in chosen]
        for frame, photo in zip(chosen, photos, strict=True):
            if photo.shape != (*size, 3):
                raise UserError(f"{frame.photo}: no colour photo of {size[1]}x{size[0]} pixels; {ADVICE}")
        return SceneFrames(
            name=self.name,
            images=np.array(photos, np.uint8).reshape(-1, *size, 3),
            depth=np.array([self._depth(frame, size) for frame in chosen], np.float32).reshape(-1, *size),
            group_ids=np.array(ids, np.int32).reshape(-1, *size),
            cam_from_world=np.array(poses, np.float64).reshape(-1, 4, 4),
            intrinsics=np.array([frame.pinhole for frame in chosen], np.float64).reshape(-1, 3, 3),
            instance_classes=self.classes(chosen),
        )

    def _depth(self, frame: Frame, size: tuple[int, int]) -> np.ndarray:
        depth = self.read_depth(frame)
        if depth is None:
            return np.zeros(size, np.float32)
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0)
        return resize_nearest(depth.astype(np.float32), size)
