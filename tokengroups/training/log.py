"""Learning curves: ``metrics.jsonl`` in the output folder, and whatever trackers accelerate was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokengroups.io.files import write_text


class MetricsLog:
    """One JSON object a row: ``step``, ``seconds`` and named numbers; evaluations are named ``evaluate/...``."""

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
    """Rows of a ``metrics.jsonl``; empty if it is not there. A last row that was cut short is left out."""
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
