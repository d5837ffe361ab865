"""Learning curves in ``metrics.jsonl`` in the output folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokengroups.io.files import write_text


class MetricsLog:
    """Writer of one JSON object a row: ``step``, ``seconds`` and named numbers; evaluations are ``evaluate/...``."""

    def __init__(self, output: Path) -> None:
        self.path = output / "metrics.jsonl"

    def keep_until(self, step: int) -> None:
        """Drop rows of later steps (and a row cut short), which the resumed run will write again."""
        rows = [row for row in read_metrics(self.path) if row["step"] <= step]
        if self.path.exists():
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def append(self, row: dict[str, Any]) -> None:
        """Write one row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read the rows of a ``metrics.jsonl``, but a last one that was cut short; no file, no rows."""
    path = Path(path)
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
