"""Scenes whose points have true instances: ScanNet's scans by their official files, and procedural rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from tokengroups.data.augment import to_views
from tokengroups.data.example import FramePlan
from tokengroups.data.procedural import ProceduralRooms
from tokengroups.data.readers.scannet import find_scenes
from tokengroups.data.readers.scannet_benchmark import ScanFrames, read_truth, truth_files
from tokengroups.data.readers.scannet_labels import (
    LABEL_FILE,
    NUMBERS,
    class_rows,
    find_label_table,
    read_label_numbers,
)
from tokengroups.errors import UserError
from tokengroups.evaluation.masks import STRUCTURE_CLASSES
from tokengroups.evaluation.scannet_instances import PointTruth
from tokengroups.evaluation.vertex_masks import Sight, visible_points
from tokengroups.geometry import world_points
from tokengroups.reading import path_kind, read_text, shown

ROOM_VOXEL_M = 0.02  # about the distance of the vertices of ScanNet's meshes


@dataclass(frozen=True)
class PointScene:
    """A scene's photos, what they truly show, and its points."""

    name: str
    frames: tuple[str, ...]
    photos: Tensor  # [V, 3, H, W] in [0, 1], whole
    depth: Callable[[int], Tensor]  # true depth [h, w] of a photo, at any resolution
    cam_from_world: Tensor  # [V, 4, 4]
    intrinsics: Tensor  # [3, 3], of the true depth
    points: Tensor  # [N, 3]
    truth: PointTruth


class Scans:
    """Scans in ScanNet's layout with the official files.

    Args:
        root: A scan, or a folder of scans.
        kind: Benchmark, which is a key of `NUMBERS`.
        names: Its classes.
        every: Distance of the frames that are used.
        listed: File with one scan's name a line; None = all scans.
    """

    def __init__(self, root: Path, kind: str, names: Sequence[str], every: int, listed: Path | None) -> None:
        self.kind, self.names, self.every = kind, tuple(names), every
        self.folders = find_scenes(root) if listed is None else _chosen(find_scenes(root), root, listed)
        for folder in self.folders:  # before hours of work
            truth_files(folder)
        self.table = find_label_table(root)
        self.numbers = None if self.table is None else read_label_numbers(self.table, NUMBERS[kind])

    def __len__(self) -> int:
        return len(self.folders)

    def notes(self) -> list[str]:
        """What a reader of the numbers must know."""
        return [] if self.table else [f"no {LABEL_FILE} here: objects count only if their label is a class's name"]

    def load(self, side: int, multiple: int) -> Iterator[PointScene]:
        """The scans one by one, with photos of a size by `photo_size`."""
        for folder in self.folders:
            read, frames = read_truth(folder), ScanFrames(folder, self.every)
            photos = torch.from_numpy(frames.photos(side, multiple))
            rows = class_rows(read.labels, self.names, NUMBERS[self.kind], self.numbers)
            yield PointScene(
                name=folder.resolve().name,
                frames=frames.stems,
                photos=rearrange(photos, "v h w c -> v c h w").float() / 255,
                depth=lambda view, frames=frames: torch.from_numpy(frames.depth(view)),
                cam_from_world=torch.from_numpy(frames.cam_from_world),
                intrinsics=torch.from_numpy(frames.intrinsics),
                points=torch.from_numpy(read.points),
                truth=PointTruth(read.instance_ids, rows, torch.from_numpy(read.segments)),
            )


class Rooms:
    """Procedural test rooms of one seed, whose points are what all frames of the walk show, one per voxel.

    As on a mesh, some points are in no photo: the photos are every second frame. There are no superpoints.

    Args:
        seed: Of the rooms.
        number: How many.
        plan: Photos and frames between them.
    """

    names = ProceduralRooms.class_names
    table = None

    def __init__(self, seed: int, number: int, plan: FramePlan) -> None:
        self.seed, self.number, self.plan = seed, number, plan

    def __len__(self) -> int:
        return self.number

    def notes(self) -> list[str]:
        """Nothing."""
        return []

    def load(self, side: int, multiple: int) -> Iterator[PointScene]:
        """The rooms one by one, with square photos."""
        size = max(round(side / multiple), 1) * multiple
        length = self.plan.span.stop
        data = ProceduralRooms(None, num_frames=length, size=size, seeds=(self.seed,), num_rooms=self.number)
        for index in data.splits["test"]:
            frames = data[index]
            views = to_views(frames, range(0, length, self.plan.frame_step))
            poses, depth = views.cameras.cam_from_world.double(), views.depth
            points = world_points(depth.double(), poses, views.cameras.intrinsics.double())
            points, ids = _one_per_voxel(points[depth > 0], views.group_ids[depth > 0])
            photos = list(range(1, self.plan.length, 2))
            rows = {i: self.names.index(name) for i, name in frames.instance_classes.items()}
            walls = {i for i, name in frames.instance_classes.items() if name in STRUCTURE_CLASSES}
            yield PointScene(
                name=frames.name,
                frames=tuple(map(str, self.plan.context)),
                photos=views.images[photos],
                depth=lambda view, maps=depth[photos]: maps[view],
                cam_from_world=poses[photos],
                intrinsics=views.cameras.intrinsics[0].double(),
                points=points,
                truth=PointTruth(ids.numpy(), rows, structure=frozenset(walls)),
            )


def see_points(scene: PointScene, device: torch.device) -> list[Sight]:
    """The visible points of every photo, one depth map at a time.

    Raises:
        UserError: There are none at all.
    """
    sights = [
        visible_points(scene.points, cam_from_world, scene.intrinsics, scene.depth(view)).to(device)
        for view, cam_from_world in enumerate(scene.cam_from_world)
    ]
    if not any(len(sight.points) for sight in sights):
        raise UserError(f"{scene.name}: no photo shows any of its points; are mesh, depth and poses of one scan?")
    return sights


def _one_per_voxel(points: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The first point in every voxel."""
    _, first = np.unique(torch.floor(points / ROOM_VOXEL_M).long().numpy(), axis=0, return_index=True)
    chosen = torch.from_numpy(np.sort(first))
    return points[chosen], ids[chosen]


def _chosen(folders: Sequence[Path], root: Path, listed: Path) -> list[Path]:
    """The scans that a file names, in its order."""
    names = read_text(listed, "give a text file with one scan's name a line").split()
    by_name = {folder.resolve().name: folder for folder in folders}
    missing = [name for name in names if name not in by_name]
    if missing or not names:
        what = f"{shown(missing[0])} is no scan in {shown(root)}" if missing else "no name in it"
        raise UserError(f"{shown(listed)}: {what}; give one scan's name a line")
    return [by_name[name] for name in dict.fromkeys(names)]


def check_root(root: Path) -> None:
    """Refuse what is no folder."""
    if path_kind(root) != "folder":
        raise UserError(f"--root {shown(root)}: no such folder; give a scan or a folder of scans")
