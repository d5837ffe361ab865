"""Import of scenes from files of splats, plain PLY or packed, that other programs or `tokengroups export` wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import concatenate, faults, select
from tokengroups.geometry import rigid
from tokengroups.io.cameras import load_cameras
from tokengroups.io.ply import MEANS, check_gaussians, gaussians_from_vertices, positions, read_vertices
from tokengroups.io.splats import find_format
from tokengroups.reading import path_kind, shown
from tokengroups.scene.consistency import scene_fault
from tokengroups.scene.default_camera import guess_camera
from tokengroups.scene.group_file import CAMERAS_FILE, GroupEntry, GroupList, locate_groups
from tokengroups.scene.views import select_cameras
from tokengroups.types import Cameras, Gaussians, Semantics, TokenScene

MAX_PROBABILITIES = 2**28  # of anchors and groups: 1 GiB
MAX_CAMERAS = 16  # the cameras.json of a 3DGS training has hundreds; evenly spaced ones do as context views
_SIZE_PX = 256  # picture of the camera of a scene that comes without any
_ROUNDED = 1e-5  # of the scene's spread: positions that float32 would shift by more are stored about another origin


@dataclass(frozen=True)
class ImportedScene:
    """A scene made from files of splats, with notes for the user."""

    scene: TokenScene
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """One group in the making."""

    entry: GroupEntry
    gaussians: Gaussians
    anchors: Tensor  # of each Gaussian, numbered from 0 without gaps


def import_scene(
    source: str | os.PathLike[str],
    *,
    fov_degrees: float | None = None,
    size: int | None = None,
    drop_invalid: bool = False,
) -> ImportedScene:
    """Read a file of splats, or a folder with one per group, as a scene.

    Files are 3DGS PLY (see `io.ply`) or packed (see `io.splats`). Groups come from ``groups.json`` (ours) or
    ``meta.json`` (InsTok3D's) beside the files, else every file is a group. Assignments are one-hot. Groups whose
    anchors are unknown get one anchor each. Embeddings in ``groups.json`` become semantics without residuals.

    Args:
        source: File, folder of files, or a folder whose only subfolder with such files holds them. Packed files in a
            folder count where it holds no PLY.
        fov_degrees: Field of view of the camera made where there is no ``cameras.json``; None = guessed.
        size: Its picture's side in pixels; None = 256.
        drop_invalid: Leave out Gaussians with NaN, values out of range or zero quaternions instead of refusing.

    Raises:
        UserError: Nothing to read there, a damaged file, or sidecars that do not fit the files.

    Example:
        >>> import tempfile
        >>> import tokengroups as tg
        >>> from tokengroups.scene import export_scene, import_scene
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_scene(tg.example_scene(), f"{folder}/scene.ply")[0].name
        ...     imported = import_scene(f"{folder}/scene.ply")
        'scene.ply'
        >>> imported.scene.group_names
        ('floor', 'box', 'ball')
    """
    folder, groups = locate_groups(Path(source))
    contents = {file: _read(folder / file) for file in dict.fromkeys(entry.file for entry in groups.groups)}
    _check_places(folder, groups, {file: _length(content) for file, content in contents.items()})
    origin = _origin([content for content in contents.values() if isinstance(content, np.ndarray)])
    files = {file: _convert(folder / file, content, origin, drop_invalid) for file, content in contents.items()}
    parts = [_part(folder, entry, *files[entry.file]) for entry in groups.groups]
    parts = [part for part in parts if len(part.anchors)]
    if not parts:
        raise UserError(f"{shown(source)}: no valid Gaussian in it")
    num_anchors = sum(int(part.anchors.max()) + 1 for part in parts)
    if num_anchors * len(parts) > MAX_PROBABILITIES:
        what = f"{num_anchors:,} anchors in {len(parts):,} groups are too many: a scene has a probability of each pair"
        raise UserError(f"{shown(source)}: {what}; without anchor_sizes in its sidecar each group becomes one anchor")
    left_out = {file: int((~valid).sum()) for file, (_, valid) in files.items()}
    notes = [f"{shown(file)}: left out {count} invalid Gaussians" for file, count in left_out.items() if count]
    if origin is not None:
        place = " ".join(f"{value:.10g}" for value in origin)
        notes.append(f"far from the origin for single precision: moved so that {place} is the origin (see provenance)")
    gaussians = concatenate([part.gaussians for part in parts])
    cameras = _cameras(folder, gaussians, origin, fov_degrees, size or _SIZE_PX, notes)
    provenance = {"imported_from": Path(source).resolve().name, "files": list(files), "notes": notes}
    if origin is not None:
        provenance["world_from_scene"] = rigid(torch.eye(3, dtype=torch.float64), torch.from_numpy(origin)).tolist()
    scene = _assemble(parts, gaussians, cameras, provenance, groups)
    fault = scene_fault(scene)
    if fault:
        raise UserError(f"{shown(source)}: cannot become a scene: {shown(fault)}; correct its files")
    return ImportedScene(scene, tuple(notes))


def _read(path: Path) -> np.ndarray | Gaussians:
    """Vertices of a plain PLY, whose positions may be in double precision; Gaussians of a packed file."""
    load = find_format(path)
    return read_vertices(path) if load is None else load(path)


def _length(content: np.ndarray | Gaussians) -> int:
    return len(content) if isinstance(content, np.ndarray) else len(content.means)


def _origin(tables: list[np.ndarray]) -> Float64[np.ndarray, "3"] | None:
    """Median position, if float32 would round the positions of double precision visibly; else None.

    Medians, because few Gaussians that are far away are always rounded visibly.
    """
    if not any(table.dtype[name].itemsize > np.dtype(np.float32).itemsize for table in tables for name in MEANS):
        return None
    means = np.concatenate([positions(table) for table in tables])
    means = means[(np.abs(means) < np.finfo(np.float32).max).all(axis=1)]
    if not len(means):
        return None
    middle = np.median(means, axis=0)
    spread = np.median(np.abs(means - middle).max(axis=1))
    error = np.median(np.abs(means - means.astype(np.float32)).max(axis=1))
    return middle if error > _ROUNDED * spread else None


def _convert(
    path: Path, content: np.ndarray | Gaussians, origin: Float64[np.ndarray, "3"] | None, drop_invalid: bool
) -> tuple[Gaussians, Tensor]:
    """Gaussians of a file and a mask of the valid ones."""
    if isinstance(content, np.ndarray):
        gaussians = gaussians_from_vertices(content, origin)
    else:
        shift = torch.zeros(3) if origin is None else torch.from_numpy(origin)
        gaussians = replace(content, means=(content.means - shift).float())
    if not drop_invalid:
        check_gaussians(path, gaussians)
    return gaussians, ~torch.stack(list(faults(gaussians).values())).any(dim=0)


def _check_places(folder: Path, groups: GroupList, lengths: Mapping[str, int]) -> None:
    """Refuse groups that lie outside of their files or share Gaussians."""
    taken = dict.fromkeys(lengths, 0)
    for entry in groups.groups:
        available = lengths[entry.file]
        count = available - entry.first if entry.count is None else entry.count
        if not 0 <= entry.first <= entry.first + count <= available:
            asked = f"group {entry.id} asks for {count} from number {entry.first}"
            where = shown(folder / entry.file)
            raise UserError(f"{where}: it holds {available} Gaussians, but {asked}; correct the sidecar")
        taken[entry.file] += count
        if taken[entry.file] > available:
            where = shown(folder / entry.file)
            raise UserError(f"{where}: its groups share Gaussians, group {entry.id} for one; correct the sidecar")


def _cameras(
    folder: Path,
    gaussians: Gaussians,
    origin: Float64[np.ndarray, "3"] | None,
    fov_degrees: float | None,
    size: int,
    notes: list[str],
) -> Cameras:
    """Cameras beside the files, at most `MAX_CAMERAS`, else one that sees the scene; adds notes on the choice."""
    if path_kind(folder / CAMERAS_FILE) == "missing":
        cameras, note = guess_camera(gaussians, fov_degrees, size)
        notes.append(note)
        return cameras
    cameras = load_cameras(folder / CAMERAS_FILE, torch.float64)
    total = len(cameras.intrinsics)
    if total > MAX_CAMERAS:
        notes.append(f"{CAMERAS_FILE}: {MAX_CAMERAS} of {total} cameras taken as context views, evenly spaced")
        cameras = select_cameras(cameras, [round(i) for i in np.linspace(0, total - 1, MAX_CAMERAS)])
    if origin is not None:
        poses = cameras.cam_from_world
        moved = poses[:, :3, :3] @ torch.from_numpy(origin) + poses[:, :3, 3]
        cameras = replace(cameras, cam_from_world=rigid(poses[:, :3, :3], moved))
    return cameras.to(torch.float32)


def _part(folder: Path, entry: GroupEntry, whole: Gaussians, valid: Tensor) -> _Part:
    """Take the valid Gaussians of one group out of those of its file."""
    count = len(valid) - entry.first if entry.count is None else entry.count
    sizes = entry.anchor_sizes if entry.anchor_sizes is not None else max(count, 1)  # unknown: one anchor
    if isinstance(sizes, int):
        sizes = [sizes] * (count // max(sizes, 1))
    if sum(sizes) != count or min(sizes, default=1) < 1:
        raise UserError(f"{shown(folder)}: anchor_sizes of group {entry.id} do not add up to its {count} Gaussians")
    anchors = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.int64))
    window = slice(entry.first, entry.first + count)
    keep = valid[window]
    part = select(whole.map(lambda values: values[window]), keep)
    return _Part(entry, part, anchors[keep].unique(return_inverse=True)[1])


def _assemble(
    parts: list[_Part], gaussians: Gaussians, cameras: Cameras, provenance: dict[str, Any], groups: GroupList
) -> TokenScene:
    counts = torch.tensor([int(part.anchors.max()) + 1 for part in parts])
    offsets = (counts.cumsum(0) - counts).tolist()
    anchor_ids = torch.cat([part.anchors + offset for part, offset in zip(parts, offsets, strict=True)])
    columns = torch.repeat_interleave(torch.arange(len(parts)), counts)
    sums = torch.zeros(len(columns), 3).double().index_add(0, anchor_ids, gaussians.means.double())
    names, semantics = tuple(part.entry.name for part in parts), None
    if groups.text_encoder is not None:
        embeddings = torch.tensor([part.entry.embedding for part in parts])  # rounded: their length is nearly 1 or 0
        embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        residuals, projection = torch.zeros(len(columns), 0), torch.zeros(embeddings.shape[1], 0)
        calibration = torch.tensor(groups.calibration)
        semantics = Semantics(embeddings, residuals, projection, calibration, groups.text_encoder)
    scores = [part.entry.score or 0.0 for part in parts]
    return TokenScene(
        gaussians=gaussians,
        anchor_ids=anchor_ids,
        anchors=(sums / torch.bincount(anchor_ids)[:, None]).float(),
        assignment=torch.zeros(len(columns), len(parts)).scatter_(1, columns[:, None], 1.0),
        group_ids=torch.tensor([part.entry.id for part in parts]),
        group_tokens=torch.zeros(len(parts), 0),
        cameras=cameras,
        group_names=names if any(names) else (),
        provenance=provenance,
        semantics=semantics,
        group_scores=torch.tensor(scores) if any(scores) else None,
    )
