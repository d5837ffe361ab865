"""What an evaluation returns, as dataclasses and as the JSON that `tokengroups evaluate --json` writes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from tokengroups.evaluation.geometry_metrics import GeometryMetrics
from tokengroups.evaluation.masks import GroupScores
from tokengroups.evaluation.protocol import Protocol
from tokengroups.evaluation.semantic_scores import SemanticScores

PER_SCENE = ("miou_source", "miou_target", "acc_source", "acc_target", "recall1_names", "recall1_unseen")


@dataclass(frozen=True)
class SceneResult:
    """One scene: means over its target views."""

    name: str
    psnr: float
    ssim: float
    lpips: float | None
    psnr_nearest_view: float
    groups: GroupScores  # of this scene alone: their mean over the scenes is not the pooled AP
    geometry: GeometryMetrics
    scale: float  # predicted units per metre
    groups_used: int
    seconds: float
    semantics: SemanticScores | None  # None without semantics
    metrics: dict[str, float]  # those of `tokengroups.evaluation.metrics`


@dataclass(frozen=True)
class EvaluationResult:
    """Numbers over all scenes. AP pools their predictions; the rest are means except where said."""

    protocol: Protocol
    psnr: float
    ssim: float
    lpips: float | None
    groups: GroupScores
    oracle: GroupScores
    planes_hdbscan: GroupScores
    psnr_nearest_view: float
    geometry: GeometryMetrics  # depth and points: mean; cameras: median over the scenes
    groups_used: float
    seconds_per_scene: float
    semantics: SemanticScores | None  # None for models without semantics
    metrics: dict[str, float]  # means over the scenes
    scenes: tuple[SceneResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values under the documented names; what is undefined is null."""
        values = {
            "protocol": dataclasses.asdict(self.protocol),
            "psnr": self.psnr,
            "ssim": self.ssim,
            "lpips": self.lpips,
            **_scores(self.groups, ""),
            **_scores(self.oracle, "_oracle"),
            **_scores(self.planes_hdbscan, "_planes_hdbscan"),
            "psnr_nearest_view": self.psnr_nearest_view,
            **dataclasses.asdict(self.geometry),
            "groups_used": self.groups_used,
            "seconds_per_scene": self.seconds_per_scene,
            **_meaning(self.semantics),
            "metrics": self.metrics,
            "per_scene": [_scene(scene) for scene in self.scenes],
        }
        return _finite(values)


def _scores(scores: GroupScores, suffix: str) -> dict[str, float]:
    return {
        f"{level}_{kind}{suffix}": getattr(average, level)
        for kind, average in (("all", scores.all), ("objects", scores.objects))
        for level in ("ap", "ap50", "ap25")
    }


def _scene(scene: SceneResult) -> dict[str, Any]:
    values = {field.name: getattr(scene, field.name) for field in dataclasses.fields(scene)}
    del values["groups"], values["geometry"], values["semantics"]
    meaning = _meaning(scene.semantics)
    return {
        **values,
        **_scores(scene.groups, ""),
        **dataclasses.asdict(scene.geometry),
        **{name: meaning[name] for name in PER_SCENE},
    }


def _meaning(scores: SemanticScores | None) -> dict[str, float | None]:
    names = [field.name for field in dataclasses.fields(SemanticScores)]
    return {name: None if scores is None else getattr(scores, name) for name in names}


def _finite(value: Any) -> Any:
    """Replace NaN, which JSON does not know, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
