"""Suppression of proposals that repeat others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from tokengroups.data.curation.base import Mask, Proposal

_KEPT_AT_LEAST = 3


@dataclass(frozen=True)
class SuppressionSettings:
    """Thresholds of mask suppression."""

    min_score: float = 0.7  # predicted IoU x stability
    max_iou: float = 0.8  # with a better mask that is kept
    outer_share: float = 0.5  # a mask shares less than this of itself with a part of it ...
    inner_share: float = 0.85  # ... which shares at least this
    max_inner: float = 0.5  # parts with 1 - product of the two shares above it are dropped


def suppress(proposals: Sequence[Proposal], settings: SuppressionSettings) -> list[Proposal]:
    """Keep proposals that are trusted, do not repeat a better one, and are not mere parts; best first.

    With the default shares every part is dropped: the product of the shares is below 0.5. If nothing would be left, the
    three best stay.
    """
    order = sorted(proposals, key=lambda proposal: -proposal.score)
    if not order:
        return []
    overlap = overlaps([proposal.mask for proposal in order], [proposal.mask for proposal in order])
    area = np.diag(overlap).clip(min=1)
    iou = overlap / (area[:, None] + area - overlap)
    outer, inner = overlap / area[:, None], overlap / area  # shares of the row's mask and of the column's
    value = np.where((outer < settings.outer_share) & (inner >= settings.inner_share), 1 - outer * inner, 0)
    good = (np.array([p.score for p in order]) > settings.min_score) & (value.max(axis=0) <= settings.max_inner)
    kept: list[int] = []
    for index in np.flatnonzero(good).tolist():
        if all(iou[index, better] <= settings.max_iou for better in kept):
            kept.append(index)
    return [order[index] for index in kept] or order[:_KEPT_AT_LEAST]


def overlaps(masks: Sequence[Mask], others: Sequence[Mask]) -> Int64[np.ndarray, "N M"]:
    """Pixels that every mask shares with every other one."""
    table = np.zeros((len(masks), len(others)), np.int64)
    boxes, other_boxes = ([mask_box(mask) for mask in group] for group in (masks, others))
    for row, (mask, (top, left, bottom, right)) in enumerate(zip(masks, boxes, strict=True)):
        for column, (other, box) in enumerate(zip(others, other_boxes, strict=True)):
            rows = slice(max(top, box[0]), min(bottom, box[2]))
            columns = slice(max(left, box[1]), min(right, box[3]))
            if rows.start < rows.stop and columns.start < columns.stop:
                table[row, column] = np.count_nonzero(mask[rows, columns] & other[rows, columns])
    return table


def mask_box(mask: Mask) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a mask's box, the last two exclusive; zeros if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return 0, 0, 0, 0
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def box_suppression(boxes: Float[np.ndarray, "N 4"], scores: Float[np.ndarray, " N"], max_iou: float) -> list[int]:
    """Indices of boxes (top, left, bottom, right) that overlap no better one that is kept, best first."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(min=0)
    area = sides.prod(axis=1)
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if kept:
            low = np.maximum(boxes[kept, :2], boxes[index, :2])
            high = np.minimum(boxes[kept, 2:], boxes[index, 2:])
            shared = (high - low).clip(min=0).prod(axis=1)
            if (shared > max_iou * (area[kept] + area[index] - shared)).any():
                continue
        kept.append(index)
    return kept
