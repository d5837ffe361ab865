"""Splits of recorded scenes: by folders, by list files, by a hash of the names."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tokengroups.data.splits import hashed_out, recorded_splits
from tokengroups.errors import UserError


def names_of(root: Path, scenes: list[Path]) -> dict[str, list[str]]:
    splits, _ = recorded_splits(root, scenes)
    return {split: [scenes[index].name for index in indices] for split, indices in splits.items()}


def test_sub_folders_are_splits(tmp_path: Path) -> None:
    scenes = [tmp_path / "val" / "a", tmp_path / "train" / "b", tmp_path / "train" / "c", tmp_path / "test" / "d"]
    assert names_of(tmp_path, scenes) == {"train": ["b", "c"], "val": ["a"], "test": ["d"]}
    assert recorded_splits(tmp_path, scenes)[1] == "by its sub-folders"


@pytest.mark.parametrize("place", ["inside", "above"])
def test_lists_of_scenes_are_splits(tmp_path: Path, place: str) -> None:
    """ScanNet's own lists name scenes that are not there; a scene that no list names is in no split."""
    root = tmp_path / "scans"
    root.mkdir()
    lists = root if place == "inside" else tmp_path
    (lists / "scannetv2_train.txt").write_text("scene0000_00\nscene0001_00\nscene0999_00\n")
    (lists / "scannetv2_val.txt").write_text("scene0003_00\n")
    (root / "val.txt").write_text("")
    scenes = [root / f"scene{number:04d}_00" for number in (3, 0, 1, 5)]
    assert names_of(root, scenes) == {"train": ["scene0000_00", "scene0001_00"], "val": ["scene0003_00"]}


def test_lists_of_other_scenes_are_no_lists(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("dog.jpg\n")
    scenes = [tmp_path / name for name in "abcdefgh"]
    splits, source = recorded_splits(tmp_path, scenes)
    assert sorted([*splits["train"], *splits["val"]]) == list(range(8)) and "hash" in source
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(UserError, match="train.txt: not a list of scenes"):
        recorded_splits(tmp_path, scenes)


def test_some_of_train_is_held_out_where_nothing_else_is(tmp_path: Path) -> None:
    scenes = [tmp_path / "train" / f"room{number}" for number in range(30)]
    found = names_of(tmp_path, scenes)
    assert set(found["val"]) == hashed_out([scene.name for scene in scenes]) and len(found["train"]) > 20


def test_about_a_tenth_is_held_out_whatever_else_is_there() -> None:
    names = [f"room {number}" for number in range(2000)]
    held_out = hashed_out(names)
    assert 140 < len(held_out) < 260
    random.Random(0).shuffle(names)
    some = names[:1000]
    assert hashed_out(some) == held_out & set(some)


def test_known_rooms_stay_where_they_are() -> None:
    """A split that changes with a version of this package would let training see what was held out."""
    names = [f"scene{number:04d}_00" for number in range(40)]
    assert sorted(hashed_out(names)) == [f"scene{number:04d}_00" for number in (0, 3, 10, 15, 39)]


def test_recordings_of_one_room_stay_together() -> None:
    names = [f"scene{number:04d}_{scan:02d}" for number in range(40) for scan in range(3)]
    held_out = hashed_out(names)
    assert len(held_out) % 3 == 0 and {name[:9] for name in held_out} == {name[:9] for name in hashed_out(names[::3])}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_of_few_rooms_at_least_one_is_on_either_side(count: int) -> None:
    for start in range(60):
        held_out = hashed_out([f"room{number}" for number in range(start, start + count)])
        assert 1 <= len(held_out) < count
    assert hashed_out(["alone"]) == hashed_out([]) == hashed_out(["scene0000_00", "scene0000_01"]) == set()
