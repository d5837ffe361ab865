"""``groups.json`` and foreign ``meta.json`` beside PLY files: which Gaussians of which file are which group.

``groups.json`` holds ``format`` = "tokengroups.groups", ``version`` and ``groups`` with ``id``, ``name``,
the ``file`` that holds it, ``first`` and ``count`` of its Gaussians there, ``anchor_sizes`` (Gaussians of
each of its anchors, in order; one number if all are equal), and for robots and people ``centre``, ``size``
(scene units, world axes) and ``color``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokengroups.errors import UserError
from tokengroups.io.files import natural_key, read_json, write_text

GROUPS_FILE, CAMERAS_FILE, FOREIGN_FILE = "groups.json", "cameras.json", "meta.json"
GROUPS_FORMAT, GROUPS_VERSION = "tokengroups.groups", 1
INSTOK3D_GAUSSIANS_PER_ANCHOR = 32


@dataclass(frozen=True)
class GroupEntry:
    """One group in a PLY file."""

    id: int
    name: str
    file: str
    first: int = 0
    count: int | None = None  # None = to the end of the file
    anchor_sizes: int | list[int] | None = None  # None = unknown: the group becomes one anchor
    centre: list[float] | None = None
    size: list[float] | None = None
    color: str | None = None


def write_entries(folder: Path, entries: Sequence[GroupEntry]) -> Path:
    """Write ``groups.json``, atomically."""
    content = {
        "format": GROUPS_FORMAT,
        "version": GROUPS_VERSION,
        "groups": [asdict(entry) for entry in entries],
    }
    path = folder / GROUPS_FILE
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def check_unclaimed(folder: Path, files: Sequence[str]) -> None:
    """Refuse to overwrite a ``groups.json`` that describes other PLY files which are still there.

    Raises:
        UserError: It does.
    """
    path = folder / GROUPS_FILE
    if not path.exists():
        return
    others = sorted({e.file for e in _own_entries(path)} - set(files)) if _is_own(path) else [path.name]
    others = [name for name in others if (folder / name).exists()]
    if others:
        raise UserError(f"{path} belongs to {others[0]}; export to another folder, or remove both")


def find_entries(source: Path) -> tuple[Path, list[GroupEntry]]:
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
    described = [entry for entry in _described(folder) if source.is_dir() or entry.file == source.name]
    each_file = [GroupEntry(id=i, name=Path(file).stem, file=file) for i, file in enumerate(files)]
    entries = described or each_file
    _check_entries(folder, entries)
    return folder, entries


def _described(folder: Path) -> list[GroupEntry]:
    """What a sidecar says; ours counts before a foreign one."""
    if (folder / GROUPS_FILE).is_file():
        return _own_entries(folder / GROUPS_FILE)
    if (folder / FOREIGN_FILE).is_file():
        return _foreign_entries(folder / FOREIGN_FILE)
    return []


def _own_entries(path: Path) -> list[GroupEntry]:
    content = _read_json(path)
    if content.get("format") != GROUPS_FORMAT or content.get("version") != GROUPS_VERSION:
        raise UserError(f"{path}: not {GROUPS_FORMAT} version {GROUPS_VERSION}; move it away to ignore it")
    try:
        return [_own_entry(entry) for entry in content["groups"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged group list ({error!r}); move it away to ignore it") from error


def _own_entry(entry: dict[str, Any]) -> GroupEntry:
    """The fields that an import needs; the rest of an entry is for people and other programs."""
    count, sizes = entry.get("count"), entry.get("anchor_sizes")
    if isinstance(sizes, list):
        sizes = [int(size) for size in sizes]
    return GroupEntry(
        id=int(entry["id"]),
        name=str(entry.get("name", "")),
        file=str(entry["file"]),
        first=int(entry.get("first", 0)),
        count=None if count is None else int(count),
        anchor_sizes=sizes if sizes is None or isinstance(sizes, list) else int(sizes),
    )


def _foreign_entries(path: Path) -> list[GroupEntry]:
    """InsTok3D's list: ``instances`` with ``file``, ``qid``, ``count``; 32 Gaussians per anchor in order."""
    content = _read_json(path)
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


def _is_own(path: Path) -> bool:
    return _read_json(path).get("format") == GROUPS_FORMAT


def _read_json(path: Path) -> dict[str, Any]:
    content = read_json(path, "move it away to ignore it")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object; move it away to ignore it")
    return content


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
