"""Export of scenes as files of Gaussians for other programs, with sidecars that keep groups and cameras.

These files cannot hold soft group probabilities, group tokens and residuals of semantics.
An export format is one function that writes `Gaussians` to a path. Give it to `export_scene` (on the command line:
``--writer package.module:function``), or enter it in `WRITERS` under its suffix. Models for other reconstruction
programs - cameras, photos and points - are written by `scene.capture_exporting`.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.gaussians import select
from tokengroups.io.cameras import save_cameras
from tokengroups.io.files import check_folder, check_writable, staged_folder
from tokengroups.io.glb import GroupPart, save_glb
from tokengroups.io.pictures import color_name, group_color
from tokengroups.reading import shown
from tokengroups.registry import resolve
from tokengroups.scene.boxes import oriented_boxes
from tokengroups.scene.group_file import CAMERAS_FILE, GROUPS_FILE, GroupEntry, GroupList, check_unclaimed, write_groups
from tokengroups.scene.groups import GroupLabel, for_all_groups, group_members, group_name, group_score, select_points
from tokengroups.scene.layout import relations, up_direction
from tokengroups.scene.views import visible_shares
from tokengroups.types import Gaussians, TokenScene

Writer = Callable[[Path, Gaussians], None]  # writes the whole file or nothing: `tokengroups.io.files.atomic_path`
WRITERS = {  # by suffix
    ".ply": "tokengroups.io.ply:save_ply",
    ".spz": "tokengroups.io.splats.spz:save_spz",
    ".glb": "tokengroups.io.glb:save_glb",
}
_DIGITS = 6  # significant ones of what is measured: float32 has no more
_TRUSTED_LABEL = 0.5  # probability from which on labels separate walls and floors from things


def writer_for(path: str | os.PathLike[str], name: str = "") -> Writer:
    """Find the writer of a file: that of its suffix, or the one named by an import path.

    Raises:
        UserError: There is none.
    """
    suffix = Path(path).suffix.lower()
    if not name and suffix not in WRITERS:
        raise UserError(f"{shown(path)}: the file name must end in {', '.join(WRITERS)}; for folders see --format")
    return resolve(name or suffix, WRITERS, "writer")


def export_scene(
    scene: TokenScene,
    path: str | os.PathLike[str],
    labels: Sequence[GroupLabel] | None = None,
    vocabulary: Sequence[str] | None = None,
    write: Writer | None = None,
    groups_folder: str | os.PathLike[str] | None = None,
) -> list[Path]:
    """Write the whole scene as one file, ``groups.json`` and ``cameras.json`` beside it; returns the files.

    Gaussians are ordered by group, then by anchor. All files are written or none.

    Args:
        scene: The scene.
        path: File to write.
        labels: Label of each group, by column, from `tokengroups.retrieval.name_groups`; None = unknown.
        vocabulary: The names among which the labels were chosen, for the record.
        write: Writes the Gaussians; by default chosen by the suffix of `path`.
        groups_folder: Also one file per group here, as `export_groups` writes them.

    Raises:
        UserError: A file cannot be written, the ``groups.json`` there belongs to another file, or `groups_folder` is
            `path` or its folder.

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
    if groups_folder is not None:
        place = Path(os.path.realpath(groups_folder))
        if place == Path(os.path.realpath(path.parent)) or Path(os.path.realpath(path)) in (place, *place.parents):
            raise UserError(f"{shown(groups_folder)} is the place of {shown(path)}; give the groups their own folder")
    columns, describe = list(range(len(scene.group_ids))), functools.cache(lambda: _describe(scene, labels))
    with _export(scene, path.parent, {path.name: columns}, describe, vocabulary, write) as files:
        if groups_folder is not None:
            names = _group_files(scene, path.suffix.lower())
            with _export(scene, check_folder(groups_folder), names, describe, vocabulary, write) as more:
                files += more
    return files


def export_groups(
    scene: TokenScene,
    folder: str | os.PathLike[str],
    labels: Sequence[GroupLabel] | None = None,
    vocabulary: Sequence[str] | None = None,
    suffix: str = ".ply",
    write: Writer | None = None,
) -> list[Path]:
    """Write one file per group, such as ``group_007.ply``, ``groups.json`` and ``cameras.json``; returns the files.

    The folder is made where missing. All files are written or none. The other arguments and the errors are those of
    `export_scene`.

    Example:
        >>> import tempfile
        >>> import tokengroups as tg
        >>> from tokengroups.scene import export_groups
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in export_groups(tg.example_scene(), folder)][:2]
        ['group_001.ply', 'group_002.ply']
    """
    write = write or writer_for(f"group{suffix}")
    files = _group_files(scene, suffix)
    with _export(scene, check_folder(folder), files, lambda: _describe(scene, labels), vocabulary, write) as written:
        return written


