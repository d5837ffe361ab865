"""Learning curves in ``metrics.jsonl`` in the output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokengroups.io.files import write_error, write_text
from tokengroups.reading import path_kind, read_bytes

_LIMIT = 2**30  # bytes: some million rows


class MetricsLog:
    """Writer of one JSON object a row: ``step``, ``seconds`` and named numbers; evaluations are ``evaluate/...``."""

    def __init__(self, output: Path) -> None:
        self.path = output / "metrics.jsonl"

    def keep_until(self, step: int) -> None:
        """Drop rows of later steps, which the resumed run will write again, and damaged ones."""
        rows = [row for row in read_metrics(self.path) if row["step"] <= step]
        if path_kind(self.path) != "missing":
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def append(self, row: dict[str, Any]) -> None:
        """Write one row."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise write_error(self.path, error) from error


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read the rows of a ``metrics.jsonl`` but damaged ones, such as one that was cut short; no file, no rows."""
    if path_kind(path) == "missing":
        return []
    lines = read_bytes(path, "choose another output folder", _LIMIT).splitlines()
    return [row for row in map(_row, lines) if row is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    """A line's object; None if it is none, or has no step."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return row if isinstance(step, int) and not isinstance(step, bool) else None
