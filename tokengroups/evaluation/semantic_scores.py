"""Summary of semantics over scenes: pooled segmentation, retrieval and calibration, and costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tokengroups.evaluation.retrieval_metrics import (
    LOOSE_IOU,
    STRICT_IOU,
    Answers,
    MatchPairs,
    calibration_error,
    recall,
)
from tokengroups.evaluation.scene_numbers import COSTS, summarise
from tokengroups.evaluation.segmentation import ClassCounts, segmentation_scores


@dataclass(frozen=True)
class SceneSemantics:
    """Semantics of one scene, in the form that can be pooled."""

    counts: dict[str, ClassCounts]  # "source": photos, at their predicted cameras; "target": target views
    answers: dict[str, Answers]  # to queries by class "names", and by phrases "unseen" in training
    pairs: dict[str, MatchPairs]  # of the same texts
    costs: dict[str, float]  # under the names of `COSTS`


def summarise_semantics(scenes: Sequence[SceneSemantics | None]) -> dict[str, float]:
    """Pool pixels, queries and pairs of all scenes that have semantics; NaN where nothing is asked or labelled.

    Names of the JSON. mIoU without a variant in its name is `image_present` (see `SegmentationScores`); recall without
    one counts first answers with IoU above 0.25. "true" numbers are ceilings (see `Answers`).
    """
    measured = [scene for scene in scenes if scene is not None]
    numbers: dict[str, float] = {}
    for views in ("source", "target"):
        scores = segmentation_scores([scene.counts[views] for scene in measured])
        numbers |= {
            f"miou_{views}": scores.image_present,
            f"acc_{views}": scores.accuracy,
            f"miou_{views}_dataset": scores.dataset,
            f"miou_{views}_image_zero": scores.image_zero,
        }
    for kind in ("names", "unseen"):
        answers = [scene.answers[kind] for scene in measured]
        numbers |= {
            f"recall1_{kind}": recall([each.ious > LOOSE_IOU for each in answers]),
            f"recall1_{kind}_50": recall([each.ious > STRICT_IOU for each in answers]),
            f"recall1_{kind}_true_labels": recall([each.ious_true_labels > LOOSE_IOU for each in answers]),
            f"recall1_{kind}_true_groups": recall([each.hits_true_groups for each in answers]),
            f"calibration_error_{kind}": calibration_error([scene.pairs[kind] for scene in measured]),
        }
    return numbers | (summarise([scene.costs for scene in measured]) if measured else dict.fromkeys(COSTS, math.nan))
