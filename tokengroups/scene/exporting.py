"""Scenes as files of Gaussians for other programs, with sidecars that keep groups and cameras.

What these files cannot hold stays behind: soft group probabilities, group tokens, residuals of semantics.
An export format is one function that writes `Gaussians` to a path. Give it to `export_scene` (on the command line:
``--writer package.module:function``), or enter it in `WRITERS` under its suffix.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import select
from tokengroups.io.cameras import save_cameras
from tokengroups.io.files import check_writable, make_folder
from tokengroups.io.pictures import color_name, group_color
from tokengroups.registry import resolve
from tokengroups.scene.boxes import OrientedBox, oriented_box
from tokengroups.scene.group_file import BoxEntry, GroupEntry, GroupList, RelationEntry, write_groups
from tokengroups.scene.groups import GroupLabel, gaussian_columns, group_box, group_centre, group_name
from tokengroups.scene.layout import Relation, relations, up_direction
from tokengroups.scene.sidecars import CAMERAS_FILE, check_unclaimed
from tokengroups.scene.views import visible_shares
from tokengroups.types import Gaussians, TokenScene

Writer = Callable[[Path, Gaussians], None]  # writes the whole file or nothing: `tokengroups.io.files.atomic_path`
WRITERS = {".ply": "tokengroups.io.ply:save_ply"}  # by suffix
_DIGITS = 6  # significant ones of what is measured: float32 has no more
_TRUSTED_LABEL = 0.5  # from this probability on a label tells walls and floors from things


@dataclass(frozen=True)
class _Description:
    """What is known about the groups of a scene, by column."""

    up: Tensor
    boxes: list[OrientedBox]
    relations: list[Relation]
    visible_shares: Tensor
    labels: Sequence[GroupLabel] | None


def writer_for(path: str | os.PathLike[str], name: str = "") -> Writer:
    """Find the writer of a file: that of its suffix, or the one named by an import path.

    Raises:
        UserError: There is none.
    """
    suffix = Path(path).suffix.lower()
    if not name and suffix not in WRITERS:
        raise UserError(f"{path}: the file name must end in {' or '.join(WRITERS)}")
    return resolve(name or suffix, WRITERS, "writer")


def export_scene(
    scene: TokenScene,
    path: str | os.PathLike[str],
    labels: Sequence[GroupLabel] | None = None,
    vocabulary: Sequence[str] | None = None,
    write: Writer | None = None,
) -> list[Path]:
    """Write the whole scene as one file, ``groups.json`` and ``cameras.json`` beside it; returns the files.

    Gaussians are ordered by group, then by anchor.

    Args:
        scene: The scene.
        path: File to write.
        labels: What each group is, by column, as `tokengroups.retrieval.name_groups` says; None = not known.
        vocabulary: The names among which the labels were chosen, for the record.
        write: Writes the Gaussians; by default chosen by the suffix of `path`.

    Raises:
        UserError: A file cannot be written, or the ``groups.json`` there belongs to another file.

    Example:
        >>> import tempfile
        >>> import tokengroups as tg
        >>> from tokengroups.scene import export_scene
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in export_scene(tg.example_scene(), f"{folder}/scene.ply")]
        ['scene.ply', 'groups.json', 'cameras.json']
    """
    write = write or writer_for(path)
    path = check_writable(path)
    check_unclaimed(path.parent, [path.name])
    description = _describe(scene, labels)
    orders = [_members(scene, column) for column in range(len(scene.group_ids))]
    write(path, select(scene.gaussians, torch.cat(orders)))
    entries, first = [], 0
    for column, order in enumerate(orders):
        entries.append(_entry(scene, column, path.name, first, description))
        first += len(order)
    return [path, *_write_sidecars(path.parent, scene, entries, description, vocabulary)]


def export_groups(
    scene: TokenScene,
    folder: str | os.PathLike[str],
    labels: Sequence[GroupLabel] | None = None,
    vocabulary: Sequence[str] | None = None,
    suffix: str = ".ply",
    write: Writer | None = None,
) -> list[Path]:
    """Write one file per group, such as ``group_007.ply``, ``groups.json`` and ``cameras.json``; returns the files.

    Args:
        scene: The scene.
        folder: Folder to write, made where missing.
        labels: As in `export_scene`.
        vocabulary: As in `export_scene`.
        suffix: Ending of the files' names.
        write: Writes the Gaussians of a group; by default chosen by the suffix.

    Raises:
        UserError: A file cannot be written, or the ``groups.json`` there belongs to other files.

    Example:
        >>> import tempfile
        >>> import tokengroups as tg
        >>> from tokengroups.scene import export_groups
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in export_groups(tg.example_scene(), folder)][:2]
        ['group_001.ply', 'group_002.ply']
    """
    write = write or writer_for(f"group{suffix}")
    folder = make_folder(folder)
    names = [f"group_{group_id:03d}{suffix}" for group_id in scene.group_ids.tolist()]
    check_unclaimed(folder, names)
    description = _describe(scene, labels)
    for column, name in enumerate(names):
        write(folder / name, select(scene.gaussians, _members(scene, column)))
    entries = [_entry(scene, column, name, 0, description) for column, name in enumerate(names)]
    sidecars = _write_sidecars(folder, scene, entries, description, vocabulary)
    return [*(folder / name for name in names), *sidecars]


def _describe(scene: TokenScene, labels: Sequence[GroupLabel] | None) -> _Description:
    ids = scene.group_ids.tolist()
    if labels is not None and len(labels) != len(ids):
        raise ValueError(f"{len(labels)} labels for {len(ids)} groups")
    names = [group_name(scene, column) for column in range(len(ids))]
    if labels is not None:
        trusted = [label.name if label.probability >= _TRUSTED_LABEL else "" for label in labels]
        names = [label or name for label, name in zip(trusted, names, strict=True)]
    up = up_direction(scene)
    boxes = [oriented_box(scene, column, up) for column in range(len(ids))]
    return _Description(up, boxes, relations(boxes, ids, names), visible_shares(scene), labels)


def _members(scene: TokenScene, column: int) -> Tensor:
    """Indices of a group's Gaussians, anchor after anchor."""
    mine = (gaussian_columns(scene) == column).nonzero()[:, 0]
    return mine[scene.anchor_ids[mine].argsort(stable=True)]