def export_places(scene: TokenScene, path: str | os.PathLike[str], *, groups: bool) -> list[Path]:
    """The files that `export_scene` writes, or with `groups` `export_groups`, given the folder; in their order."""
    path = Path(path)
    folder, names = (path, _group_files(scene, ".ply")) if groups else (path.parent, [path.name])
    return [folder / name for name in (*names, GROUPS_FILE, CAMERAS_FILE)]


def _group_files(scene: TokenScene, suffix: str) -> dict[str, list[int]]:
    """Names of the groups' files, and the column of each."""
    return {f"group_{group_id:03d}{suffix}": [column] for column, group_id in enumerate(scene.group_ids.tolist())}


@contextlib.contextmanager
def _export(
    scene: TokenScene,
    folder: Path,
    files: Mapping[str, list[int]],  # columns of the groups in each file
    describe: Callable[[], GroupList],
    vocabulary: Sequence[str] | None,
    write: Writer,
) -> Iterator[list[Path]]:
    """Context that yields the files, which appear when it ends well."""
    names = [*files, GROUPS_FILE, CAMERAS_FILE]
    if folder.is_dir():
        for name in names:
            check_writable(folder / name)
    check_unclaimed(folder, list(files))
    described, entries = describe(), []
    # Indices of every group's Gaussians, anchor after anchor.
    members = [mine[scene.anchor_ids[mine].argsort(stable=True)] for mine in group_members(scene)]
    with staged_folder(folder) as staging:
        for name, columns in files.items():
            placed = _placed(scene, name, [(described.groups[column], members[column]) for column in columns])
            gaussians = select(scene.gaussians, torch.cat([members[column] for column in columns]))
            if write is save_glb:  # of the formats here, the one with a place for groups
                parts = [GroupPart(e.id, e.name or e.label or f"group {e.id}", e.count or 0) for e in placed]
                save_glb(staging / name, gaussians, parts)
            else:
                write(staging / name, gaussians)
            entries += placed
        save_cameras(staging / CAMERAS_FILE, scene.cameras)
        words = list(vocabulary) if vocabulary is not None else None
        write_groups(staging, replace(described, groups=entries, vocabulary=words))
        yield [folder / name for name in names]


def _placed(scene: TokenScene, name: str, groups: Sequence[tuple[GroupEntry, Tensor]]) -> list[GroupEntry]:
    """The groups of one file, with their places in it; tensors are the indices of their Gaussians."""
    placed, first = [], 0
    for entry, mine in groups:
        sizes = scene.anchor_ids[mine].unique_consecutive(return_counts=True)[1].tolist()
        sizes = sizes[0] if len(set(sizes)) == 1 else sizes
        placed.append(replace(entry, file=name, first=first, count=len(mine), anchor_sizes=sizes))
        first += len(mine)
    return placed


def _describe(scene: TokenScene, labels: Sequence[GroupLabel] | None) -> GroupList:
    """Measure all groups; the entries name no files yet."""
    ids, semantics = scene.group_ids.tolist(), scene.semantics
    if labels is not None and len(labels) != len(ids):
        raise ValueError(f"{len(labels)} labels for {len(ids)} groups")
    names = [group_name(scene, column) for column in range(len(ids))]
    things = [label.name if label.probability >= _TRUSTED_LABEL else "" for label in labels or ()] or names
    up, shares = up_direction(scene), _rounded(visible_shares(scene))
    boxes = oriented_boxes(scene, up)
    related: dict[int, list[dict[str, str | int]]] = {group_id: [] for group_id in ids}
    for each in relations(boxes, ids, [thing or name for thing, name in zip(things, names, strict=True)]):
        related[each.group].append({"kind": each.kind, "group": each.other})

    def measure(mine: Int64[Tensor, "B M"]) -> Iterable[tuple[list[float], list[float]]]:
        points = select_points(scene, mine)
        low, high = points.box().double()
        return zip(points.centre().tolist(), (high - low).tolist(), strict=True)

    entries, measured = [], for_all_groups(scene, measure)
    for column, (group_id, (centre, size), box) in enumerate(zip(ids, measured, boxes, strict=True)):
        score = group_score(scene, column)
        entries.append(
            GroupEntry(
                id=group_id,
                name=names[column],
                file="",
                centre=centre,
                size=size,
                color=color_name(group_color(group_id)),
                label=(labels[column].name or None) if labels else None,
                label_probability=_rounded([labels[column].probability])[0] if labels else None,
                visible_share=shares[column],
                oriented_box={
                    "centre": _rounded(box.centre),
                    "axes": [_rounded(axis) for axis in box.axes],
                    "size": _rounded(box.size),
                },
                relations=related[group_id],
                embedding=_rounded(semantics.embeddings[column]) if semantics is not None else None,
                score=None if score is None else _rounded([score])[0],
            )
        )
    if semantics is None:
        return GroupList(entries, _rounded(up))
    return GroupList(entries, _rounded(up), semantics.encoder, _rounded(semantics.calibration))


def _rounded(values: Tensor | Sequence[float]) -> list[float]:
    values = values.tolist() if isinstance(values, Tensor) else values
    return [float(f"{value:.{_DIGITS}g}") for value in values]
