"""Splits of recorded scenes: sub-folders, list files, or a tenth of the rooms held out by a hash of their names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from tokengroups.errors import UserError

SPLITS = ("train", "val", "test")
HELD_OUT_SHARE = 0.1
_RESCAN = re.compile(r"^(scene\d{4})_\d{2}$")  # ScanNet records many rooms more than once


def recorded_splits(root: Path, scenes: Sequence[Path]) -> tuple[dict[str, tuple[int, ...]], str]:
    """Sort scenes into splits by the rules of CONVENTIONS.md, section Splits.

    Returns:
        Indices of the scenes of every split, and the source of the splits in words.

    Raises:
        UserError: A list file cannot be read.
    """
    names = [scene.name for scene in scenes]
    found, source = _by_folder(root, scenes), "by its sub-folders"
    if not found:
        found, source = _by_lists(root, names), "by its list files"
    if not any(found.get(name) for name in ("val", "test")):
        train = found.get("train", tuple(range(len(names))))
        held_out = hashed_out([names[index] for index in train])
        found = {
            "train": tuple(index for index in train if names[index] not in held_out),
            "val": tuple(index for index in train if names[index] in held_out),
        }
        source = "one room in ten, by a hash of the scenes' names"
    return found, source


def hashed_out(names: Sequence[str], share: float = HELD_OUT_SHARE) -> set[str]:
    """Scenes to hold out: those of the rooms with the lowest hashes, the same on every machine."""
    rooms: dict[str, list[str]] = {}
    for name in names:
        match = _RESCAN.match(name)
        rooms.setdefault(match[1] if match else name, []).append(name)
    if len(rooms) < 2:
        return set()
    ordered = sorted(rooms, key=_unit_hash)
    count = sum(_unit_hash(room) < share for room in ordered)
    return {name for room in ordered[: min(max(count, 1), len(rooms) - 1)] for name in rooms[room]}


def _unit_hash(name: str) -> float:
    """Hash of a name as a number in [0, 1)."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def _by_folder(root: Path, scenes: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    return _filled({name: [i for i, scene in enumerate(scenes) if scene.parent == root / name] for name in SPLITS})


def _by_lists(root: Path, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Splits of the first folder with list files that name some of the scenes."""
    for folder in (root, root.absolute().parent):
        listed = {split: _listed(folder, split) for split in SPLITS}
        found = _filled({split: [i for i, name in enumerate(names) if name in listed[split]] for split in SPLITS})
        if found:
            return found
    return {}


def _filled(splits: dict[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(indices) for name, indices in splits.items() if indices}


def _listed(folder: Path, split: str) -> set[str]:
    """Scenes named in ``split.txt`` or ``*_split.txt``."""
    paths = sorted({*folder.glob(f"{split}.txt"), *folder.glob(f"*_{split}.txt")})
    try:
        return {line.strip() for path in paths for line in path.read_text(encoding="utf-8").splitlines()}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{paths[0]}: not a list of scenes, one name a line; correct or remove it") from error
