"""Classes of ScanNet's benchmarks: numbers, the exchanged ids 2 and 3, a missing or damaged table."""

from __future__ import annotations

from pathlib import Path

import pytest
import scannet_replica as replica

from tokengroups.data.readers.scannet_labels import NUMBERS, class_rows, find_label_table, read_label_numbers
from tokengroups.errors import UserError
from tokengroups.systems.segvggt.class_names import SCANNET, SCANNET200

OBJECTS = {0: "wall", 1: "chair", 2: "table", 3: "floor", 4: "pillow", 5: "office chair", 6: "never seen"}


def rows(root: Path, kind: str, names: tuple[str, ...]) -> dict[int, str]:
    table = find_label_table(root)
    numbers = None if table is None else read_label_numbers(table, NUMBERS[kind])
    return {instance: names[row] for instance, row in class_rows(OBJECTS, names, NUMBERS[kind], numbers).items()}


def test_every_class_has_a_number() -> None:
    for kind, names in (("scannet", SCANNET), ("scannet200", SCANNET200)):
        numbers = NUMBERS[kind].numbers
        assert len(numbers) == len(names) and list(numbers) == sorted(set(numbers))
    assert not {1, 2} & set(NUMBERS["scannet200"].numbers)  # wall, and after the exchange floor


def test_labels_become_classes_by_the_table(tmp_path: Path) -> None:
    replica.write_replica(tmp_path)
    assert rows(tmp_path, "scannet", SCANNET) == {1: "chair", 2: "table", 5: "chair"}
    found = rows(tmp_path / replica.NAME, "scannet200", SCANNET200)  # the table is in the folder above
    assert found == {1: "chair", 2: "table", 4: "pillow", 5: "office chair"}


def test_without_the_exchange_floors_would_be_chairs(tmp_path: Path) -> None:
    replica.write_replica(tmp_path)
    kind = NUMBERS["scannet200"]
    numbers = read_label_numbers(tmp_path / "scannetv2-labels.combined.tsv", kind)
    assert (numbers["chair"], numbers["floor"]) == (2, 3)
    chair = SCANNET200.index("chair")
    assert kind.numbers[chair] == 3 and class_rows({0: "chair", 1: "floor"}, SCANNET200, kind, numbers) == {0: chair}


def test_without_a_table_labels_are_names(tmp_path: Path) -> None:
    assert rows(tmp_path, "scannet", SCANNET) == {1: "chair", 2: "table"}
    kind = NUMBERS["scannet"]
    written = {0: "shower curtain", 1: "otherfurniture", 2: "Bookshelf"}
    found = {instance: SCANNET[row] for instance, row in class_rows(written, SCANNET, kind, None).items()}
    assert found == {0: "shower curtain", 1: "other furniture", 2: "bookshelf"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("id\tname\n1\twall\n", "no column"), ("raw_category\tnyu40id\nwall\tone\n", "wrong form"), ("", "no column")],
)
def test_a_damaged_table_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_label_numbers(path, NUMBERS["scannet"])
