"""Scenes from 3DGS PLY files that other programs, or `tokengroups export`, wrote."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import concatenate, select
from tokengroups.io.cameras import load_cameras
from tokengroups.io.ply import gaussians_from_vertices, load_ply, read_vertices, valid_vertices
from tokengroups.scene.default_camera import guess_camera
from tokengroups.scene.group_file import GroupEntry, GroupList
from tokengroups.scene.sidecars import CAMERAS_FILE, locate_groups
from tokengroups.scene.views import select_cameras
from tokengroups.types import Cameras, Gaussians, Semantics, TokenScene

MAX_CAMERAS = 16  # the cameras.json of a 3DGS training has hundreds; evenly spaced ones do as context views


@dataclass(frozen=True)
class ImportedScene:
    """A scene made from PLY files, and what the user should know about it."""

    scene: TokenScene
    notes: tuple[str, ...]


def import_scene(
    source: str | os.PathLike[str],
    *,
    fov_degrees: float | None = None,
    size: int | None = None,
    drop_invalid: bool = False,
) -> ImportedScene:
    """Read a 3DGS PLY, or a folder with one PLY per group, as a scene.

    Groups come from ``groups.json`` (ours) or ``meta.json`` (InsTok3D's) beside the files, else every file is
    a group. Assignments are one-hot. Groups whose anchors are unknown get one anchor each. Embeddings in
    ``groups.json`` become semantics without residuals.

    Args:
        source: PLY file, folder of PLY files, or a folder whose only subfolder with PLY files holds them.
        fov_degrees: Field of view of the camera made where there is no ``cameras.json``; None = guessed.
        size: Its picture's side in pixels; None = 256.
        drop_invalid: Leave out Gaussians with NaN, infinite values or zero quaternions instead of refusing.

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
    found = locate_groups(Path(source))
    folder, entries = found.folder, found.groups.groups
    files = {entry.file: _read(folder / entry.file, drop_invalid) for entry in entries}
    groups = [_group(folder, entry, *files[entry.file]) for entry in entries]
    kept = [(entry, group) for entry, group in zip(entries, groups, strict=True) if len(group[1])]
    if not kept:
        raise UserError(f"{source}: no valid Gaussian in it")
    notes = [
        f"{file}: left out {int((~valid).sum())} invalid Gaussians"
        for file, (_, valid) in files.items()
        if not bool(valid.all())
    ]
    gaussians = concatenate([part for _, (part, _) in kept])
    cameras = _cameras(folder, gaussians, fov_degrees, size, notes)
    provenance = {"imported_from": Path(source).resolve().name, "files": list(files), "notes": list(notes)}
    scene = _assemble(kept, gaussians, cameras, provenance)
    semantics = _semantics(found.groups, [entry for entry, _ in kept], len(scene.anchors))
    return ImportedScene(replace(scene, semantics=semantics), tuple(notes))


def _read(path: Path, drop_invalid: bool) -> tuple[Gaussians, Tensor]:
    """Gaussians of a file and which of them are valid."""
    if not drop_invalid:
        gaussians = load_ply(path)
        return gaussians, torch.ones(len(gaussians.means), dtype=torch.bool)
    vertices = read_vertices(path)
    return gaussians_from_vertices(vertices), torch.from_numpy(valid_vertices(vertices))


def _group(folder: Path, entry: GroupEntry, whole: Gaussians, valid: Tensor) -> tuple[Gaussians, Tensor]:
    """Valid Gaussians of one group and their anchors, numbered from 0 without gaps."""
    available = len(valid) - entry.first
    count = available if entry.count is None else entry.count
    if not 0 <= entry.first <= entry.first + count <= len(valid):
        asked = f"group {entry.id} asks for {count} from number {entry.first}"
        raise UserError(f"{folder / entry.file}: it holds {len(valid)} Gaussians, but {asked}; correct the sidecar")
    anchors = _anchor_numbers(folder, entry, count)
    window = slice(entry.first, entry.first + count)
    keep = valid[window]
    part = select(whole.map(lambda values: values[window]), keep)
    return part, anchors[keep].unique(return_inverse=True)[1]


def _anchor_numbers(folder: Path, entry: GroupEntry, count: int) -> Tensor:
    sizes = entry.anchor_sizes
    if sizes is None:
        return torch.zeros(count, dtype=torch.int64)
    if isinstance(sizes, int):
        sizes = [sizes] * (count // max(sizes, 1))
    if sum(sizes) != count or min(sizes, default=1) < 1:
        raise UserError(f"{folder}: anchor_sizes of group {entry.id} do not add up to its {count} Gaussians")
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.int64))


def _cameras(folder: Path, gaussians: Gaussians, fov: float | None, size: int | None, notes: list[str]) -> Cameras:
    """The cameras beside the files, else a guessed one; adds to the notes."""
    path = folder / CAMERAS_FILE
    if not path.is_file():
        camera, note = guess_camera(gaussians, fov, size)
        notes.append(note)
        return camera
    cameras = load_cameras(path)
    total = len(cameras.intrinsics)
    if total <= MAX_CAMERAS:
        return cameras
    notes.append(f"{CAMERAS_FILE}: {MAX_CAMERAS} of {total} cameras taken as context views, evenly spaced")
    return select_cameras(cameras, [round(i) for i in np.linspace(0, total - 1, MAX_CAMERAS)])


def _assemble(
    kept: list[tuple[GroupEntry, tuple[Gaussians, Tensor]]],
    gaussians: Gaussians,
    cameras: Cameras,
    provenance: dict[str, object],
) -> TokenScene:
    anchor_counts = torch.tensor([int(numbers.max()) + 1 for _, (_, numbers) in kept])
    offsets = (anchor_counts.cumsum(0) - anchor_counts).tolist()
    numbered = zip(offsets, kept, strict=True)
    anchor_ids = torch.cat([numbers + offset for offset, (_, (_, numbers)) in numbered])
    columns = torch.repeat_interleave(torch.arange(len(kept)), anchor_counts)
    sums = torch.zeros(len(columns), 3).double().index_add(0, anchor_ids, gaussians.means.double())
    names = tuple(entry.name for entry, _ in kept)
    return TokenScene(
        gaussians=gaussians,
        anchor_ids=anchor_ids,
        anchors=(sums / torch.bincount(anchor_ids)[:, None]).float(),
        assignment=torch.nn.functional.one_hot(columns, len(kept)).float(),
        group_ids=torch.tensor([entry.id for entry, _ in kept]),
        group_tokens=torch.zeros(len(kept), 0),
        cameras=cameras,
        group_names=names if any(names) else (),
        provenance=provenance,
    )


def _semantics(groups: GroupList, kept: list[GroupEntry], num_anchors: int) -> Semantics | None:
    """What the sidecar says about meaning; lengths are 1 again after rounding, 0 = unknown stays 0."""
    if groups.text_encoder is None:
        return None
    embeddings = torch.nn.functional.normalize(torch.tensor([entry.embedding for entry in kept]), dim=1)
    return Semantics(
        embeddings=embeddings,
        residuals=torch.zeros(num_anchors, 0),
        projection=torch.zeros(embeddings.shape[1], 0),
        calibration=torch.tensor(groups.calibration),
        encoder=groups.text_encoder,
    )
