"""Numbers measured on every scene: their summary over the scenes and their row in the report.

A new built-in number is a line in `NUMBERS` and a value in `evaluate.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch


def nanmean(values: Sequence[float]) -> float:
    """Mean of the values that are defined, in float32."""
    return float(torch.tensor(values).nanmean())


def nanmedian(values: Sequence[float]) -> float:
    """Median of the values that are defined, in float32; the lower one of two."""
    return float(torch.tensor(values).nanmedian())


@dataclass(frozen=True)
class Number:
    """Presentation of a number and its summary over scenes."""

    label: str = ""  # of its row in the report; "" = no row
    digits: int = 3
    over_scenes: Callable[[Sequence[float]], float] = fmean


NUMBERS = {
    "psnr": Number("PSNR (dB)", 2),
    "psnr_nearest_view": Number("PSNR of the nearest photo", 2),
    "ssim": Number("SSIM"),
    "lpips": Number("LPIPS"),
    "depth_absrel": Number("depth AbsRel", 3, nanmean),
    "point_error": Number("point error / distance", 3, nanmean),
    "rotation_error_deg": Number("rotation error (deg)", 1, nanmedian),
    "translation_error_deg": Number("translation direction (deg)", 1, nanmedian),
    "translation_length_ratio": Number("translation length ratio", 2, nanmedian),
    "match_accuracy": Number(),  # of encoders alone
    "t_miou": Number("T-mIoU on the photos", 3, nanmean),
    "t_miou_all_views": Number("  absent views count", 3, nanmean),
    "t_sr": Number("T-SR on the photos", 3, nanmean),
    "t_miou_planes_hdbscan": Number("T-mIoU, planes + HDBSCAN", 3, nanmean),
    "t_miou_all_views_planes_hdbscan": Number("", 3, nanmean),
    "t_sr_planes_hdbscan": Number("", 3, nanmean),
    "t_miou_ceiling": Number("T-mIoU, nearest true mean", 3, nanmean),
    "groups_used": Number("groups used", 1),
    "seconds_per_scene": Number("seconds per scene", 2),
}
COSTS = {  # of semantics
    "semantic_units": Number("embeddings per scene", 1),
    "semantic_scalars": Number("scalars of semantics", 0),
    "semantic_bytes": Number(),
    "semantic_scalars_per_gaussian_baseline": Number("  one vector per Gaussian", 0),
    "query_ms": Number("query (ms)", 3, median),
    "search_ms": Number("  the search alone", 3, median),
    "search_ms_gaussians": Number("  over one vector per Gaussian", 3, median),
}


def summarise(scenes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Summary over all scenes of the numbers that they have.

    Means, but medians of camera errors and times; scenes with undefined geometry are left out.
    """
    table = NUMBERS | COSTS
    return {name: table[name].over_scenes([scene[name] for scene in scenes]) for name in scenes[0]}
