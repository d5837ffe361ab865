"""Scenes as 3DGS PLY files for other programs, with sidecars that keep groups and cameras.

What a PLY cannot hold stays behind: soft group probabilities and group tokens.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from tokengroups.gaussians import select
from tokengroups.io.cameras import save_cameras
from tokengroups.io.files import check_writable, make_folder
from tokengroups.io.pictures import color_name, group_color
from tokengroups.io.ply import save_ply
from tokengroups.scene.groups import gaussian_columns, group_box, group_centre, group_name
from tokengroups.scene.sidecars import CAMERAS_FILE, GroupEntry, check_unclaimed, write_entries
from tokengroups.types import TokenScene


def export_scene(scene: TokenScene, path: str | os.PathLike[str]) -> list[Path]:
    """Write the whole scene as one PLY, ``groups.json`` and ``cameras.json`` beside it; returns the files.

    Gaussians are ordered by group, then by anchor.

    Raises:
        UserError: A file cannot be written, or the ``groups.json`` there belongs to another PLY.
    """
    path = check_writable(path)
    check_unclaimed(path.parent, [path.name])
    orders = [_members(scene, column) for column in range(len(scene.group_ids))]
    save_ply(path, select(scene.gaussians, torch.cat(orders)))
    entries, first = [], 0
    for column, order in enumerate(orders):
        entries.append(_describe(scene, column, path.name, first))
        first += len(order)
    return [path, *_write_sidecars(path.parent, scene, entries)]


def export_groups(scene: TokenScene, folder: str | os.PathLike[str]) -> list[Path]:
    """Write one PLY per group, ``group_ID.ply``, ``groups.json`` and ``cameras.json``; returns the files.

    Raises:
        UserError: A file cannot be written, or the ``groups.json`` there belongs to other PLYs.
    """
    folder = make_folder(folder)
    names = [f"group_{group_id:03d}.ply" for group_id in scene.group_ids.tolist()]
    check_unclaimed(folder, names)
    for column, name in enumerate(names):
        save_ply(folder / name, select(scene.gaussians, _members(scene, column)))
    entries = [_describe(scene, column, name, 0) for column, name in enumerate(names)]
    return [*(folder / name for name in names), *_write_sidecars(folder, scene, entries)]


def _members(scene: TokenScene, column: int) -> Tensor:
    """Indices of a group's Gaussians, anchor after anchor."""
    mine = (gaussian_columns(scene) == column).nonzero()[:, 0]
    return mine[scene.anchor_ids[mine].argsort(stable=True)]


def _describe(scene: TokenScene, column: int, file: str, first: int) -> GroupEntry:
    members = _members(scene, column)
    sizes = scene.anchor_ids[members].unique(return_counts=True)[1].tolist()
    low, high = group_box(scene, column).double()
    group_id = int(scene.group_ids[column])
    return GroupEntry(
        id=group_id,
        name=group_name(scene, column),
        file=file,
        first=first,
        count=len(members),
        anchor_sizes=sizes[0] if len(set(sizes)) == 1 else sizes,
        centre=group_centre(scene, column).tolist(),
        size=(high - low).tolist(),
        color=color_name(group_color(group_id)),
    )


def _write_sidecars(folder: Path, scene: TokenScene, entries: list[GroupEntry]) -> list[Path]:
    cameras = folder / CAMERAS_FILE
    save_cameras(cameras, scene.cameras)
    return [write_entries(folder, entries), cameras]
