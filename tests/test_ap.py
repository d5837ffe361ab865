"""Average precision against golden cases of ScanNet's rules and a table worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tokengroups.evaluation.average_precision import (
    LOOSE_THRESHOLD,
    THRESHOLDS,
    SceneOverlaps,
    average_precision,
    count_overlaps,
)

GT1, GT2 = (0, 1000), (1000, 2000)


def test_thresholds_stop_at_090() -> None:
    assert np.allclose(THRESHOLDS, [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]) and LOOSE_THRESHOLD == 0.25


@pytest.mark.parametrize("case", range(40))
def test_golden_case(case: int, data_dir: Path) -> None:
    with np.load(data_dir / "ap_cases.npz") as golden:
        scenes = []
        for scene in range(int(golden[f"c{case}_n"])):
            gt = golden[f"c{case}_s{scene}_gt"].astype(np.int64)
            masks = np.unpackbits(golden[f"c{case}_s{scene}_masks"], axis=1, count=len(gt)).astype(bool)
            scenes.append(count_overlaps(masks, golden[f"c{case}_s{scene}_conf"], np.where(gt == 0, -1, gt)))
        expected = golden[f"c{case}_ap"]
    result = average_precision(scenes)
    np.testing.assert_allclose([*result.by_threshold, result.ap25], expected, rtol=0, atol=1e-12)
    assert result.ap == pytest.approx(expected[:9].mean(), abs=1e-12)
    assert result.ap50 == result.by_threshold[0]


def _hand_case(*predictions: tuple[tuple[int, int], float]) -> SceneOverlaps:
    """4000 pixels: two instances of 1000, a small one of 50, the rest void."""
    gt = np.full(4000, -1)
    gt[:1000], gt[1000:2000], gt[2000:2050] = 1, 2, 3
    masks = np.zeros((len(predictions), 4000), dtype=bool)
    for row, ((start, end), _) in enumerate(predictions):
        masks[row, start:end] = True
    return count_overlaps(masks, np.array([score for _, score in predictions], dtype=float), gt)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        ([(GT1, 0.9), (GT2, 0.8)], (1, 1, 1)),
        ([(GT1, 0.9)], (0.5, 0.5, 0.5)),
        ([(GT1, 0.9), (GT2, 0.8), ((0, 200), 0.1)], (1, 1, 1)),  # a false positive ranked last is free
        ([(GT1, 0.9), (GT2, 0.8), ((0, 200), 0.95)], (5 / 12, 5 / 12, 5 / 12)),
        ([(GT1, 1.0), (GT2, 1.0), ((0, 200), 1.0)], (5 / 6, 5 / 6, 5 / 6)),  # R (1 + P) / 2
        ([(GT1, 0.9), (GT2, 0.8), ((2500, 3500), 0.99)], (1, 1, 1)),  # all void: ignored
        ([(GT1, 0.9), (GT2, 0.8), ((0, 900), 0.7)], (1, 1, 1)),  # duplicate ranked last
        ([((0, 500), 0.9), (GT2, 0.8)], (0.125, 0.125, 1)),  # IoU exactly 0.5 is no match at 0.5
        ([(GT1, 0.9), (GT2, 0.8), ((0, 99), 0.99)], (1, 1, 1)),  # too small: dropped
        ([], (0, 0, 0)),
    ],
)  # fmt: skip
def test_hand_table(predictions: list[tuple[tuple[int, int], float]], expected: tuple[float, ...]) -> None:
    result = average_precision([_hand_case(*predictions)])
    assert (result.ap, result.ap50, result.ap25) == pytest.approx(expected, abs=1e-9)


def test_half_void_prediction_is_ignored_below_its_share_of_void() -> None:
    """100 px of an instance and 100 px of void: a false positive at 0.5 and above, ignored at 0.25."""
    gt = np.full(4000, -1)
    gt[:1000], gt[1000:2000], gt[2000:2050] = 1, 2, 3
    masks = np.zeros((3, 4000), dtype=bool)
    masks[0, :1000], masks[1, 1000:2000] = True, True
    masks[2, :100], masks[2, 3000:3100] = True, True
    result = average_precision([count_overlaps(masks, np.array([0.9, 0.8, 0.99]), gt)])
    assert (result.ap, result.ap50, result.ap25) == pytest.approx((5 / 12, 5 / 12, 1), abs=1e-9)


def test_scenes_are_ranked_together_not_averaged() -> None:
    """A confident mistake in one scene stands before the correct but less confident find of another."""
    good, bad = _hand_case((GT1, 0.5), (GT2, 0.5)), _hand_case(((0, 200), 0.9))
    pooled = average_precision([good, bad]).ap50
    mean = (average_precision([good]).ap50 + average_precision([bad]).ap50) / 2
    # curve: (recall 0.5, precision 2/3), (0, 0), (0, 1); central differences of recall
    assert mean == 0.5 and pooled == pytest.approx(2 / 3 * 0.25 + 0 * 0.25)


def test_nothing_to_find_is_not_a_number_and_ignored_predictions_alone_score_zero() -> None:
    void = count_overlaps(np.ones((1, 400), dtype=bool), np.array([1.0]), np.full(400, -1))
    assert np.isnan(average_precision([void]).ap) and np.isnan(average_precision([void]).ap25)
    assert average_precision([_hand_case(((2500, 3500), 0.9))]).ap == 0
