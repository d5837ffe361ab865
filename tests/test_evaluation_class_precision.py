"""Class-aware AP against hand cases, and against loops over pixels with ScanNet's rules written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy import ndarray

from tokengroups.evaluation.average_precision import average_precision
from tokengroups.evaluation.class_precision import NamedOverlaps, class_ap50, named_overlaps
from tokengroups.evaluation.masks import GroupMasks, group_overlaps

CLASSES = {0: "wall", 1: "chair", 2: "chair", 3: "table"}


def rows(*sizes: int) -> ndarray:
    """Ids 0, 1, 2, ... so many pixels each, and 200 unlabelled ones."""
    return np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(200, -1)])


def overlaps(
    ids: ndarray, masks: list[tuple[ndarray, str, float]], classes: dict[int, str] | None = None, least: int = 100
) -> NamedOverlaps:
    """Overlaps of masks given with their name and score."""
    stacked = np.array([mask for mask, _, _ in masks], dtype=bool).reshape(len(masks), ids.size)
    predicted = GroupMasks(stacked, np.array([score for *_, score in masks], dtype=float))
    found = named_overlaps(predicted, [name for _, name, _ in masks], ids[None, None], classes or CLASSES, least)
    for part in (found.overlaps.confidences, found.overlaps.sizes):
        assert len(part) == len(found.names)
    return found


IDS = rows(400, 300, 200, 150)
RIGHT = [(IDS == key, CLASSES[key], 0.9 - 0.1 * key) for key in range(4)]


def test_right_masks_with_right_names_are_perfect():
    assert class_ap50([overlaps(IDS, RIGHT)]) == 1.0


def test_a_right_mask_of_the_wrong_class_is_a_false_positive_of_one_class_and_a_miss_of_the_other():
    wrong = [*RIGHT[:3], (IDS == 3, "wall", 0.95)]  # the table called wall, with the highest score
    found = overlaps(IDS, wrong)
    table, wall = (average_precision([found.of_class(name)]).ap50 for name in ("table", "wall"))
    assert table == 0.0  # missed
    # Precision 0 at recall 0, then 1/2 at recall 1: by ScanNet's central differences, with the points (0, 0), (1, 1/2)
    # and the end (0, 1): 1/2 * (1 - 0) / 2 + 0 * (1 - 0) / 2.
    assert wall == pytest.approx(0.25)
    assert class_ap50([found]) == pytest.approx((0.25 + 1.0 + 0.0) / 3)  # wall, chair, table
    agnostic = group_overlaps(GroupMasks(np.array([m for m, *_ in wrong]), np.ones(4)), IDS[None, None], CLASSES)
    assert average_precision([agnostic.all]).ap50 == 1.0  # without names nothing is wrong


def test_a_class_that_only_masks_have_does_not_count_and_is_no_void():
    extra = (IDS == 0, "lamp", 1.0)
    assert class_ap50([overlaps(IDS, [*RIGHT, extra])]) == 1.0  # lamps do not occur
    assert class_ap50([overlaps(IDS, [extra])]) == 0.0  # all three classes are missed


def test_instances_of_other_classes_are_not_void():
    """A chair that lies on the table alone is a false positive; one on unlabelled pixels is ignored."""
    low = [(IDS == 1, "chair", 0.9), (IDS == 2, "chair", 0.8)]
    on_void, on_table = (IDS == -1, "chair", 0.95), (IDS == 3, "chair", 0.95)

    def chair(masks) -> float:
        return average_precision([overlaps(IDS, masks).of_class("chair")]).ap50

    assert chair([*low, on_void]) == 1.0
    assert chair([*low, on_table]) == pytest.approx(loop_ap50([(IDS, [*low, on_table], CLASSES)], "chair", 100))
    assert chair([*low, on_table]) < 0.7


def test_unnamed_masks_and_classless_instances_count_for_nothing():
    unnamed = (IDS == 3, "", 0.99)
    assert class_ap50([overlaps(IDS, [*RIGHT, unnamed])]) == 1.0
    without_tables = {0: "wall", 1: "chair", 2: "chair"}
    lost = (IDS == 3, "chair", 1.0)  # on an instance without a class: void
    assert class_ap50([overlaps(IDS, [*RIGHT[:3], lost], without_tables)]) == 1.0
    assert class_ap50([overlaps(IDS, [*RIGHT[:3], lost], without_tables | {3: ""})]) == 1.0


def test_without_any_name_it_is_undefined_and_a_scene_without_masks_is_missed():
    assert math.isnan(class_ap50([overlaps(IDS, [(IDS == 0, "", 0.9)]), overlaps(IDS, [])]))
    bare = GroupMasks(np.array([IDS == 0]), np.ones(1))
    assert math.isnan(class_ap50([named_overlaps(bare, (), IDS[None, None], CLASSES)]))
    assert math.isnan(class_ap50([]))
    # Half of every class is missed, with precision 1: 1/2 of recall in ScanNet's integral.
    assert class_ap50([overlaps(IDS, RIGHT), overlaps(IDS, [])]) == pytest.approx(0.5)
    tiny = [(np.arange(IDS.size) < 5, "wall", 0.9)]  # named, but too small to count
    assert class_ap50([overlaps(IDS, tiny)]) == 0.0


def test_small_instances_do_not_occur():
    ids = rows(400, 300, 200, 99)
    masks = [(ids == key, CLASSES[key], 0.5) for key in range(3)]
    assert class_ap50([overlaps(ids, masks)]) == 1.0


@pytest.mark.parametrize("seed", range(12))
def test_random_scenes_match_loops(seed: int):
    generator = np.random.default_rng(seed)
    scenes = [random_scene(generator) for _ in range(3)]
    names = sorted({classes[key] for ids, _, classes in scenes for key in set(ids.tolist()) & classes.keys()})
    expected = [loop_ap50(scenes, name, 6) for name in names]
    found = class_ap50([overlaps(ids, masks, classes, least=6) for ids, masks, classes in scenes])
    assert found == pytest.approx(np.nanmean(expected), abs=1e-12)
    assert 0 < found < 1


Scene = tuple[ndarray, list[tuple[ndarray, str, float]], dict[int, str]]


def random_scene(generator: np.random.Generator) -> Scene:
    """Overlapping masks near the instances, a third of them with another name, scores that may be equal."""
    words = ["wall", "chair", "table"]
    ids = np.repeat(generator.integers(-1, 7, 30), generator.integers(2, 9, 30))
    classes = {key: words[generator.integers(3)] for key in range(6)}  # instance 6 has no class
    masks = []
    for key in generator.integers(-1, 7, 12):
        mask = (ids == key) ^ (generator.random(ids.size) < generator.choice([0.02, 0.1, 0.2]))
        name = classes.get(int(key), "wall")
        if generator.random() < 0.3:
            name = [*words, ""][generator.integers(4)]
        masks.append((mask, name, float(generator.integers(1, 6)) / 8))
    return ids, masks, classes


def loop_ap50(scenes: list[Scene], name: str, least: int) -> float:
    """AP of one class at IoU 0.5, as ScanNet's script goes: instances, then predictions, then the curve."""
    true: list[float] = []
    false: list[float] = []
    missed = 0
    for ids, masks, classes in scenes:
        mine = [(set(np.flatnonzero(mask)), score) for mask, label, score in masks if label == name]
        mine = [(pixels, score) for pixels, score in mine if len(pixels) >= least]
        truth = [set(np.flatnonzero(ids == key)) for key in sorted(classes) if classes[key] == name and key in ids]
        found, wrong = match_in_order(mine, [each for each in truth if len(each) >= least])
        true += [score for score in found if score is not None]
        missed += found.count(None)
        void = {pixel for pixel, key in enumerate(ids) if key < 0 or not classes.get(int(key))}
        void = void.union(*(each for each in truth if len(each) < least))
        unmatched = [each for each in mine if all(iou(each[0], instance) <= 0.5 for instance in truth)]
        false += wrong + [score for pixels, score in unmatched if len(pixels & void) / len(pixels) <= 0.5]
    return area(true, false, missed)


def iou(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other)


def match_in_order(
    predictions: list[tuple[set[int], float]], instances: list[set[int]]
) -> tuple[list[float | None], list[float]]:
    """Score of the match of every instance, and scores of further masks that pass for a found one."""
    found: list[float | None] = []
    wrong: list[float] = []
    used: set[int] = set()
    for instance in instances:
        best = None
        for index, (pixels, score) in enumerate(predictions):
            if index in used or iou(pixels, instance) <= 0.5:
                continue
            if best is None:
                used.add(index)
                best = score
            else:
                wrong.append(min(best, score))
                best = max(best, score)
        found.append(best)
    return found, wrong


def area(true: list[float], false: list[float], missed: int) -> float:
    """Area under precision over recall by central differences; NaN where there is nothing to find."""
    if not true:
        return 0.0 if missed else math.nan
    points = []
    for threshold in sorted({*true, *false}):
        hits, claims = sum(s >= threshold for s in true), sum(s >= threshold for s in [*true, *false])
        points.append((hits / (len(true) + missed), hits / claims))
    points.append((0.0, 1.0))
    recall = [points[0][0], *(r for r, _ in points), 0.0]
    return math.fsum(p * (recall[i] - recall[i + 2]) / 2 for i, (_, p) in enumerate(points))
