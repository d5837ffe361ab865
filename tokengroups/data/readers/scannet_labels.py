"""Classes of ScanNet's two instance benchmarks by the labels of its annotators.

``scannetv2-labels.combined.tsv`` maps a label (column ``raw_category``) to numbers: ScanNetv2's classes are 18 of
NYU40's (``nyu40id``), ScanNet200's are 198 of ScanNet's own (``id``). The list of ScanNet200's numbers, in the order
of SegVGGT's names, has 2 for floors and 3 for chairs, but the table has 2 for chairs and 3 for floors. As SegDINO3D
does, the two are exchanged in the truth before they are looked up; otherwise chairs would count as floors, which are no
instances, and floors as chairs.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokengroups.errors import UserError
from tokengroups.reading import malformed, path_kind, read_text, shown

LABEL_FILE = "scannetv2-labels.combined.tsv"
_ADVICE = "get the file of the ScanNet release again"


@dataclass(frozen=True)
class ClassNumbers:
    """Numbers of a benchmark's instance classes in the order of its channels."""

    column: str  # of the table
    numbers: tuple[int, ...]
    exchanged: Mapping[int, int] = field(default_factory=dict)  # in the truth, before numbers are looked up


NUMBERS = {
    "scannet": ClassNumbers("nyu40id", (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 24, 28, 33, 34, 36, 39)),
    "scannet200": ClassNumbers(
        "id",
        (
            *range(3, 12), *range(13, 20), *range(21, 25), *range(26, 30), *range(31, 37), *range(38, 43),
            *range(44, 53), *range(54, 60), *range(62, 81), 82, 84, *range(86, 91), 93, *range(95, 108), 110, 112, 115,
            116, 118, 120, 121, 122, 125, 128, 130, 131, 132, 134, 136, *range(138, 142), 145, 148, *range(154, 158),
            159, 161, 163, 165, 166, *range(168, 171), 177, 180, 185, 188, 191, 193, 195, 202, 208, 213, 214, 221, 229,
            230, 232, 233, 242, 250, 261, 264, 276, 283, 286, 300, 304, 312, 323, 325, 331, 342, 356, 370, 392, 395,
            399, 408, 417, 488, 540, 562, 570, 572, 581, 609, 748, 776, 1156, *range(1163, 1177), *range(1178, 1192),
        ),
        {2: 3, 3: 2},
    ),
}  # fmt: skip


def find_label_table(root: Path) -> Path | None:
    """ScanNet's table of labels in a folder of scenes or in the folder above it."""
    places = (root / LABEL_FILE, root.absolute().parent / LABEL_FILE)
    return next((path for path in places if path_kind(path) == "file"), None)


def read_label_numbers(path: Path, classes: ClassNumbers) -> dict[str, int]:
    """Number of every label in the benchmark's column; labels without one are left out.

    Raises:
        UserError: The file is no such table.
    """
    rows = csv.DictReader(io.StringIO(read_text(path, _ADVICE)), delimiter="\t")
    with malformed(path, _ADVICE):
        missing = {"raw_category", classes.column} - set(rows.fieldnames or ())
        if missing:
            raise UserError(f"{shown(path)}: no column '{min(missing)}'; {_ADVICE}")
        return {row["raw_category"]: int(row[classes.column]) for row in rows if row[classes.column]}


def class_rows(
    labels: Mapping[int, str], names: Sequence[str], classes: ClassNumbers, numbers: Mapping[str, int] | None
) -> dict[int, int]:
    """Row of the class of every instance; instances of other classes, such as walls, are left out.

    Args:
        labels: Label of every instance.
        names: Names of the benchmark's classes, in the order of its channels.
        classes: Their numbers.
        numbers: Number of every label; None = labels count only where they are a class's name.

    Example:
        >>> from tokengroups.data.readers.scannet_labels import NUMBERS, class_rows
        >>> table = {"office chair": 5, "wall": 1}  # NYU40
        >>> class_rows({0: "office chair", 1: "wall"}, ("cabinet", "bed", "chair"), NUMBERS["scannet"], table)
        {0: 2}
    """
    if numbers is None:
        known = {plain_name(name): row for row, name in enumerate(names)}
        rows = {instance: known.get(plain_name(label)) for instance, label in labels.items()}
    else:
        places = {number: row for row, number in enumerate(classes.numbers)}
        found = {instance: numbers.get(label, -1) for instance, label in labels.items()}
        rows = {instance: places.get(classes.exchanged.get(number, number)) for instance, number in found.items()}
    return {instance: row for instance, row in rows.items() if row is not None}


def plain_name(name: str) -> str:
    """A class's name without case and spaces: data sets and checkpoints differ in these."""
    return "".join(name.lower().split())
