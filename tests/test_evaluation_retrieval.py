"""Recall, ceilings, phrases and calibration on masks made by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tokengroups.data.procedural import CLASS_NAMES
from tokengroups.evaluation.masks import STRUCTURE_CLASSES
from tokengroups.evaluation.phrases import PHRASES
from tokengroups.evaluation.retrieval_metrics import (
    MatchPairs,
    Query,
    SharedPixels,
    answer,
    askable,
    calibration_error,
    match_pairs,
    name_queries,
    recall,
    share_pixels,
    true_label_tops,
)

CLASSES = {1: "chair", 2: "chair", 5: "sofa", 7: "cup", 8: "wall"}
CHAIR, SOFA = Query("chair", frozenset({"chair"})), Query("sofa", frozenset({"sofa"}))


def shared_pixels(groups: list[tuple[int, int]]) -> SharedPixels:
    """1000 pixels: chair [0,100), chair [100,200), sofa [200,400), cup [400,409), nothing, wall [600,1000)."""
    ids = np.full(1000, -1)
    for instance, first, last in ((1, 0, 100), (2, 100, 200), (5, 200, 400), (7, 400, 409), (8, 600, 1000)):
        ids[first:last] = instance
    pixels = np.arange(1000)
    masks = np.stack([(pixels >= first) & (pixels < last) for first, last in groups])
    return share_pixels(masks, ids, CLASSES)


def first_ious(groups: list[tuple[int, int]], query: Query, cosines: list[float]) -> float:
    shared = shared_pixels(groups)
    others = np.zeros((1, len(shared.instance_ids)))
    return float(answer([query], shared, np.array([cosines]), others, others).ious[0])


def test_shared_pixels_are_counts() -> None:
    shared = shared_pixels([(0, 150), (150, 1000)])
    assert shared.instance_ids == (1, 2, 5, 7, 8) and shared.num_pixels == 1000
    assert shared.instance_classes == ("chair", "chair", "sofa", "cup", "wall")
    assert shared.intersections.tolist() == [[100, 50, 0, 0, 0], [0, 50, 200, 9, 400]]
    assert shared.group_sizes.tolist() == [150, 850] and shared.instance_sizes.tolist() == [100, 100, 200, 9, 400]
    assert shared.ious()[0, 1] == pytest.approx(50 / 200)
    assert shared.group_classes() == ["chair", "wall"]


def test_a_group_on_unlabelled_pixels_has_no_class() -> None:
    assert shared_pixels([(410, 600), (0, 10)]).group_classes() == ["", "chair"]
    empty = share_pixels(np.ones((2, 4), dtype=bool), np.full(4, -1), CLASSES)
    assert empty.group_classes() == ["", ""] and askable([CHAIR], empty) == []


def test_the_best_group_answers_and_the_best_instance_of_the_class_counts() -> None:
    groups = [(100, 200), (200, 400), (300, 600)]
    assert first_ious(groups, CHAIR, [0.9, 0.1, 0.2]) == 1
    assert first_ious(groups, CHAIR, [0.1, 0.9, 0.2]) == 0
    assert first_ious(groups, SOFA, [0.1, 0.2, 0.9]) == pytest.approx(100 / 400)
    assert first_ious(groups, SOFA, [0.1, 0.9, 0.9]) == 1  # of equals the first
    either = Query("seat", frozenset({"chair", "sofa"}))
    assert first_ious(groups, either, [0.9, 0, 0]) == first_ious(groups, either, [0, 0.9, 0]) == 1


def test_an_iou_of_exactly_the_threshold_is_a_miss() -> None:
    exact = np.array([first_ious([(0, 25)], CHAIR, [1.0]), first_ious([(0, 26)], CHAIR, [1.0])])
    assert exact.tolist() == [0.25, 0.26]
    assert recall([exact > 0.25]) == 0.5
    assert recall([np.array([True]), np.zeros(0, dtype=bool), np.array([False, False, True])]) == 0.5
    assert np.isnan(recall([]))


def test_only_objects_that_fill_a_hundredth_are_asked_for() -> None:
    queries = name_queries(CLASSES.values())
    assert [query.text for query in queries] == ["chair", "cup", "sofa"]
    shared = shared_pixels([(0, 10)])
    assert askable(queries, shared) == [queries[0], queries[2]]  # 9 of 1000 pixels are too few
    ids = np.where(np.arange(1000) < 10, 7, -1)
    assert askable(queries, share_pixels(np.ones((1, 1000), dtype=bool), ids, CLASSES)) == [queries[1]]
    together = Query("drinking or sitting", frozenset({"cup", "chair"}))
    assert askable([together], shared) == [together]


def test_true_labels_break_ties_by_the_pixels_of_the_class() -> None:
    """Groups 0 and 2 are chairs; 2 holds more chair, although its main chair fills less of it than group 0's does."""
    shared = shared_pixels([(0, 90), (200, 400), (40, 200), (410, 500)])
    chair, sofa, cup, wall = 1.0, 0.3, 0.2, 0.1
    cosines = np.array([[chair, chair, sofa, cup, wall], [0.3, 0.3, 1.0, 0.2, 0.1], [-0.2, -0.2, -0.9, -0.3, -0.8]])
    assert true_label_tops(shared, cosines).tolist() == [2, 1, 2]  # the group without a label never answers
    cosines[:, 0] += 1e-8  # one name embedded twice: a product of matrices may round its columns differently
    assert true_label_tops(shared, cosines).tolist() == [2, 1, 2]


