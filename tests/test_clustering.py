"""Planes + HDBSCAN on a box room with known content."""

from __future__ import annotations

import numpy as np
import pytest

from tokengroups.clustering import planes_hdbscan


def box_room(scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Floor, back wall and left wall of a room with two boxes on the floor; the camera is at the origin."""
    random = np.random.default_rng(0)

    def spread(count: int, low: list[float], high: list[float]) -> np.ndarray:
        return random.uniform(low, high, size=(count, 3))

    parts = [
        spread(200, [-2, 1.4, 0], [2, 1.4, 4]),  # floor: y points down
        spread(150, [-2, -1, 4], [2, 1.3, 4]),
        spread(100, [-2, -1, 0.5], [-2, 1.3, 3.9]),
        spread(40, [-1, 0.9, 2], [-0.6, 1.25, 2.4]),
        spread(40, [0.8, 0.9, 2.2], [1.2, 1.25, 2.6]),
    ]
    labels = np.repeat(np.arange(5), [len(part) for part in parts])
    points = np.concatenate(parts) + random.normal(scale=0.01, size=(len(labels), 3))
    return (points * scale).astype(np.float32), labels


def purity(labels: np.ndarray, truth: np.ndarray) -> float:
    return sum(np.bincount(truth[labels == group]).max() for group in np.unique(labels)) / len(truth)


def test_finds_planes_and_boxes() -> None:
    points, truth = box_room()
    labels = planes_hdbscan(points)
    assert labels.min() == 0 and len(np.unique(labels)) == labels.max() + 1
    assert len(np.unique(labels)) == 5 and purity(labels, truth) > 0.97


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_scale_of_the_scene_does_not_matter_and_the_result_repeats(scale: float) -> None:
    labels = planes_hdbscan(box_room()[0])
    assert np.array_equal(labels, planes_hdbscan(box_room()[0]))
    assert (planes_hdbscan(box_room(scale)[0]) == labels).mean() > 0.99


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_few_or_degenerate_points_give_some_grouping(count: int) -> None:
    for points in (np.random.default_rng(0).normal(size=(count, 3)), np.ones((count, 3))):
        labels = planes_hdbscan(points.astype(np.float32))
        assert labels.shape == (count,) and labels.min() >= 0
