"""AP on points by ScanNet's rules: golden cases with and without classes, rules by hand, a replica of a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scannet_replica as replica
import torch

from tokengroups.evaluation import scannet_instances
from tokengroups.evaluation.scannet_instances import (
    InstanceOverlaps,
    PointTruth,
    Ranking,
    instance_scores,
    mask_overlaps,
    measure_instances,
)
from tokengroups.evaluation.vertex_masks import (
    RULES,
    LabelMasks,
    QueryMasks,
    Sight,
    hold_ballot,
    visible_points,
    vote_in_segments,
)

Case = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids, masks, scores


def golden_scenes(golden: np.lib.npyio.NpzFile, case: int) -> list[Case]:
    scenes = []
    for scene in range(int(golden[f"c{case}_n"])):
        ids = golden[f"c{case}_s{scene}_gt"].astype(np.int64)
        masks = np.unpackbits(golden[f"c{case}_s{scene}_masks"], axis=1, count=len(ids)).astype(bool)
        scenes.append((np.where(ids == 0, -1, ids), masks, golden[f"c{case}_s{scene}_conf"]))
    return scenes


def one_class(ids: np.ndarray) -> dict[int, int]:
    return dict.fromkeys(np.unique(ids[ids >= 0]).tolist(), 0)


def expected_ap(golden: np.lib.npyio.NpzFile, case: int) -> list[float]:
    values = golden[f"c{case}_ap"]
    return [float(values[:9].mean()), float(values[0]), float(values[9])]


@pytest.mark.parametrize("case", range(0, 40, 4))
def test_golden_ap_without_classes(case: int, data_dir: Path) -> None:
    with np.load(data_dir / "ap_cases.npz") as golden:
        scenes, expected = golden_scenes(golden, case), expected_ap(golden, case)
    found = [
        mask_overlaps(masks, Ranking(np.arange(len(masks)), scores), None, PointTruth(ids, one_class(ids)))
        for ids, masks, scores in scenes
    ]
    scores = instance_scores(found, ())
    got = [scores[f"agnostic_{level}"] for level in ("ap", "ap50", "ap25")]
    assert got == pytest.approx(expected, abs=1e-12) and "ap" not in scores


@pytest.mark.parametrize("pair", [(0, 1), (2, 9), (5, 30), (17, 22), (38, 39)])
def test_golden_ap_of_every_class_by_itself(pair: tuple[int, int], data_dir: Path) -> None:
    """Two golden cases side by side, each a class: every class has its own AP, and the mean is theirs."""
    with np.load(data_dir / "ap_cases.npz") as golden:
        cases = [golden_scenes(golden, case) for case in pair]
        expected = [expected_ap(golden, case) for case in pair]
    scenes = [
        side_by_side([case[index] if index < len(case) else None for case in cases])
        for index in range(max(map(len, cases)))
    ]
    scores = instance_scores(scenes, ("first", "second"))
    for level, one, two in zip(("ap", "ap50", "ap25"), *expected, strict=True):
        by_class = scores[f"{level}_by_class"]
        assert isinstance(by_class, dict)
        assert by_class == pytest.approx({"first": one, "second": two}, abs=1e-12)
        assert scores[level] == pytest.approx((one + two) / 2, abs=1e-12)


def side_by_side(cases: list[Case | None]) -> InstanceOverlaps:
    """One scene of two cases in different points; predictions alternate between the classes."""
    present = [(row, case) for row, case in enumerate(cases) if case is not None]
    width = sum(len(ids) for _, (ids, _, _) in present)
    ids, masks, scores, rows, start = np.full(width, -1), [], [], [], 0
    for row, (own_ids, own, own_scores) in present:
        part = slice(start, start + len(own_ids))
        ids[part] = np.where(own_ids >= 0, own_ids + 1000 * row, -1)
        for mask, score in zip(own, own_scores, strict=True):
            masks.append(np.zeros(width, bool))
            masks[-1][part] = mask
            scores.append(score)
            rows.append(row)
        start = part.stop
    mixed = sorted(range(len(rows)), key=lambda index: (rows[:index].count(rows[index]), rows[index]))
    order = np.array(mixed, np.int64)
    ranking = Ranking(order, np.array(scores, float)[order], np.array(rows, np.int64)[order])
    classes = {int(instance): int(instance) // 1000 for instance in np.unique(ids[ids >= 0])}
    return mask_overlaps(np.array(masks).reshape(len(rows), width), ranking, ranking, PointTruth(ids, classes))


def test_points_of_other_classes_are_no_void_and_those_of_no_class_are() -> None:
    ids = np.repeat([0, 1, 2, -1], 200)  # chair, table, wall, nothing
    rows = {0: 0, 1: 1}  # walls are no class
    chair = np.zeros(800, bool)
    chair[:200] = True
    results = {}
    for name, place in (("table", 200), ("wall", 400), ("nothing", 600)):
        wrong = np.zeros(800, bool)
        wrong[place : place + 150] = True
        ranking = Ranking(np.array([0, 1]), np.array([0.8, 0.9]), np.array([0, 0]))
        found = mask_overlaps(np.stack([chair, wrong]), ranking, ranking, PointTruth(ids, rows))
        scores = instance_scores([found], ("c", "t"))
        by_class = scores["ap50_by_class"]
        assert isinstance(by_class, dict)
        results[name] = by_class["c"]
    # A better mistake: curve (1, 1/2), (0, 0), (0, 1), so 1/2 * (1 - 0) / 2; void is ignored.
    assert results == {"table": 0.25, "wall": 1.0, "nothing": 1.0}


def test_one_mask_may_be_predicted_with_several_classes() -> None:
    ids = np.repeat([5, 9], 150)
    masks = np.stack([ids == 5, ids == 9])
    ranking = Ranking(np.array([0, 1, 0]), np.array([0.9, 0.8, 0.1]), np.array([2, 1, 1]))
    scores = instance_scores([mask_overlaps(masks, ranking, ranking, PointTruth(ids, {5: 2, 9: 1}))], ("a", "b", "c"))
    assert scores["ap_by_class"] == {"b": 1.0, "c": 1.0} and scores["ap"] == 1.0  # 'a' has no instance


def test_small_instances_and_predictions_do_not_count() -> None:
    ids = np.concatenate([np.repeat(0, 99), np.repeat(1, 100)])
    masks, truth = np.stack([ids == 0, ids == 1]), PointTruth(ids, {0: 0, 1: 0})
    both = Ranking(np.array([0, 1]), np.array([0.9, 0.8]), np.array([0, 0]))
    scores = instance_scores([mask_overlaps(masks, both, both, truth)], ("a",))
    assert scores["ap"] == scores["agnostic_ap"] == 1.0
    small = Ranking(np.array([0]), np.array([0.9]), np.array([0]))
    missed = instance_scores([mask_overlaps(masks, small, small, truth)], ("a",))
    assert missed["ap"] == missed["agnostic_ap"] == 0.0


def test_structure_is_void_for_objects_alone() -> None:
    ids = np.repeat([0, 0, 1], 150)
    ranking = Ranking(np.array([0, 1]), np.array([0.9, 0.8]))
    truth = PointTruth(ids, {0: 0, 1: 1}, structure=frozenset({0}))
    part = (ids == 0) & (np.arange(450) < 110)  # 110 of the wall's 300 points
    scores = instance_scores([mask_overlaps(np.stack([part, ids == 1]), ranking, None, truth)], ())
    assert scores["agnostic_ap50_objects"] == scores["agnostic_ap_objects"] == 1.0
    assert scores["agnostic_ap50"] == 0.125  # curve (1/2, 1/2), (0, 0), (0, 1)


def replica_sights() -> list[Sight]:
    pinhole = torch.tensor([[52.0, 0, 31.5], [0, 50.0, 25.0], [0, 0, 1]], dtype=torch.float64)
    points, sights = torch.from_numpy(replica.points()[0]), []
    for pose in (replica.poses()[frame] for frame in replica.USED):
        depth = torch.from_numpy(replica.see(pose, replica.DEPTH_HW)[0])
        sights.append(visible_points(points, torch.from_numpy(np.linalg.inv(pose)), pinhole, depth))
    return sights


def test_true_masks_find_every_instance_of_a_scan() -> None:
    """At a size whose factors differ on the two axes; masks scaled alike on both would miss."""
    labels = np.stack([replica.see(replica.poses()[frame], (56, 90))[1] for frame in replica.USED])
    masks = LabelMasks(torch.from_numpy(labels), len(replica.RECTANGLES))
    ranking = Ranking(np.arange(5), np.linspace(0.9, 0.5, 5), np.array([4, 0, 1, 4, 2]))
    segments = torch.from_numpy(np.unique(replica.segments(), return_inverse=True)[1])
    truth = PointTruth(replica.points()[1], {1: 0, 2: 1, 4: 2}, segments)
    found = measure_instances(masks, ranking, ranking, replica_sights(), truth, RULES)
    for rule in RULES:
        scores = instance_scores([found[rule]], ("chair", "table", "pillow", "lamp", "wall"))
        assert scores["ap_by_class"] == {"chair": 1.0, "table": 1.0} and scores["agnostic_ap"] == 1.0


@pytest.mark.parametrize("with_segments", [True, False])
def test_blocks_change_nothing(with_segments: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, queries = torch.randn(3, 20, 30, 4), torch.randn(9, 4)
    segments = torch.from_numpy(np.unique(replica.segments(), return_inverse=True)[1]) if with_segments else None
    truth = PointTruth(replica.points()[1], {0: 0, 1: 0, 2: 1}, segments)
    ranking = Ranking(np.array([3, 0, 8, 3, 5]), np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([0, 1, 0, 1, 0]))
    seen, masks = replica_sights(), QueryMasks(queries, features, 0.4)
    monkeypatch.setattr(scannet_instances, "_AT_ONCE", 2 * len(truth.instance_ids))
    found = measure_instances(masks, ranking, ranking, seen, truth, RULES)
    ballot = hold_ballot(masks, seen, len(truth.instance_ids), slice(0, 9))
    for rule in RULES:
        whole = ballot.decide(rule, 0.4)
        whole = whole if segments is None else vote_in_segments(whole, segments)
        expected = mask_overlaps(whole.numpy(), ranking, ranking, truth)
        for part, other in [(found[rule].agnostic, expected.agnostic), (found[rule].classes[1], expected.classes[1])]:
            np.testing.assert_array_equal(part.intersections, other.intersections)
            np.testing.assert_array_equal(part.sizes, other.sizes)
            np.testing.assert_array_equal(part.void, other.void)
            np.testing.assert_array_equal(part.confidences, other.confidences)
        assert len(expected.agnostic.sizes) > 0


def test_no_masks_at_all_miss_everything() -> None:
    truth = PointTruth(replica.points()[1], {1: 0})
    nothing = Ranking(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    masks = QueryMasks(torch.zeros(0, 4), torch.zeros(3, 5, 5, 4), 0.4)
    found = measure_instances(masks, nothing, nothing, replica_sights(), truth, ("any",))
    scores = instance_scores([found["any"]], ("chair",))
    assert scores["ap"] == scores["agnostic_ap"] == 0.0
