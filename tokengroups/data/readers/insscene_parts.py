"""The three parts of InsScene-15K (see `insscene`): which files a scene has, and their content.

All poses are camera-to-world with OpenCV's axes. Where the first pixel's centre lies differs: ScanNet++'s intrinsics
follow OpenCV's (0, 0), as the loaders that they were made for unproject pixel indices; those of Infinigen (Blender: the
middle is W / 2) and RealEstate10K (shares of the width) are ours, (0.5, 0.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from tokengroups.data.instance_masks import decode_rle, paint
from tokengroups.data.readers.insscene_files import (
    ADVICE,
    NO_CAMERA,
    Shortfall,
    array_shape,
    by_number,
    read_array,
    read_arrays,
    read_camera,
)
from tokengroups.data.readers.insscene_scene import Frame, InsSceneScene
from tokengroups.errors import UserError
from tokengroups.io.pixels import pixel_size, read_pixels
from tokengroups.reading import malformed, read_json

MILLIMETRES = 1000
FAR = 500.0  # metres; beyond it Infinigen's depth is sky
_SHELL = re.compile(r"\.(wall|floor|ceiling|exterior)$")


class ScannetppScene(InsSceneScene):
    """A scan: ``images/frame_N.jpg``, depth in millimetres, ids at image size (npy) and at a higher resolution (png).

    ``scene_iphone_metadata.npz`` also has rows of DSLR photos (DSC*), before the others: rows are found by name.
    """

    FOLDER, DEPTH, MARK = "processed_scannetpp_v2", 1, "scene_iphone_metadata.npz"
    NEEDS: ClassVar = ("images", "depth", "refined_ins_ids", MARK)

    def list_frames(self, faults: Shortfall) -> Iterator[Frame]:
        """Frames in order of their numbers."""
        keys = ("images", "trajectories", "intrinsics")
        names, poses, pinholes = read_arrays(self.folder / self.MARK, keys, ADVICE)
        with malformed(self.folder / self.MARK, ADVICE):
            if poses.shape != (len(names), 4, 4) or pinholes.shape != (len(names), 3, 3):
                raise ValueError(f"{len(names)} names, poses {poses.shape}, intrinsics {pinholes.shape}")
            rows = {Path(str(name)).stem: row for row, name in enumerate(names)}
        for photo in by_number(self.folder.glob("images/frame_*.jpg")):
            depth = self.folder / "depth" / f"{photo.stem}.png"
            ids = self.folder / "refined_ins_ids" / f"{photo.name}.npy"
            if not ids.is_file():
                ids = ids.with_name(f"{photo.stem}.png")
            row = rows.get(photo.stem)
            lacks = next((f"no {path.parent.name}" for path in (depth, ids) if not path.is_file()), "")
            if faults.count(photo.stem, NO_CAMERA if row is None else lacks) or row is None:
                continue
            pinhole = np.asarray(pinholes[row], np.float64) + [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
            yield Frame(photo.stem, photo, poses[row], pinhole, depth, ids)

    def sizes(self, frame: Frame) -> list[tuple[int, int]]:
        """Sizes of the frame's depth and ids."""
        assert frame.depth is not None and frame.ids is not None
        ids = array_shape(frame.ids, ADVICE) if frame.ids.suffix == ".npy" else pixel_size(frame.ids)
        return [pixel_size(frame.depth), ids]

    def read_depth(self, frame: Frame) -> np.ndarray:
        """Depth in metres."""
        assert frame.depth is not None
        return read_pixels(frame.depth).astype(np.float64) / MILLIMETRES

    def read_ids(self, frame: Frame) -> np.ndarray:
        """Ids of ScanNet++'s objects, -1 for none; those above 32,767 come as negative int16."""
        assert frame.ids is not None
        if frame.ids.suffix == ".npy":
            values = read_array(frame.ids, ADVICE).astype(np.int64) & 0xFFFF
        else:
            values = read_pixels(frame.ids).astype(np.int64)
        return np.where(values == 0, -1, values)


