"""``groups.json``: the groups of PLY files as robots and language models read them; CONVENTIONS.md has the schema."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tokengroups.errors import UserError
from tokengroups.io.files import read_json, write_text

GROUPS_FILE = "groups.json"
GROUPS_FORMAT, GROUPS_VERSION = "tokengroups.groups", 2
_READABLE_VERSIONS = (1, 2)  # version 1 had neither meaning nor layout


@dataclass(frozen=True)
class BoxEntry:
    """An `OrientedBox` in numbers; scene units and world."""

    centre: list[float]
    axes: list[list[float]]  # rows are unit vectors, the last one up
    size: list[float]


@dataclass(frozen=True)
class RelationEntry:
    """What a group is to another one."""

    kind: str
    group: int  # the other one


@dataclass(frozen=True)
class GroupEntry:
    """One group in a PLY file; None = unknown."""

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
    oriented_box: BoxEntry | None = None
    relations: list[RelationEntry] | None = None
    embedding: list[float] | None = None


@dataclass(frozen=True)
class GroupList:
    """Content of a sidecar: groups, and what is true of all of them."""

    groups: list[GroupEntry]
    up: list[float] | None = None
    text_encoder: str | None = None  # None = the groups have no embeddings
    calibration: list[float] | None = None
    vocabulary: list[str] | None = None


def write_groups(folder: Path, groups: GroupList) -> Path:
    """Write ``groups.json``, atomically; one line per value, so that people can read it as well."""
    header = {"format": GROUPS_FORMAT, "version": GROUPS_VERSION}
    header |= {f.name: getattr(groups, f.name) for f in fields(groups) if f.name != "groups"}
    entries = ",\n".join("  {\n" + _lines(asdict(entry), 3) + "\n  }" for entry in groups.groups)
    path = folder / GROUPS_FILE
    write_text(path, "{\n" + _lines(header, 1) + ',\n "groups": [\n' + entries + "\n ]\n}\n")
    return path


def read_groups(path: Path) -> GroupList:
    """What an import needs of a ``groups.json`` of version 1 or 2; the rest is for people and other programs.

    Raises:
        UserError: Another format or version, or damaged.
    """
    content = read_object(path)
    if content.get("format") != GROUPS_FORMAT or content.get("version") not in _READABLE_VERSIONS:
        known = " or ".join(str(version) for version in _READABLE_VERSIONS)
        raise UserError(f"{path}: not {GROUPS_FORMAT} version {known}; move it away to ignore it")
    try:
        encoder = content.get("text_encoder")
        entries = [_entry(entry, with_embedding=encoder is not None) for entry in content["groups"]]
        if len({len(entry.embedding or ()) for entry in entries}) > 1:
            raise ValueError("embeddings of different lengths")
        if encoder is None:
            return GroupList(entries)
        return GroupList(entries, text_encoder=str(encoder), calibration=_floats(content["calibration"], 2))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged group list ({error!r}); move it away to ignore it") from error


def is_group_file(path: Path) -> bool:
    """Whether a JSON file says that it is ours, whatever its version."""
    return read_object(path).get("format") == GROUPS_FORMAT


def read_object(path: Path) -> dict[str, Any]:
    """Content of a sidecar.

    Raises:
        UserError: Unreadable, or no JSON object.
    """
    content = read_json(path, "move it away to ignore it")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a JSON object; move it away to ignore it")
    return content


def _lines(values: dict[str, Any], indent: int) -> str:
    return ",\n".join(f"{' ' * indent}{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())


def _entry(entry: dict[str, Any], with_embedding: bool) -> GroupEntry:
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
        embedding=_floats(entry["embedding"]) if with_embedding else None,
    )


def _floats(values: Sequence[Any], count: int | None = None) -> list[float]:
    """Finite numbers, as many as asked for and at least one; ValueError or TypeError otherwise."""
    numbers = [float(value) for value in values]
    if not numbers or (count is not None and len(numbers) != count) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected {count or 'some'} finite numbers, found {len(numbers)} numbers")
    return numbers
