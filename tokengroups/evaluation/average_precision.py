"""Class-agnostic average precision by the rules of ScanNet's 3D instance benchmark.

The rules are those of ScanNet's `evaluate_semantic_instance.py` with one class. An element is a pixel of a scene's
rendered views, flattened to one vector, instead of a mesh vertex. Peculiarities kept on purpose: nine thresholds that
stop at 0.90, IoU strictly above the threshold, void counted in a prediction's size, greedy matching in input order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

THRESHOLDS = tuple(float(t) for t in np.arange(0.5, 0.95, 0.05))  # .50 ... .90
LOOSE_THRESHOLD = 0.25
MIN_PIXELS = 100  # smaller predictions are dropped, smaller instances are not missed


@dataclass(frozen=True)
class SceneOverlaps:
    """Pixel counts of one scene with P kept predictions and M instances."""

    confidences: Float[np.ndarray, " P"]
    sizes: Int[np.ndarray, " P"]  # pixels of each prediction, void included
    void: Int[np.ndarray, " P"]  # unlabelled ones among them
    instance_sizes: Int[np.ndarray, " M"]
    intersections: Int[np.ndarray, "P M"]
    min_pixels: int


@dataclass(frozen=True)
class AveragePrecision:
    """AP over a set of scenes; NaN where no scene has an instance."""

    ap: float  # mean over the nine thresholds
    ap50: float
    ap25: float
    by_threshold: tuple[float, ...]  # at THRESHOLDS


def count_overlaps(
    masks: Bool[np.ndarray, "P X"],
    confidences: Float[np.ndarray, " P"],
    instance_ids: Int[np.ndarray, " X"],
    min_pixels: int = MIN_PIXELS,
) -> SceneOverlaps:
    """Count the pixels of predictions and instances in common, and drop predictions below `min_pixels`.

    Args:
        masks: Predicted masks over all views of the scene; they may overlap.
        confidences: Score of each prediction; only their order matters.
        instance_ids: True instance of every pixel; negative = void.
        min_pixels: Smallest prediction and smallest instance that count.
    """
    keep = masks.sum(axis=1) >= min_pixels
    masks, confidences = masks[keep], confidences[keep]
    ids = np.unique(instance_ids[instance_ids >= 0])
    instances = instance_ids[None] == ids[:, None]
    # float32 counts exactly up to 2^24 pixels and multiplies fast
    intersections = masks.astype(np.float32) @ instances.astype(np.float32).T
    return SceneOverlaps(
        confidences=confidences,
        sizes=masks.sum(axis=1),
        void=masks[:, instance_ids < 0].sum(axis=1),
        instance_sizes=instances.sum(axis=1),
        intersections=intersections.astype(np.int64),
        min_pixels=min_pixels,
    )


def average_precision(scenes: Sequence[SceneOverlaps]) -> AveragePrecision:
    """AP, AP50 and AP25 with the predictions of all scenes ranked together.

    Example:
        >>> import numpy as np
        >>> from tokengroups.evaluation.average_precision import average_precision, count_overlaps
        >>> truth = np.array([0, 0, 0, 0, 1, 1, 1, -1])  # instance of every pixel; -1 = void
        >>> masks = np.array([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 0, 0]], dtype=bool)
        >>> scene = count_overlaps(masks, np.array([0.9, 0.8]), truth, min_pixels=1)
        >>> result = average_precision([scene])  # the second mask has IoU 2/3: found at .50 to .65
        >>> round(result.ap50, 3), round(result.ap, 3)
        (1.0, 0.722)
    """
    by_threshold = tuple(_ap_at(scenes, threshold) for threshold in THRESHOLDS)
    loose = _ap_at(scenes, LOOSE_THRESHOLD)
    return AveragePrecision(float(np.mean(by_threshold)), by_threshold[0], loose, by_threshold)


def _ap_at(scenes: Sequence[SceneOverlaps], threshold: float) -> float:
    hits, errors, misses = zip(*(_match(scene, threshold) for scene in scenes), strict=True)
    true, false = np.concatenate(hits), np.concatenate(errors)
    if len(true) + sum(misses) == 0:
        return float("nan")
    return _area_under_curve(true, false, sum(misses)) if len(true) else 0.0


def _match(scene: SceneOverlaps, threshold: float) -> tuple[list[float], list[float], int]:
    """Match one scene: instances in order of their ids, for each the predictions in input order.

    A prediction that also passes for an instance already found costs a false positive with the lower of the
    two scores, while the instance keeps the higher.

    Returns:
        Scores of true positives and of false positives; number of missed instances.
    """
    unions = scene.sizes[:, None] + scene.instance_sizes[None] - scene.intersections
    passes = scene.intersections / unions > threshold
    large = scene.instance_sizes >= scene.min_pixels
    used = np.zeros(len(scene.sizes), dtype=bool)
    true: list[float] = []
    false: list[float] = []
    missed = 0
    for instance in np.flatnonzero(large):
        found = np.flatnonzero(passes[:, instance] & ~used)
        if len(found) == 0:
            missed += 1
            continue
        used[found[0]] = True
        best = float(scene.confidences[found[0]])
        for score in scene.confidences[found[1:]].tolist():
            false.append(min(best, score))
            best = max(best, score)
        true.append(best)
    ignored = scene.void + scene.intersections[:, ~large].sum(axis=1)
    counts = ~passes.any(axis=1) & (ignored / scene.sizes <= threshold)
    return true, false + scene.confidences[counts].tolist(), missed


def _area_under_curve(true: np.ndarray, false: np.ndarray, missed: int) -> float:
    """Area under precision over recall as ScanNet integrates it: no envelope, central differences."""
    scores = np.unique(np.concatenate([true, false]))
    hits = (true[None] >= scores[:, None]).sum(axis=1)
    claims = hits + (false[None] >= scores[:, None]).sum(axis=1)
    precision = np.append(hits / claims, 1.0)
    recall = np.append(hits / (len(true) + missed), 0.0)
    padded = np.concatenate([recall[:1], recall, [0.0]])
    return float(np.sum(precision * (padded[:-2] - padded[2:]) / 2))
