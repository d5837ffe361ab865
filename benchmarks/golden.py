"""Errors of this code against golden files, which reference implementations wrote.

Run: ``python benchmarks/golden.py KIND FILE [--json OUT]`` with KIND = vggt, raster, iggt_heads or segvggt. Prints the
relative error (L2) of every stored output and the gate below which it must stay. The exit code is 1 if one is above its
gate, and 2 if the file is of another kind.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from golden_file import Comparison, read_golden

from tokengroups.cli.main import guarded
from tokengroups.cli.output import print_table
from tokengroups.errors import UserError
from tokengroups.io.files import write_text

KINDS = {
    "vggt": "golden_vggt:compare_vggt",
    "raster": "golden_raster:compare_raster",
    "iggt_heads": "golden_iggt:compare_iggt_heads",
    "segvggt": "golden_segvggt:compare_segvggt",
}
ABOVE_GATE = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Compare one file; returns the exit code."""
    parser = argparse.ArgumentParser("golden.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=tuple(KINDS), help="what the file holds")
    parser.add_argument("file", type=Path, help="golden file")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the errors to this file")
    args = parser.parse_args(argv)
    failed: list[Comparison] = []

    def run() -> None:
        rows = compare(args.kind, args.file)
        failed.extend(row for row in rows if not row.passed)
        print_table([_cells(row) for row in rows], ["output", "error", "gate", "largest", ""], left={0, 4})
        print(f"{len(rows) - len(failed)} of {len(rows)} errors below their gates")
        if args.json is not None:
            report = describe(args.kind, args.file, rows)
            write_text(args.json, json.dumps(report, indent=1, allow_nan=False) + "\n")

    return guarded(run) or (ABOVE_GATE if failed else 0)


def compare(kind: str, path: Path) -> list[Comparison]:
    """Compare every stored output of a file.

    Raises:
        UserError: The file cannot be read or is of another kind.
    """
    module, _, function = KINDS[kind].partition(":")
    rows = getattr(importlib.import_module(module), function)(read_golden(path))
    if not rows:
        raise UserError(f"{path}: nothing in it can be compared")
    return rows


def describe(kind: str, path: Path, rows: Sequence[Comparison]) -> dict[str, Any]:
    """Plain values of a comparison; an infinite or undefined error is null."""
    return {
        "kind": kind,
        "file": path.name,
        "torch": torch.__version__,
        "passed": all(row.passed for row in rows),
        "outputs": [
            {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in all_of}
            for all_of in ((asdict(row) | {"passed": row.passed}).items() for row in rows)
        ],
    }


def _cells(row: Comparison) -> list[str]:
    verdict = "" if row.passed else "above the gate"
    return [row.name, f"{row.error:.2e}", f"{row.gate:.0e}", f"{row.largest:.2e}", verdict]


if __name__ == "__main__":
    raise SystemExit(main())
