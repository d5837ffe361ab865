"""Sidecars of files of splats: ``groups.json``, whose schema is in CONVENTIONS.md, and InsTok3D's ``meta.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tokengroups.errors import UserError
from tokengroups.gaussians import LARGEST
from tokengroups.io.files import natural_key, write_text
from tokengroups.io.splats import FORMATS, META, is_sog_meta
from tokengroups.reading import malformed, path_kind, read_json, shown
from tokengroups.scene.consistency import MAX_GROUP_ID, whole_number

CAMERAS_FILE, GROUPS_FILE, INSTOK3D_FILE = "cameras.json", "groups.json", "meta.json"
GROUPS_FORMAT, GROUPS_VERSION = "tokengroups.groups", 2
_READABLE_VERSIONS = (1, 2)  # version 1 had neither semantics nor layout
_INSTOK3D_GAUSSIANS_PER_ANCHOR = 32
_MAX_COUNT = 2**48  # Gaussians: far beyond any file
_ADVICE = "move it away to ignore it"


@dataclass(frozen=True)
class GroupEntry:
    """One group in a file of splats; None = unknown."""

    id: int
    name: str
    file: str
    first: int = 0
    count: int | None = None  # None = to the end of the file
    anchor_sizes: int | list[int] | None = None  # None: the group becomes one anchor
    centre: list[float] | None = None
    size: list[float] | None = None
    color: str | None = None
    label: str | None = None
    label_probability: float | None = None
    visible_share: float | None = None
    oriented_box: dict[str, list[Any]] | None = None  # centre, axes, size of an `OrientedBox`
    relations: list[dict[str, str | int]] | None = None  # kind, group
    embedding: list[float] | None = None
    score: float | None = None


@dataclass(frozen=True)
class GroupList:
    """Content of a sidecar: groups, and what they have in common."""

    groups: list[GroupEntry]
    up: list[float] | None = None
    text_encoder: str | None = None  # None = the groups have no embeddings
    calibration: list[float] | None = None
    vocabulary: list[str] | None = None


def write_groups(folder: Path, groups: GroupList) -> Path:
    """Write ``groups.json``, atomically; one line per value, so that people can read it as well."""
    header = {"format": GROUPS_FORMAT, "version": GROUPS_VERSION}
    header |= {f.name: getattr(groups, f.name) for f in fields(groups) if f.name != "groups"}
    entries = ",\n".join("  {\n" + _lines(vars(entry), 3) + "\n  }" for entry in groups.groups)
    path = folder / GROUPS_FILE
    write_text(path, "{\n" + _lines(header, 1) + ',\n "groups": [\n' + entries + "\n ]\n}\n")
    return path


def check_unclaimed(folder: Path, files: Sequence[str]) -> None:
    """Refuse to overwrite a ``groups.json`` that describes other files which are still there.

    Raises:
        UserError: It does.
    """
    path = folder / GROUPS_FILE
    if path_kind(path) == "missing":
        return
    ours = _read_object(path).get("format") == GROUPS_FORMAT
    others = sorted({entry.file for entry in _read_groups(path).groups} - set(files)) if ours else [path.name]
    others = [name for name in others if (folder / name).exists()]
    if others:
        raise UserError(f"{path} belongs to {others[0]}; export to another folder, or remove both")


def locate_groups(source: Path) -> tuple[Path, GroupList]:
    """Find the folder and the groups of a file of splats or of a folder of them.

    Raises:
        UserError: Nothing there, or a sidecar that is damaged or does not fit.
    """
    kind = path_kind(source)
    if kind == "file":
        folder, files = source.parent, [source.name]
    elif kind == "folder":
        folder = _folder_with_splats(source)
        files = sorted((path.name for path in _splats(folder)), key=natural_key)
    elif kind == "missing":
        raise UserError(f"no such file or folder: {shown(source)}")
    else:
        raise UserError(f"{shown(source)}: not a regular file or folder that can be read")
    groups = GroupList([])
    if path_kind(folder / GROUPS_FILE) != "missing":
        groups = _read_groups(folder / GROUPS_FILE)
    elif path_kind(folder / INSTOK3D_FILE) != "missing":
        groups = GroupList(_instok3d_entries(folder / INSTOK3D_FILE))
    entries = [entry for entry in groups.groups if kind == "folder" or entry.file == source.name]
    if not entries:
        groups = GroupList([])
        names = [folder.absolute().name if file == META else Path(file).stem for file in files]
        entries = [GroupEntry(id=i, name=names[i], file=file) for i, file in enumerate(files)]
    ids = [entry.id for entry in entries]
    if min(ids) < 0 or len(set(ids)) != len(ids):
        raise UserError(
            f"{shown(folder)}: its group ids are not unique numbers from 0 ({shown(ids)}); correct the sidecar"
        )
    for entry in entries:
        if Path(entry.file).name != entry.file or path_kind(folder / entry.file) != "file":
            where = shown(folder)
            raise UserError(f"{where}: group {entry.id} should be in {shown(entry.file)}, which is not there")
    return folder, replace(groups, groups=entries)


def _folder_with_splats(source: Path) -> Path:
    """Choose the folder itself, or its only subfolder with files of splats."""
    if _splats(source):
        return source
    folders = sorted(folder for folder in source.iterdir() if folder.is_dir() and _splats(folder))
    if len(folders) == 1:
        return folders[0]
    where, kinds = shown(source), ", ".join((".ply", *FORMATS))
    if not folders:
        raise UserError(f"no file of splats ({kinds}, or an unpacked SOG) in {where} or its subfolders")
    raise UserError(f"no file of splats in {where}; {len(folders)} subfolders hold some, e.g. {shown(folders[0])}")


def _splats(folder: Path) -> list[Path]:
    """PLY files of a folder; where there are none, those of packed formats, or an unpacked SOG."""
    files = [path for path in folder.glob("[!.]*") if path_kind(path) == "file"]
    plys = [path for path in files if path.suffix.lower() == ".ply"]
    packed = [path for path in files if path.suffix.lower() in FORMATS]
    return plys or packed or [path for path in files if path.name == META and is_sog_meta(path)]


def _read_groups(path: Path) -> GroupList:
    """Read what an import needs of a ``groups.json``; the rest is for people and other programs."""
    content = _read_object(path)
    if content.get("format") != GROUPS_FORMAT or content.get("version") not in _READABLE_VERSIONS:
        versions = " or ".join(str(version) for version in _READABLE_VERSIONS)
        raise UserError(f"{shown(path)}: not {GROUPS_FORMAT} version {versions}; {_ADVICE}")
    with malformed(f"{path}: damaged group list", _ADVICE):
        encoder = None if content.get("text_encoder") is None else _text(content["text_encoder"])
        entries = [_entry(entry, with_embedding=encoder is not None) for entry in _list(content["groups"])]
        if len({len(entry.embedding or ()) for entry in entries}) > 1:
            raise ValueError("embeddings of different lengths")
        if encoder is None:
            return GroupList(entries)
        return GroupList(entries, text_encoder=encoder, calibration=_floats(content["calibration"], 2))


def _entry(entry: dict[str, Any], with_embedding: bool) -> GroupEntry:
    count, sizes, name = entry.get("count"), entry.get("anchor_sizes"), entry.get("name")
    if sizes is not None:
        sizes = [_count(size) for size in sizes] if isinstance(sizes, list) else _count(sizes)
    return GroupEntry(
        id=_group_id(entry["id"]),
        name="" if name is None else _text(name),
        file=_text(entry["file"]),
        first=_count(entry.get("first", 0)),
        count=None if count is None else _count(count),
        anchor_sizes=sizes,
        embedding=_floats(entry["embedding"]) if with_embedding else None,
        score=None if entry.get("score") is None else _floats([entry["score"]], 1)[0],
    )


def _instok3d_entries(path: Path) -> list[GroupEntry]:
    """Read InsTok3D's list: ``instances`` with ``file``, ``qid``, ``count``; 32 Gaussians per anchor in order."""
    instances = _read_object(path).get("instances")
    if instances is None:
        return []  # another program's meta.json
    with malformed(f"{path}: damaged instance list", _ADVICE):
        entries = [
            GroupEntry(_group_id(each["qid"]), "", _text(each["file"]), count=_count(each["count"]))
            for each in _list(instances)
        ]
    if any((entry.count or 0) % _INSTOK3D_GAUSSIANS_PER_ANCHOR for entry in entries):
        return entries
    return [replace(entry, anchor_sizes=_INSTOK3D_GAUSSIANS_PER_ANCHOR) for entry in entries]


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path, _ADVICE)
    if not isinstance(content, dict):
        raise UserError(f"{shown(path)}: expected a JSON object; {_ADVICE}")
    return content


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _group_id(value: Any) -> int:
    """Any number: negative ones are reported with the other ids."""
    return whole_number(value, -MAX_GROUP_ID, MAX_GROUP_ID)


def _count(value: Any) -> int:
    """Any number: whether it fits is compared with the file."""
    return whole_number(value, -_MAX_COUNT, _MAX_COUNT)


def _floats(values: Any, count: int | None = None) -> list[float]:
    """Numbers of bounded size, as many as asked for and at least one; ValueError or TypeError otherwise."""
    numbers = [float(value) for value in _list(values) if isinstance(value, int | float)]
    if not numbers or len(numbers) != (count or len(values)) or not all(abs(number) <= LARGEST for number in numbers):
        raise ValueError(f"expected {count or 'some'} finite numbers, found {len(numbers)} numbers")
    return numbers


def _lines(values: dict[str, Any], indent: int) -> str:
    return ",\n".join(f"{' ' * indent}{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