def test_ceilings_by_hand() -> None:
    """The model swaps chair and sofa: grouping is right, naming is wrong."""
    shared = shared_pixels([(0, 100), (200, 400)])
    names = np.array([[1, 1, 0, 0, 0], [0, 0, 1, 0, 0]], dtype=float)
    got = answer([CHAIR, SOFA], shared, np.array([[0.1, 0.9], [0.9, 0.1]]), names, names[::-1])
    assert got.ious.tolist() == [0, 0] and got.ious_true_labels.tolist() == [1, 1]
    assert got.hits_true_groups.tolist() == [False, False]
    # ... and the other way round: true groups are named right, the model's groups are useless
    poor = shared_pixels([(0, 1000), (410, 600)])
    got = answer([CHAIR, SOFA], poor, np.array([[0.9, 0.1], [0.9, 0.1]]), names, names)
    assert (got.ious_true_labels < 0.25).all() and got.hits_true_groups.all()


def test_no_question_no_answer() -> None:
    none = answer([], shared_pixels([(0, 100)]), *(np.zeros((0, 5)),) * 3)
    assert len(none.ious) == len(none.hits_true_groups) == 0


def test_every_object_class_has_phrases_without_class_names() -> None:
    objects = [name for name in CLASS_NAMES if name not in STRUCTURE_CLASSES]
    for name in objects:
        assert 2 <= sum(name in classes for classes in PHRASES.values()) <= 5, name
    for phrase, classes in PHRASES.items():
        assert classes and set(classes) <= set(objects), phrase
        for name in CLASS_NAMES:
            assert not re.search(rf"\b{name}(s|es)?\b", phrase), (phrase, name)


def test_calibration_error_by_hand() -> None:
    """Bins [.0,.1): .05 and .09, none true; [.3,.4): .3, true; the last one: .95 and 1, one of them true."""
    first = MatchPairs(np.array([0.05, 0.95, 0.3]), np.array([False, True, True]))
    second = MatchPairs(np.array([1.0, 0.09]), np.array([False, False]))
    expected = (2 * 0.07 + 1 * 0.7 + 2 * (0.975 - 0.5)) / 5
    assert calibration_error([first, second]) == pytest.approx(expected)
    assert calibration_error([second, first]) == pytest.approx(expected)
    assert calibration_error([MatchPairs(np.full(10, 0.2), np.arange(10) < 2)]) == pytest.approx(0, abs=1e-12)
    assert np.isnan(calibration_error([MatchPairs(np.zeros(0), np.zeros(0, dtype=bool))]))


def test_pairs_leave_groups_of_unknown_class_out() -> None:
    probabilities = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    pairs = match_pairs(probabilities, [CHAIR, SOFA], ["sofa", "", "chair"])
    assert pairs.probabilities.tolist() == [0.1, 0.3, 0.4, 0.6]
    assert pairs.matches.tolist() == [False, True, True, False]
