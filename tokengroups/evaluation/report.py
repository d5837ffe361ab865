"""An evaluation as text: a table under its protocol."""

from __future__ import annotations

import math
import textwrap

from tokengroups.evaluation.masks import GroupScores
from tokengroups.evaluation.results import EvaluationResult

_WIDTH = 100


def format_report(result: EvaluationResult) -> str:
    """The protocol, then one table per kind of number; `-` = not measured or not defined."""
    geometry = result.geometry
    images = [
        ("PSNR (dB)", _number(result.psnr, 2)),
        ("PSNR of the nearest photo", _number(result.psnr_nearest_view, 2)),
        ("SSIM", _number(result.ssim, 3)),
        ("LPIPS", _number(result.lpips, 3)),
        ("depth AbsRel", _number(geometry.depth_absrel, 3)),
        ("point error / distance", _number(geometry.point_error, 3)),
        ("rotation error (deg)", _number(geometry.rotation_error_deg, 1)),
        ("translation direction (deg)", _number(geometry.translation_error_deg, 1)),
        ("translation length ratio", _number(geometry.translation_length_ratio, 2)),
        ("groups used", _number(result.groups_used, 1)),
        ("seconds per scene", _number(result.seconds_per_scene, 2)),
    ]
    width = max(len(name) for name, _ in images)
    lines = [
        textwrap.fill(result.protocol.text, _WIDTH),
        "",
        *(f"{name:<{width}}  {value:>7}" for name, value in images),
        "",
        *_group_table(result, width),
    ]
    return "\n".join(lines)


def _group_table(result: EvaluationResult, width: int) -> list[str]:
    rows = [
        ("token groups", result.groups),
        ("planes + HDBSCAN", result.planes_hdbscan),
        ("oracle", result.oracle),
    ]
    width = max(width, *(len(name) for name, _ in rows))
    header = "".join(f"{name:>9}" for name in ("AP all", "AP50", "AP25", "AP obj", "AP50", "AP25"))
    return [f"{'':<{width}}{header}", *(f"{name:<{width}}{_scores(scores)}" for name, scores in rows)]


def _scores(scores: GroupScores) -> str:
    values = [value for part in (scores.all, scores.objects) for value in (part.ap, part.ap50, part.ap25)]
    return "".join(f"{_number(value, 3):>9}" for value in values)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
