"""Import of scenes from 3DGS PLY files that other programs, or `tokengroups export`, wrote."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import concatenate, select
from tokengroups.geometry import rigid
from tokengroups.io.cameras import load_cameras
from tokengroups.io.ply import gaussians_from_vertices, load_ply, read_vertices, valid_vertices
from tokengroups.scene.group_file import CAMERAS_FILE, GroupEntry, GroupList, locate_groups
from tokengroups.scene.quantiles import weighted_quantile
from tokengroups.scene.views import select_cameras
from tokengroups.types import Cameras, Gaussians, Semantics, TokenScene

MAX_CAMERAS = 16  # the cameras.json of a 3DGS training has hundreds; evenly spaced ones do as context views

# Camera of a scene that comes without any.
_SIZE_PX = 256
_FIELD_LIMITS_DEG = (40.0, 90.0)
_FIELD_SHARE = 0.8  # the guessed field of view holds this share of the opacity in front of the camera
_FRONT_SHARE = 0.8  # so much of it in front of the origin means that the world is a camera's
_NEAR = 0.05
_OUTSIDE_FIELD_DEG = 60.0


@dataclass(frozen=True)
class ImportedScene:
    """A scene made from PLY files, with notes for the user."""

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
    folder, groups = locate_groups(Path(source))
    names = dict.fromkeys(entry.file for entry in groups.groups)  # many groups may be in one file
    files = {name: _read(folder / name, drop_invalid) for name in names}
    parts = [_part(folder, entry, *files[entry.file]) for entry in groups.groups]
    parts = [part for part in parts if len(part.anchors)]
    if not parts:
        raise UserError(f"{source}: no valid Gaussian in it")
    left_out = {file: int((~valid).sum()) for file, (_, valid) in files.items()}
    notes = [f"{file}: left out {count} invalid Gaussians" for file, count in left_out.items() if count]
    gaussians = concatenate([part.gaussians for part in parts])
    if (folder / CAMERAS_FILE).is_file():
        cameras = load_cameras(folder / CAMERAS_FILE)
        total = len(cameras.intrinsics)
        if total > MAX_CAMERAS:
            notes.append(f"{CAMERAS_FILE}: {MAX_CAMERAS} of {total} cameras taken as context views, evenly spaced")
            cameras = select_cameras(cameras, [round(i) for i in np.linspace(0, total - 1, MAX_CAMERAS)])
    else:
        cameras, note = _guess_camera(gaussians, fov_degrees, size or _SIZE_PX)
        notes.append(note)
    provenance = {"imported_from": Path(source).resolve().name, "files": list(files), "notes": notes}
    return ImportedScene(_assemble(parts, gaussians, cameras, provenance, groups), tuple(notes))


def _read(path: Path, drop_invalid: bool) -> tuple[Gaussians, Tensor]:
    """Gaussians of a file and a mask of the valid ones."""
    if not drop_invalid:
        gaussians = load_ply(path)
        return gaussians, torch.ones(len(gaussians.means), dtype=torch.bool)
    vertices = read_vertices(path)
    return gaussians_from_vertices(vertices), torch.from_numpy(valid_vertices(vertices))


def _part(folder: Path, entry: GroupEntry, whole: Gaussians, valid: Tensor) -> _Part:
    """Take the valid Gaussians of one group out of those of its file."""
    available = len(valid) - entry.first
    count = available if entry.count is None else entry.count
    if not 0 <= entry.first <= entry.first + count <= len(valid):
        asked = f"group {entry.id} asks for {count} from number {entry.first}"
        raise UserError(f"{folder / entry.file}: it holds {len(valid)} Gaussians, but {asked}; correct the sidecar")
    sizes = entry.anchor_sizes if entry.anchor_sizes is not None else max(count, 1)  # unknown: one anchor
    if isinstance(sizes, int):
        sizes = [sizes] * (count // max(sizes, 1))
    if sum(sizes) != count or min(sizes, default=1) < 1:
        raise UserError(f"{folder}: anchor_sizes of group {entry.id} do not add up to its {count} Gaussians")
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
    )


def _guess_camera(gaussians: Gaussians, fov_degrees: float | None, size: int) -> tuple[Cameras, str]:
    """Make one square camera; returns it with a note on how it was chosen.

    If nearly all lies in front of the origin (z > 0), the world is taken for a camera's own frame: identity
    pose. Otherwise the camera stands outside, looks along +z, and frames the middle of the scene.
    """
    means, weights = gaussians.means.double(), gaussians.opacities.double().clamp(min=1e-9)
    front = means[:, 2] > _NEAR
    if weights[front].sum() >= _FRONT_SHARE * weights.sum():
        slopes = (means[front, :2] / means[front, 2:]).abs().amax(dim=1, keepdim=True)
        slope = float(weighted_quantile(slopes, weights[front], _FIELD_SHARE)[0])
        low, high = _FIELD_LIMITS_DEG
        guess = min(max(math.degrees(2 * math.atan(slope)), low), high)
        eye, where = torch.zeros(3, dtype=torch.float64), "at the origin of the world"
    else:
        centre = weighted_quantile(means, weights, 0.5)
        distances = (means - centre).norm(dim=1, keepdim=True)
        radius = float(weighted_quantile(distances, weights, _FIELD_SHARE)[0])
        guess = _OUTSIDE_FIELD_DEG
        eye = centre - torch.tensor([0.0, 0.0, 2 * radius], dtype=torch.float64)
        where = "outside of the scene, looking along +z"
    fov = fov_degrees or guess
    focal_px = size / 2 / math.tan(math.radians(fov) / 2)
    pinhole = torch.tensor([[focal_px, 0, size / 2], [0, focal_px, size / 2], [0, 0, 1.0]])
    pose = rigid(torch.eye(3, dtype=torch.float64), -eye).float()
    source = "given" if fov_degrees else "guessed"
    note = f"no cameras.json: one camera {where}, {fov:.0f} degrees wide ({source}), {size}x{size} pixels"
    return Cameras(pose[None], pinhole[None], (size, size)), note
