"""What the commands share in talking to people and programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tokengroups.types import TokenScene

T = TypeVar("T")
_BAR_DELAY_S = 1.0


def print_json(content: Any) -> None:
    """Print a JSON document on stdout."""
    print(json.dumps(content, indent=1))


def progress(items: Iterable[T], total: int, what: str) -> Iterable[T]:
    """Show a bar on a terminal's stderr if the work takes longer than a second."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, leave=False, delay=_BAR_DELAY_S, disable=None)


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str], left: set[int]) -> None:
    """Print columns padded to their widest cell; those in `left` flush left, the others flush right."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, *rows]:
        cells = enumerate(zip(row, widths, strict=True))
        print("  ".join(cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in cells).rstrip())


def describe(scene: TokenScene) -> str:
    """One line about a scene."""
    height, width = scene.cameras.size_hw
    views = len(scene.cameras.intrinsics)
    counts = f"{len(scene.group_ids)} groups, {len(scene.anchors):,} anchors"
    counts += f", {len(scene.gaussians.means):,} Gaussians"
    return f"{counts}, {views} context view{'s' if views > 1 else ''} of {width}x{height}"
