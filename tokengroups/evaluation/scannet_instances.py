"""Instances on the points of a scene, scored by the rules of ScanNet's 3D benchmark: with classes, and without.

P predictions, which are pairs of a mask and a class, M masks, N points. The matching rules are those of
`average_precision`; here an element is a point. With classes, predictions and instances of a class are matched among
themselves, and the points of other classes' instances are no void. Without, all classes are one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import fmean

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.evaluation.average_precision import MIN_PIXELS, SceneOverlaps, average_precision, count_overlaps
from tokengroups.evaluation.vertex_masks import Masks, Rule, Sight, hold_ballot, vote_in_segments

MIN_POINTS = MIN_PIXELS  # of a prediction, and of an instance that can be missed
LEVELS = ("ap", "ap50", "ap25")
_AT_ONCE = 2**24  # votes of points on masks: 64 MiB of counts, and some times as much in copies


@dataclass(frozen=True)
class PointTruth:
    """True instances of the points of a scene."""

    instance_ids: Int64[np.ndarray, " N"]  # -1 = none
    rows: Mapping[int, int]  # row of the class of the instances that count; all others are void
    segments: Int64[Tensor, " N"] | None = None  # superpoint, from 0 on; None = there are none
    structure: frozenset[int] = frozenset()  # instances such as walls, which are void for `objects`

    @cached_property
    def counted_ids(self) -> Int64[np.ndarray, " N"]:
        """Instances that count; -1 = void."""
        return np.where(np.isin(self.instance_ids, list(self.rows)), self.instance_ids, -1)


@dataclass(frozen=True)
class Ranking:
    """Predictions in the order in which they are matched."""

    masks: Int64[np.ndarray, " P"]  # index of the mask; several predictions may share one
    scores: Float[np.ndarray, " P"]
    rows: Int64[np.ndarray, " P"] | None = None  # row of the class; None = one class for all


@dataclass(frozen=True)
class InstanceOverlaps:
    """Points that predictions and instances of one scene have in common."""

    agnostic: SceneOverlaps
    objects: SceneOverlaps | None = None  # with structure as void, where there is some
    classes: Mapping[int, SceneOverlaps] = field(default_factory=dict)  # by the class's row


@dataclass(frozen=True)
class _CountedMasks:
    """Masks of points that are large enough for a prediction."""

    numbers: Int64[np.ndarray, " m"]  # ascending
    overlaps: SceneOverlaps  # without confidences


def measure_instances(
    masks: Masks,
    agnostic: Ranking,
    aware: Ranking | None,
    sights: Sequence[Sight],
    truth: PointTruth,
    rules: Sequence[Rule],
) -> dict[Rule, InstanceOverlaps]:
    """Move masks of photos to the points of a scene and compare them with the truth, once for every rule.

    Masks are taken in blocks, and the photos one after the other.

    Args:
        masks: Of the photos.
        agnostic: Predictions without classes.
        aware: Predictions with classes; None = there are none.
        sights: What every photo shows of the points, at least one.
        truth: Of the points.
        rules: How a point's visible views are combined.
    """
    num_points = len(truth.instance_ids)
    block = max(_AT_ONCE // max(num_points, 1), 1)
    parts: dict[Rule, list[_CountedMasks]] = {rule: [] for rule in rules}
    for first in range(0, max(len(masks), 1), block):
        ballot = hold_ballot(masks, sights, num_points, slice(first, first + block))
        for rule in rules:
            found = ballot.decide(rule, masks.threshold)
            found = found if truth.segments is None else vote_in_segments(found, truth.segments.to(found.device))
            parts[rule].append(_count(found.cpu().numpy(), truth, first))
    return {rule: _rank(_join(parts[rule]), agnostic, aware, truth) for rule in rules}


def mask_overlaps(
    masks: Bool[np.ndarray, "M N"], agnostic: Ranking, aware: Ranking | None, truth: PointTruth
) -> InstanceOverlaps:
    """Compare masks of points with the truth.

    Example:
        >>> import numpy as np
        >>> from tokengroups.evaluation.scannet_instances import PointTruth, Ranking, instance_scores, mask_overlaps
        >>> ids = np.repeat([0, 1, -1], 200)  # a chair, a table, nothing
        >>> ranking = Ranking(np.array([0, 1]), np.array([0.9, 0.8]), np.array([0, 0]))  # two chairs
        >>> masks = np.stack([ids == 0, ids == 1])
        >>> found = mask_overlaps(masks, ranking, ranking, PointTruth(ids, {0: 0, 1: 1}))
        >>> scores = instance_scores([found], ("chair", "table"))
        >>> scores["agnostic_ap"], scores["ap"], scores["ap_by_class"]  # the table is a mistake of a lower score
        (1.0, 0.5, {'chair': 1.0, 'table': 0.0})
    """
    return _rank(_count(masks, truth), agnostic, aware, truth)


def instance_scores(scenes: Sequence[InstanceOverlaps], names: Sequence[str]) -> dict[str, float | dict[str, float]]:
    """AP over a set of scenes, their predictions ranked together.

    Returns:
        ``agnostic_ap``, ``agnostic_ap50``, ``agnostic_ap25``; the same with ``_objects`` where there is structure;
        ``ap``, ``ap50``, ``ap25`` as means over the classes of which a scene has an instance; ``ap_by_class``, ...
    """
    numbers: dict[str, float | dict[str, float]] = {}
    kinds = {"": [scene.agnostic for scene in scenes]}
    if any(scene.objects is not None for scene in scenes):
        kinds["_objects"] = [scene.objects or scene.agnostic for scene in scenes]
    for suffix, overlaps in kinds.items():
        found = average_precision(overlaps)
        numbers |= {f"agnostic_{level}{suffix}": getattr(found, level) for level in LEVELS}
    rows: Collection[int] = sorted({row for scene in scenes for row in scene.classes})
    if not rows:
        return numbers
    found = {row: average_precision([scene.classes[row] for scene in scenes if row in scene.classes]) for row in rows}
    for level in LEVELS:
        values = {names[row]: float(getattr(each, level)) for row, each in found.items()}
        known = {name: value for name, value in values.items() if value == value}  # a NaN class has no instance
        numbers |= {level: fmean(known.values()) if known else float("nan"), f"{level}_by_class": known}
    return numbers


def _count(masks: Bool[np.ndarray, "m N"], truth: PointTruth, first: int = 0) -> _CountedMasks:
    """Overlaps of those masks that are large enough with the instances that count."""
    large = np.flatnonzero(masks.sum(axis=1) >= MIN_POINTS)
    overlaps = count_overlaps(masks[large], np.zeros(len(large)), truth.counted_ids, MIN_POINTS)
    return _CountedMasks(first + large, overlaps)


def _join(parts: Sequence[_CountedMasks]) -> _CountedMasks:
    """Several blocks of masks with the same instances."""
    names = ("confidences", "sizes", "void", "intersections")
    joint = {name: np.concatenate([getattr(part.overlaps, name) for part in parts]) for name in names}
    return _CountedMasks(np.concatenate([part.numbers for part in parts]), replace(parts[0].overlaps, **joint))


def _rank(counted: _CountedMasks, agnostic: Ranking, aware: Ranking | None, truth: PointTruth) -> InstanceOverlaps:
    """Overlaps of predictions from those of the masks."""
    ids = truth.counted_ids
    instances = np.unique(ids[ids >= 0])  # the order of `count_overlaps`
    structure = np.isin(instances, list(truth.structure))
    all_of = _select(counted, agnostic, np.arange(len(instances)))
    classes: dict[int, SceneOverlaps] = {}
    if aware is not None:
        assert aware.rows is not None
        rows = np.array([truth.rows[int(instance)] for instance in instances], np.int64)
        for row in np.union1d(rows, aware.rows).tolist():
            mine = aware.rows == row
            one_class = Ranking(aware.masks[mine], aware.scores[mine])
            classes[row] = _select(counted, one_class, np.flatnonzero(rows == row))
    return InstanceOverlaps(all_of, _as_void(all_of, structure) if structure.any() else None, classes)


def _select(counted: _CountedMasks, ranking: Ranking, instances: Int64[np.ndarray, " i"]) -> SceneOverlaps:
    """Overlaps of some predictions with some instances; predictions with small masks are left out."""
    kept = np.isin(ranking.masks, counted.numbers)
    rows, overlaps = np.searchsorted(counted.numbers, ranking.masks[kept]), counted.overlaps
    return replace(
        overlaps,
        confidences=ranking.scores[kept],
        sizes=overlaps.sizes[rows],
        void=overlaps.void[rows],
        instance_sizes=overlaps.instance_sizes[instances],
        intersections=overlaps.intersections[rows][:, instances],
    )


def _as_void(overlaps: SceneOverlaps, hidden: Bool[np.ndarray, " I"]) -> SceneOverlaps:
    """Take some instances for unlabelled points."""
    return replace(
        overlaps,
        void=overlaps.void + overlaps.intersections[:, hidden].sum(axis=1),
        instance_sizes=overlaps.instance_sizes[~hidden],
        intersections=overlaps.intersections[:, ~hidden],
    )
