"""An evaluation as text: a table under its protocol."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from tokengroups.evaluation.masks import GroupScores
from tokengroups.evaluation.results import EvaluationResult
from tokengroups.evaluation.semantic_scores import SemanticScores

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
        *((name, _number(value, 3)) for name, value in result.metrics.items()),
    ]
    width = max(len(name) for name, _ in images)
    lines = [
        textwrap.fill(result.protocol.text, _WIDTH),
        "",
        *(f"{name:<{width}}  {value:>7}" for name, value in images),
        "",
        *_group_table(result, width),
    ]
    if result.semantics is not None:
        lines += ["", *_semantics_tables(result.semantics, width)]
    return "\n".join(lines)


def _group_table(result: EvaluationResult, width: int) -> list[str]:
    rows = [("token groups", result.groups), ("planes + HDBSCAN", result.planes_hdbscan), ("oracle", result.oracle)]
    width = max(width, *(len(name) for name, _ in rows))
    header = "".join(f"{name:>9}" for name in ("AP all", "AP50", "AP25", "AP obj", "AP50", "AP25"))
    return [f"{'':<{width}}{header}", *(f"{name:<{width}}{_scores(scores)}" for name, scores in rows)]


def _semantics_tables(scores: SemanticScores, width: int) -> list[str]:
    segmentation = {
        "photos": ("miou_source", "miou_source_dataset", "miou_source_image_zero", "acc_source"),
        "target views": ("miou_target", "miou_target_dataset", "miou_target_image_zero", "acc_target"),
    }
    queries = {
        f"recall@1, {label}": (
            *(f"recall1_{kind}{suffix}" for suffix in ("", "_50", "_true_labels", "_true_groups")),
            f"calibration_error_{kind}",
        )
        for label, kind in (("class names", "names"), ("unseen phrases", "unseen"))
    }
    sizes = [
        ("embeddings per scene", _number(scores.semantic_units, 1)),
        ("scalars of meaning", _number(scores.semantic_scalars, 0)),
        ("  one vector per Gaussian", _number(scores.semantic_scalars_per_gaussian_baseline, 0)),
        ("query (ms)", _number(scores.query_ms, 3)),
        ("  the search alone", _number(scores.search_ms, 3)),
        ("  over one vector per Gaussian", _number(scores.search_ms_gaussians, 3)),
    ]
    width = max(width, *(len(name) for name in queries))
    return [
        *_score_table(scores, segmentation, ("mIoU", "dataset", "zero", "accuracy"), width),
        "",
        *_score_table(scores, queries, ("IoU .25", "IoU .50", "true labels", "true groups", "calib. error"), width),
        "",
        *(f"{name:<{width}}  {value:>9}" for name, value in sizes),
    ]


def _score_table(
    scores: SemanticScores, rows: Mapping[str, Sequence[str]], columns: Sequence[str], width: int
) -> list[str]:
    """A line per row with the named scores under their columns."""
    cells = [f"{'':<{width}}" + "".join(f"{column:>14}" for column in columns)]
    return cells + [
        f"{label:<{width}}" + "".join(f"{_number(getattr(scores, name), 3):>14}" for name in names)
        for label, names in rows.items()
    ]


def _scores(scores: GroupScores) -> str:
    values = [value for part in (scores.all, scores.objects) for value in (part.ap, part.ap50, part.ap25)]
    return "".join(f"{_number(value, 3):>9}" for value in values)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
