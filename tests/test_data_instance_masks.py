"""COCO's run lengths against known strings, and painting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tokengroups.data.instance_masks import decode_rle, encode_rle, paint


def disc() -> np.ndarray:
    rows, columns = np.mgrid[:48, :64]
    return (columns - 30) ** 2 + (rows - 20) ** 2 < 15**2


# Strings that pycocotools 2.0 writes for masks that are easy to say.
KNOWN = {
    "6": np.zeros((2, 3), bool),
    "06": np.ones((2, 3), bool),
    "013000": np.eye(3, dtype=bool),
    "52203": np.pad(np.ones((2, 2), bool), 1),
    "`U1": np.zeros((30, 40), bool),
    "le0T3\\9": np.pad(np.ones((100, 1), bool), ((0, 0), (7, 3))),
    "_h0;S14M2M4M2O0O2N2O0O2O00000000000000000001N101N2N101N3L3N3LSl0": disc(),
}


@pytest.mark.parametrize("text", KNOWN)
def test_text_is_cocos(text: str) -> None:
    mask = KNOWN[text]
    assert encode_rle(mask) == {"size": list(mask.shape), "counts": text}
    np.testing.assert_array_equal(decode_rle({"size": list(mask.shape), "counts": text}), mask)


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_round_trip(mask: np.ndarray) -> None:
    rle = encode_rle(mask)
    assert rle["size"] == list(mask.shape)
    np.testing.assert_array_equal(decode_rle(rle), mask)


@pytest.mark.parametrize("counts", ["5", "07", [3, 4], [-1, 7], "`"])
def test_runs_that_do_not_fill_the_mask_are_refused(counts: object) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        decode_rle({"size": [2, 3], "counts": counts})


def test_lists_of_numbers_go_down_the_columns() -> None:
    expected = np.zeros((3, 4), bool)
    expected[2, 0] = expected[0, 1] = True
    np.testing.assert_array_equal(decode_rle({"size": [3, 4], "counts": [2, 2, 8]}), expected)


@given(st.permutations(range(3)))
def test_painting_keeps_small_instances_visible_in_any_order(order: list[int]) -> None:
    whole, big, small = np.ones((6, 6), bool), np.zeros((6, 6), bool), np.zeros((6, 6), bool)
    big[:, :3], small[2:4, 1:4] = True, True
    pairs = [(10, whole), (7, big), (3, small)]
    ids = paint([pairs[index] for index in order], (6, 6))
    assert (ids[small] == 3).all() and (ids[big & ~small] == 7).all() and (ids[~big & ~small] == 10).all()


def test_nothing_painted_is_minus_one() -> None:
    assert (paint([(4, np.zeros((2, 2), bool))], (2, 2)) == -1).all()
