"""Which Gaussians of which PLY file are which group: ``groups.json`` or a foreign ``meta.json`` beside the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tokengroups.errors import UserError
from tokengroups.io.files import natural_key
from tokengroups.scene.group_file import GROUPS_FILE, GroupEntry, GroupList, is_group_file, read_groups, read_object

CAMERAS_FILE, FOREIGN_FILE = "cameras.json", "meta.json"
INSTOK3D_GAUSSIANS_PER_ANCHOR = 32


@dataclass(frozen=True)
class FoundGroups:
    """Where PLY files lie, and the groups in them."""

    folder: Path
    groups: GroupList


def check_unclaimed(folder: Path, files: Sequence[str]) -> None:
    """Refuse to overwrite a ``groups.json`` that describes other PLY files which are still there.

    Raises:
        UserError: It does.
    """
    path = folder / GROUPS_FILE
    if not path.exists():
        return
    ours = is_group_file(path)
    others = sorted({entry.file for entry in read_groups(path).groups} - set(files)) if ours else [path.name]
    others = [name for name in others if (folder / name).exists()]
    if others:
        raise UserError(f"{path} belongs to {others[0]}; export to another folder, or remove both")


def locate_groups(source: Path) -> FoundGroups:
    """Folder and groups of a PLY file or of a folder of them.

    Raises:
        UserError: Nothing there, or a sidecar that is damaged or does not fit.
    """
    if source.is_file():
        folder, files = source.parent, [source.name]
    elif source.is_dir():
        folder = _folder_with_plys(source)
        files = sorted((path.name for path in _plys(folder)), key=natural_key)
    else:
        raise UserError(f"no such file or folder: {source}")
    described = _described(folder)
    entries = [entry for entry in described.groups if source.is_dir() or entry.file == source.name]
    if entries:
        groups = replace(described, groups=entries)
    else:
        groups = GroupList([GroupEntry(id=i, name=Path(file).stem, file=file) for i, file in enumerate(files)])
    _check_entries(folder, groups.groups)
    return FoundGroups(folder, groups)


def _described(folder: Path) -> GroupList:
    """What a sidecar says; ours counts before a foreign one."""
    if (folder / GROUPS_FILE).is_file():
        return read_groups(folder / GROUPS_FILE)
    if (folder / FOREIGN_FILE).is_file():
        return GroupList(_foreign_entries(folder / FOREIGN_FILE))
    return GroupList([])


def _foreign_entries(path: Path) -> list[GroupEntry]:
    """InsTok3D's list: ``instances`` with ``file``, ``qid``, ``count``; 32 Gaussians per anchor in order."""
    content = read_object(path)
    instances = content.get("instances")
    if instances is None:
        return []  # another program's meta.json
    try:
        counts = [int(instance["count"]) for instance in instances]
        names = [str(instance["file"]) for instance in instances]
        ids = [int(instance["qid"]) for instance in instances]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged instance list ({error!r}); move it away to ignore it") from error
    whole = all(count % INSTOK3D_GAUSSIANS_PER_ANCHOR == 0 for count in counts)
    sizes = INSTOK3D_GAUSSIANS_PER_ANCHOR if whole else None
    listed = zip(ids, names, counts, strict=True)
    return [GroupEntry(id, "", file, count=count, anchor_sizes=sizes) for id, file, count in listed]


def _check_entries(folder: Path, entries: list[GroupEntry]) -> None:
    ids = [entry.id for entry in entries]
    if min(ids) < 0 or len(set(ids)) != len(ids):
        raise UserError(f"{folder}: its group ids are not unique numbers from 0 ({ids}); correct the sidecar")
    for entry in entries:
        if Path(entry.file).name != entry.file or not (folder / entry.file).is_file():
            raise UserError(f"{folder}: group {entry.id} should be in {entry.file}, which is not there")


def _folder_with_plys(source: Path) -> Path:
    """The folder itself, or its only subfolder with PLY files."""
    if _plys(source):
        return source
    folders = sorted(folder for folder in source.iterdir() if folder.is_dir() and _plys(folder))
    if not folders:
        raise UserError(f"no .ply file in {source} or its subfolders")
    if len(folders) > 1:
        raise UserError(f"no .ply file in {source}; {len(folders)} subfolders hold some, e.g. {folders[0]}")
    return folders[0]


def _plys(folder: Path) -> list[Path]:
    return [path for path in folder.glob("[!.]*") if path.suffix.lower() == ".ply"]
