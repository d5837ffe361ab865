"""An evaluation as text: tables under the protocol."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from tokengroups.evaluation.open_vocabulary import PREDICTED, TRUE_FEATURES, VOXELS
from tokengroups.evaluation.results import GROUPINGS, EvaluationResult
from tokengroups.evaluation.scene_numbers import COSTS, NUMBERS

_WIDTH = 100


def format_report(result: EvaluationResult) -> str:
    """The protocol, then one table per kind of number; `-` = not measured or not defined."""
    numbers = result.numbers
    rows = [(row.label, _text(numbers[name], row.digits)) for name, row in NUMBERS.items() if row.label]
    rows.append(("class AP50 on the photos", _text(numbers["class_ap50"], 3)))
    rows += [(name, _text(value, 3)) for name, value in result.metrics.items()]
    width = max(len(label) for label, _ in rows)
    groups = {
        label: [f"{level}_{kind}{suffix}" for kind in ("all", "objects") for level in ("ap", "ap50", "ap25")]
        for suffix, label in GROUPINGS.items()
    }
    lines = [textwrap.fill(result.protocol.text(), _WIDTH), ""]
    lines += [f"{label:<{width}}  {value:>7}" for label, value in rows]
    lines += ["", *_table(numbers, groups, ("AP all", "AP50", "AP25", "AP obj", "AP50", "AP25"), width, 9)]
    if result.protocol.vocabulary is not None:
        lines += _classes_table(numbers, width)
    if result.protocol.embeddings is not None:
        lines += _semantics_tables(numbers, width)
    return "\n".join(lines)


def _classes_table(numbers: Mapping[str, float], width: int) -> list[str]:
    kinds = ("miou_2d", "miou_2d_scene_mean", "macc_2d", *(f"miou_{kind}" for kind in VOXELS))
    rows = {
        label: [f"{kind}{suffix}" for kind in kinds]
        for suffix, label in ((PREDICTED, "classes of groups"), (TRUE_FEATURES, "  true features"))
    }
    return [
        "",
        *_table(numbers, rows, ("mIoU 2D", "per scene", "mAcc 2D", "3D 5 cm", "3D 2 cm", "3D 10 cm"), width, 11),
    ]


def _semantics_tables(numbers: Mapping[str, float], width: int) -> list[str]:
    segmentation = {
        label: [f"miou_{views}", f"miou_{views}_dataset", f"miou_{views}_image_zero", f"acc_{views}"]
        for label, views in (("photos", "source"), ("target views", "target"))
    }
    queries = {
        f"recall@1, {label}": [
            *(f"recall1_{kind}{suffix}" for suffix in ("", "_50", "_true_labels", "_true_groups")),
            f"calibration_error_{kind}",
        ]
        for label, kind in (("class names", "names"), ("unseen phrases", "unseen"))
    }
    width = max(width, *map(len, queries))
    return [
        "",
        *_table(numbers, segmentation, ("mIoU", "dataset", "zero", "accuracy"), width, 14),
        "",
        *_table(numbers, queries, ("IoU .25", "IoU .50", "true labels", "true groups", "calib. error"), width, 14),
        "",
        *(f"{row.label:<{width}}  {_text(numbers[name], row.digits):>9}" for name, row in COSTS.items() if row.label),
    ]


def _table(
    numbers: Mapping[str, float], rows: Mapping[str, Sequence[str]], columns: Sequence[str], width: int, cell: int
) -> list[str]:
    """A header, then a line per row with the named numbers under the columns."""
    lines = {"": columns} | {label: [_text(numbers[name], 3) for name in names] for label, names in rows.items()}
    return [f"{label:<{width}}" + "".join(f"{text:>{cell}}" for text in texts) for label, texts in lines.items()]


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