class InfinigenScene(InsSceneScene):
    """Views of a synthetic house, independent of each other; file names have the frame's number without zeros."""

    FOLDER, DEPTH, MARK = "processed_infinigen", 2, "frames"
    KINDS: ClassVar = {"Image": "png", "Depth": "npy", "ObjectSegmentation": "npy", "Objects": "json", "camview": "npz"}
    NEEDS: ClassVar = tuple(f"frames/{kind}/camera_0" for kind in KINDS)

    def file(self, kind: str, number: str) -> Path:
        """One file of a frame."""
        return self.folder / "frames" / kind / "camera_0" / f"{kind}_{number}_0001_0.{self.KINDS[kind]}"

    def list_frames(self, faults: Shortfall) -> Iterator[Frame]:
        """Frames in order of their numbers."""
        for photo in by_number(self.folder.glob("frames/Image/camera_0/Image_*_0001_0.png"), r"Image_(\d+)_"):
            number = photo.name.split("_")[1]
            files = {kind: self.file(kind, number) for kind in self.KINDS}
            lacks = next((f"no {kind}" for kind, path in files.items() if not path.is_file()), "")
            camera = None if lacks else read_camera(files["camview"], "T", "K")
            if faults.count(number, lacks or NO_CAMERA * (camera is None)) or camera is None:
                continue
            yield Frame(number, photo, *camera, files["Depth"], files["ObjectSegmentation"])

    def sizes(self, frame: Frame) -> list[tuple[int, int]]:
        """Sizes of the frame's depth and ids."""
        return [array_shape(path, ADVICE) for path in (frame.depth, frame.ids) if path is not None]

    def read_depth(self, frame: Frame) -> np.ndarray:
        """Depth in metres; the sky is unknown."""
        assert frame.depth is not None
        depth = read_array(frame.depth, ADVICE).astype(np.float64)
        return np.where(depth < FAR, depth, 0)

    def read_ids(self, frame: Frame) -> np.ndarray:
        """Indices of meshes; -1 for lights, cameras, anything without a name, and 0."""
        assert frame.ids is not None
        values = read_array(frame.ids, ADVICE).astype(np.int64)
        meshes = [index for index in self._objects(frame.name) if index != 0]
        return np.where(np.isin(values, meshes), values, -1)

    def classes(self, frames: list[Frame]) -> dict[int, str]:
        """Name of every mesh of these frames: of a factory its product, of a room's shell its kind."""
        named = (self._objects(frame.name) for frame in frames)
        return {index: class_of_name(name) for objects in named for index, name in objects.items()}

    def _objects(self, number: str) -> dict[int, str]:
        """Names of the meshes by index."""
        path = self.file("Objects", number)
        with malformed(path, ADVICE):
            objects = read_json(path, ADVICE).items()
            return {int(entry["object_index"]): str(name) for name, entry in objects if entry["type"] == "MESH"}


def class_of_name(name: str) -> str:
    """Class of one of Infinigen's objects.

    Example:
        >>> from tokengroups.data.readers.insscene_parts import class_of_name
        >>> class_of_name("OfficeChairFactory(5464).spawn_asset(96)"), class_of_name("living-room_0/0.wall")
        ('office chair', 'wall')
    """
    shell = _SHELL.search(name)
    if shell:
        return shell[1]
    word = re.split(r"[(./]", name)[0].removesuffix("Factory")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", word).lower() or name


class Re10kScene(InsSceneScene):
    """A video clip: ``rgb/T.png`` and ``cam/T.npz``, T a time of 8 or 9 digits; masks by frame, in order of time.

    SAM 2's masks overlap; the map of ids is painted from large to small. ``masklet_num`` counts frames, not objects:
    it is not used.
    """

    FOLDER, DEPTH, MARK = "processed_re10k", 1, "rgb"
    NEEDS: ClassVar = ("rgb", "cam")

    @property
    def masks_file(self) -> Path:
        """The clip's masks, beside the part or in it."""
        places = [folder / "sam2_results" / self.folder.name for folder in (self.part_folder, self.part_folder.parent)]
        return next((place for place in places if place.is_dir()), places[0]) / "auto_masks.json"

    def missing(self) -> str:
        """What the scene lacks as a whole."""
        return super().missing() or ("" if self.masks_file.is_file() else "auto_masks.json")

    def list_frames(self, faults: Shortfall) -> Iterator[Frame]:
        """Frames in order of time."""
        photos = by_number(self.folder.glob("rgb/*.png"))
        if len(photos) != len(self._masks):
            counts = f"{len(self._masks)} frames of masks for {len(photos)} photos"
            raise UserError(f"{self.masks_file}: {counts}, so they cannot be matched; take the scene out")
        for index, photo in enumerate(photos):
            camera = self.folder / "cam" / f"{photo.stem}.npz"
            found = read_camera(camera, "pose", "intrinsics")
            if faults.count(photo.stem, NO_CAMERA * (found is None)) or found is None:
                continue
            yield Frame(photo.stem, photo, *found, None, None, index)

    def sizes(self, frame: Frame) -> list[tuple[int, int]]:
        """Size of the frame's masks."""
        with malformed(self.masks_file, ADVICE):
            sizes = {(int(rle["size"][0]), int(rle["size"][1])) for rle in self._masks[frame.index] if rle}
            if len(sizes) > 1:
                raise ValueError(f"masks of {len(sizes)} sizes in one frame")
            return list(sizes)

    def read_ids(self, frame: Frame) -> np.ndarray:
        """Index of the object in the clip's masks, -1 for none."""
        with malformed(self.masks_file, ADVICE):
            masks = [(index, decode_rle(rle)) for index, rle in enumerate(self._masks[frame.index]) if rle]
            height, width = masks[0][1].shape if masks else pixel_size(frame.photo)
            return paint(masks, (height, width))

    @cached_property
    def _masks(self) -> list[list[dict[str, Any] | None]]:
        with malformed(self.masks_file, ADVICE):
            masklet = read_json(self.masks_file, ADVICE)["masklet"]
            frames = [list(frame) for frame in masklet]
            if not all(rle is None or isinstance(rle, dict) for frame in frames for rle in frame):
                raise TypeError("a mask is no object")
            return frames


PARTS: dict[str, type[InsSceneScene]] = {"scannetpp": ScannetppScene, "infinigen": InfinigenScene, "re10k": Re10kScene}
