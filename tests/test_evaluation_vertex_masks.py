"""Masks on points against loops in float64: visibility, the two factors, the rules, superpoints."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import scannet_replica as replica
import torch
from torch import Tensor

from tokengroups.evaluation.vertex_masks import (
    RULES,
    LabelMasks,
    QueryMasks,
    Rule,
    Sight,
    hold_ballot,
    mask_cells,
    visible_points,
    vote_in_segments,
)

POINTS = replica.points()[0]
PINHOLE = torch.tensor([[52.0, 0, 31.5], [0, 50.0, 25.0], [0, 0, 1]], dtype=torch.float64)
POSES = [replica.poses()[frame] for frame in replica.USED]
DEPTHS = [np.round(replica.see(pose, replica.DEPTH_HW)[0] * 1000) / 1000 for pose in POSES]
MASK_HW = (28, 37)


def sights() -> list[Sight]:
    return [
        visible_points(
            torch.from_numpy(POINTS), torch.from_numpy(np.linalg.inv(pose)), PINHOLE, torch.from_numpy(depth).float()
        )
        for pose, depth in zip(POSES, DEPTHS, strict=True)
    ]


def looked_up(point: np.ndarray, view: int) -> tuple[int, int] | None:
    """Cell of a visible point in a mask, written out as the specification says it; None = not visible."""
    x, y, z = (POSES[view][:3, :3].T @ (point - POSES[view][:3, 3])).tolist()
    if z <= 0:
        return None
    u, v = 52.0 * x / z + 31.0, 50.0 * y / z + 24.5  # ScanNet's pixels: the first one's centre is at 0
    column, row = math.floor(u + 0.5), math.floor(v + 0.5)
    height, width = replica.DEPTH_HW
    if not (0 <= column < width and 0 <= row < height):
        return None
    reading = DEPTHS[view][row, column]
    if reading <= 0 or not abs(z - reading) < 0.1:
        return None
    return math.floor((v + 0.5) * MASK_HW[0] / height), math.floor((u + 0.5) * MASK_HW[1] / width)


def test_visibility_and_cells_are_those_of_a_loop() -> None:
    hidden = 0
    for view, sight in enumerate(sights()):
        expected = {index: looked_up(point, view) for index, point in enumerate(POINTS)}
        shown = {index: cell for index, cell in expected.items() if cell is not None}
        assert sight.points.tolist() == list(shown)
        rows, columns = mask_cells(sight.places, MASK_HW)
        assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == list(shown.values())
        hidden += len(expected) - len(shown)
        assert max(row for row, _ in shown.values()) > 24 and max(column for _, column in shown.values()) > 30
    assert hidden > 100  # by other objects, or outside


def test_an_error_of_just_the_tolerance_is_too_large_and_no_reading_shows_nothing() -> None:
    depth = torch.tensor([[2.0, 2.0, 0.0]])
    pinhole = torch.tensor([[1.0, 0, 1.5], [0, 1.0, 0.5], [0, 0, 1.0]])
    points = torch.tensor([[-2.0, 0, 2.125], [0, 0, 2.124], [0, 0, 1.876], [0, 0, 1.875], [2.0, 0, 2.0], [0, 0, -2.0]])
    points = torch.cat([points, torch.tensor([[0.1, 0, 0.1]])])  # no reading there
    sight = visible_points(points, torch.eye(4), pinhole, depth, tolerance=0.125)
    assert sight.points.tolist() == [1, 2]


def oracle(features: Tensor, queries: Tensor, threshold: float) -> dict[str, np.ndarray]:
    """Masks of points by loops over points and views."""
    found = {rule: np.zeros((len(queries), len(POINTS)), bool) for rule in RULES}
    for index, point in enumerate(POINTS):
        cells = [looked_up(point, view) for view in range(len(POSES))]
        for query in range(len(queries)):
            values = [
                1 / (1 + math.exp(-float(features[view][cell].double() @ queries[query].double())))
                for view, cell in enumerate(cells)
                if cell is not None
            ]
            if not values:
                continue
            inside = sum(value > threshold for value in values)
            found["any"][query, index] = inside >= 1
            found["majority"][query, index] = inside > len(values) / 2
            found["mean"][query, index] = sum(values) / len(values) > threshold
    return found


@pytest.mark.parametrize("threshold", [0.4, 0.55])
def test_rules_are_those_of_a_loop_in_blocks_too(threshold: float) -> None:
    features, queries = torch.randn(3, *MASK_HW, 6), torch.randn(5, 6)
    masks, expected = QueryMasks(queries, features, threshold), oracle(features, queries, threshold)
    seen = sights()
    blocks = [hold_ballot(masks, seen, len(POINTS), slice(first, first + 2)) for first in (0, 2, 4)]
    for rule in RULES:
        found = torch.cat([block.decide(rule, threshold) for block in blocks])
        np.testing.assert_array_equal(found.numpy(), expected[rule])
    assert (expected["any"] != expected["majority"]).any() and (expected["mean"] != expected["majority"]).any()


@pytest.mark.parametrize("rule", RULES)
def test_labels_are_masks_that_exclude_each_other(rule: Rule) -> None:
    labels = torch.from_numpy(np.stack([replica.see(pose, MASK_HW)[1] for pose in POSES]))
    masks = LabelMasks(labels, len(replica.RECTANGLES))
    found = hold_ballot(masks, sights(), len(POINTS), slice(0, len(masks))).decide(rule, masks.threshold)
    for query in range(len(masks)):
        for index, point in enumerate(POINTS):
            cells = [(view, cell) for view in range(3) if (cell := looked_up(point, view)) is not None]
            inside = sum(int(labels[view][cell]) == query for view, cell in cells)
            expected = inside > 0 if rule == "any" else inside > len(cells) / 2
            assert bool(found[query, index]) == expected


def test_more_than_half_of_a_superpoint_decides() -> None:
    segments = torch.randint(0, 40, (900,))
    masks = torch.rand(6, 900) < 0.5
    found = vote_in_segments(masks, segments)
    sizes = Counter(segments.tolist())
    ties = 0
    for row in range(6):
        votes = Counter(segments[masks[row]].tolist())
        ties += sum(2 * votes[segment] == size for segment, size in sizes.items())
        assert found[row].tolist() == [votes[segment] > sizes[segment] / 2 for segment in segments.tolist()]
    assert ties > 0
