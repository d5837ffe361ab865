"""Masks of instances: COCO's run lengths, and overlapping masks painted into one map of ids.

COCO's run lengths (``{"size": [H, W], "counts": "..."}``, as SA-V and SAM 2 write them) go down the columns; the first
run is outside the mask. In the text each run after the third is the difference from the run two before; every number
takes one character per five bits, lowest first, and a sixth bit that says whether more follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

_FIRST_CHARACTER = 48
_MORE, _SIGN, _BITS = 0x20, 0x10, 0x1F


def decode_rle(rle: dict[str, Any]) -> Bool[np.ndarray, "H W"]:
    """Mask of COCO run lengths, as text or as a list of numbers.

    Raises:
        ValueError: The runs do not fill the mask.

    Example:
        >>> from tokengroups.data.instance_masks import decode_rle
        >>> decode_rle({"size": [2, 3], "counts": [1, 2, 3]}).astype(int)
        array([[0, 1, 0],
               [1, 0, 0]])
    """
    height, width = (int(side) for side in rle["size"])
    counts = rle["counts"]
    runs = np.array(_runs_of_text(counts) if isinstance(counts, str) else counts, np.int64)
    if height < 1 or width < 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"run lengths add up to {runs.sum()}, but the mask has {height} x {width} pixels")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def encode_rle(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """COCO run lengths of a mask, as text."""
    flat = mask.T.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], borders, [len(flat)]])).tolist()
    if flat[0]:
        runs.insert(0, 0)
    return {"size": list(mask.shape), "counts": _text_of_runs(runs)}


def paint(masks: Iterable[tuple[int, np.ndarray]], size_hw: tuple[int, int]) -> Int32[np.ndarray, "H W"]:
    """Map of ids: masks painted from large to small, so that small instances stay visible on large ones; -1 = none.

    Args:
        masks: Pairs of id and mask; of two equally large ones the later wins.
        size_hw: Of all masks.
    """
    ids = np.full(size_hw, -1, np.int32)
    for number, mask in sorted(masks, key=lambda pair: -np.count_nonzero(pair[1])):
        ids[mask] = number
    return ids


def _runs_of_text(text: str) -> list[int]:
    runs: list[int] = []
    for number in _numbers(text):
        runs.append(number + runs[-2] if len(runs) > 2 else number)
    return runs


def _numbers(text: str) -> Iterator[int]:
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - _FIRST_CHARACTER
        value |= (bits & _BITS) << shift
        shift += 5
        if not bits & _MORE:
            yield value - (1 << shift) if bits & _SIGN else value
            value, shift = 0, 0
    if shift:
        raise ValueError("run lengths end in the middle of a number")


def _text_of_runs(runs: list[int]) -> str:
    characters = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits, value = value & _BITS, value >> 5
            more = value != (-1 if bits & _SIGN else 0)
            characters.append(chr(bits + (_MORE if more else 0) + _FIRST_CHARACTER))
    return "".join(characters)
