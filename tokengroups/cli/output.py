"""Printed output of the commands: JSON, tables, notes, progress bars and summaries; pictures of a scene as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tokengroups.cli.streams import complain, writing_stdout
from tokengroups.reading import escaped

if TYPE_CHECKING:
    from torch import Tensor

    from tokengroups.types import TokenScene

T = TypeVar("T")


def say(line: str = "") -> None:
    """Print one line on stdout. Names in it cannot steer the terminal: their control characters are escaped."""
    with writing_stdout():
        print(escaped(line))


def print_json(content: Any) -> None:
    """Print a JSON document on stdout."""
    with writing_stdout():
        print(json.dumps(content, indent=1))


def note(message: str) -> None:
    """Print a note on stderr."""
    complain(f"note: {message}")


def progress(items: Iterable[T], total: int, what: str) -> Iterable[T]:
    """Show a bar on a terminal's stderr if the work takes longer than a second."""
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, leave=False, delay=1.0, disable=None)


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str], left: set[int]) -> None:
    """Print columns padded to their widest cell; those in `left` flush left, the others flush right."""
    table = [[escaped(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        cells = enumerate(zip(row, widths, strict=True))
        say("  ".join(cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in cells).rstrip())


def counted(number: int, noun: str) -> str:
    """Number and noun, such as "1 photo" or "2 photos"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def describe(scene: TokenScene) -> str:
    """Sizes of a scene in one line."""
    height, width = scene.cameras.size_hw
    groups, anchors, gaussians = len(scene.group_ids), len(scene.anchors), len(scene.gaussians.means)
    counts = f"{counted(groups, 'group')}, {counted(anchors, 'anchor')}, {counted(gaussians, 'Gaussian')}"
    return f"{counts}, {counted(len(scene.cameras.intrinsics), 'context view')} of {width}x{height}"


def scene_summary(
    path: Path, scene: TokenScene, photos: Sequence[str], notes: Sequence[str], seconds: float
) -> dict[str, Any]:
    """Facts about a scene that was made of photos, as JSON prints them."""
    return {
        "scene": str(path),
        "photos": list(photos),
        "notes": list(notes),
        "size_hw": list(scene.cameras.size_hw),
        "num_groups": len(scene.group_ids),
        "num_gaussians": len(scene.gaussians.means),
        "seconds": round(seconds, 3),
    }


def print_summary(summary: dict[str, Any], as_json: bool, details: str = "") -> None:
    """Print a `scene_summary` as JSON or as text, in which `details` follow the time that the work took."""
    if as_json:
        print_json(summary)
        return
    for message in summary["notes"]:
        say(f"note: {message}")
    height, width = summary["size_hw"]
    made = (
        f"{counted(len(summary['photos']), 'photo')} at {width}x{height} -> {counted(summary['num_groups'], 'group')}, "
        f"{counted(summary['num_gaussians'], 'Gaussian')} in {summary['seconds']:.2f} s{details}"
    )
    for line in made.split("\n"):
        say(line)
    say(f"wrote {summary['scene']}; next: tokengroups list {summary['scene']}")


def save_pictures(folder: str | Path, pictures: Iterable[tuple[str, Tensor]]) -> list[Path]:
    """Write colour pictures [H, W, 3] as PNG files of the given names without suffix, all or none; return the files."""
    from tokengroups.io.files import staged_folder
    from tokengroups.io.pictures import save_color

    names = []
    with staged_folder(folder) as staging:
        for name, picture in pictures:
            names.append(f"{name}.png")
            save_color(staging / names[-1], picture)
    return [Path(folder) / name for name in names]