def _entry(scene: TokenScene, column: int, file: str, first: int, known: _Description) -> GroupEntry:
    members = _members(scene, column)
    sizes = scene.anchor_ids[members].unique(return_counts=True)[1].tolist()
    low, high = group_box(scene, column).double()
    group_id = int(scene.group_ids[column])
    box, label = known.boxes[column], known.labels[column] if known.labels is not None else None
    semantics = scene.semantics
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
        label=label.name if label else None,
        label_probability=_rounded([label.probability])[0] if label else None,
        visible_share=_rounded(known.visible_shares[column : column + 1])[0],
        oriented_box=BoxEntry(_rounded(box.centre), [_rounded(axis) for axis in box.axes], _rounded(box.size)),
        relations=[RelationEntry(r.kind, r.other) for r in known.relations if r.group == group_id],
        embedding=_rounded(semantics.embeddings[column]) if semantics is not None else None,
    )


def _write_sidecars(
    folder: Path, scene: TokenScene, entries: list[GroupEntry], known: _Description, vocabulary: Sequence[str] | None
) -> list[Path]:
    cameras = folder / CAMERAS_FILE
    save_cameras(cameras, scene.cameras)
    semantics = scene.semantics
    groups = GroupList(
        groups=entries,
        up=_rounded(known.up),
        text_encoder=semantics.encoder if semantics is not None else None,
        calibration=_rounded(semantics.calibration) if semantics is not None else None,
        vocabulary=list(vocabulary) if vocabulary is not None else None,
    )
    return [write_groups(folder, groups), cameras]


def _rounded(values: Tensor | Sequence[float]) -> list[float]:
    return [float(f"{float(value):.{_DIGITS}g}") for value in values]
