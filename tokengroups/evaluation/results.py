"""Results of an evaluation, and the JSON that `tokengroups evaluate --json` writes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any

from tokengroups.evaluation.class_precision import NamedOverlaps, class_ap50
from tokengroups.evaluation.masks import GroupOverlaps, group_scores
from tokengroups.evaluation.open_vocabulary import CLASS_NUMBERS, ClassOverlaps, summarise_classes
from tokengroups.evaluation.protocol import Protocol
from tokengroups.evaluation.scene_numbers import summarise
from tokengroups.evaluation.semantic_scores import SceneSemantics, summarise_semantics

# Labels of the groupings in the report by their suffixes in the JSON.
GROUPINGS = {"": "token groups", "_planes_hdbscan": "planes + HDBSCAN", "_oracle": "oracle"}
SEMANTICS_PER_SCENE = ("miou_source", "miou_target", "acc_source", "acc_target", "recall1_names", "recall1_unseen")


@dataclass(frozen=True)
class SceneResult:
    """One scene: its numbers, and what is pooled over scenes."""

    name: str
    scale: float  # predicted units per metre
    numbers: dict[str, float]  # under the names of `NUMBERS`
    overlaps: dict[str, GroupOverlaps]  # on the target views, by the suffix of the grouping
    photo_overlaps: dict[str, GroupOverlaps]  # on the photos, likewise
    named_overlaps: NamedOverlaps  # of the groups' own masks on the photos, by class
    semantics: SceneSemantics | None  # None without semantics
    classes: dict[str, ClassOverlaps]  # on the photos, by the source of the embeddings; empty without a text encoder
    metrics: dict[str, float]  # the user's, see `tokengroups.evaluation.metrics`
    steps: tuple[str, ...]  # names of the post-processing steps

    def to_json(self) -> dict[str, Any]:
        """Numbers of this scene alone; the mean of its AP over the scenes is not the pooled AP."""
        numbers = {"seconds" if name == "seconds_per_scene" else name: value for name, value in self.numbers.items()}
        semantics, classes = summarise_semantics([self.semantics]), summarise_classes([self.classes])
        return {
            "name": self.name,
            "scale": self.scale,
            **numbers,
            **group_scores([self.overlaps[""]]),
            **{name: semantics[name] for name in SEMANTICS_PER_SCENE},
            **{name: classes[name] for name in CLASS_NUMBERS},
            "metrics": self.metrics,
        }


@dataclass(frozen=True)
class EvaluationResult:
    """Results of all scenes under one protocol."""

    protocol: Protocol
    scenes: tuple[SceneResult, ...]

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Numbers over all scenes under the names of the JSON; AP and semantics are pooled, NaN = undefined."""
        scores = {suffix: group_scores([scene.overlaps[suffix] for scene in self.scenes]) for suffix in GROUPINGS}
        return {
            **summarise([scene.numbers for scene in self.scenes]),
            **{f"{name}{suffix}": value for suffix, named in scores.items() for name, value in named.items()},
            **self._photo_scores(),
            "class_ap50": class_ap50([scene.named_overlaps for scene in self.scenes]),
            **summarise_semantics([scene.semantics for scene in self.scenes]),
            **summarise_classes([scene.classes for scene in self.scenes]),
        }

    def _photo_scores(self) -> dict[str, float]:
        """AP of the masks on the photos: ``ap_photos_all`` and so on."""
        found = {}
        for suffix in self.scenes[0].photo_overlaps:
            for name, value in group_scores([scene.photo_overlaps[suffix] for scene in self.scenes]).items():
                found[f"{name.replace('_', '_photos_')}{suffix}"] = value
        return found

    @property
    def metrics(self) -> dict[str, float]:
        """Means of the user's metrics over the scenes."""
        return {name: fmean(scene.metrics[name] for scene in self.scenes) for name in self.scenes[0].metrics}

    def to_json(self) -> dict[str, Any]:
        """Plain values under the documented names; what is undefined is null."""
        values = {"protocol": self.protocol.to_json(), **self.numbers, "metrics": self.metrics}
        return _finite({**values, "per_scene": [scene.to_json() for scene in self.scenes]})


def _finite(value: Any) -> Any:
    """Replace NaN, which JSON does not know, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
