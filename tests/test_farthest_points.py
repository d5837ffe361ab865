"""Farthest-point sampling against a float64 loop, and its promise never to repeat an index."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokengroups.farthest_points import farthest_point_sampling


def sample_by_loops(points: np.ndarray, count: int) -> list[int]:
    """Greedy sampling written out: each new point maximises the distance to all chosen ones."""
    centroid = points.mean(axis=0)
    chosen = [int(np.argmin([np.sum((p - centroid) ** 2) for p in points]))]
    while len(chosen) < count:
        best, best_distance = -1, -1.0
        for i, p in enumerate(points):
            distance = min(float(np.sum((p - points[j]) ** 2)) for j in chosen)
            if i not in chosen and distance > best_distance:
                best, best_distance = i, distance
        chosen.append(best)
    return chosen


def test_matches_the_loop():
    points = np.random.default_rng(0).normal(size=(3, 60, 3))
    got = farthest_point_sampling(torch.tensor(points), 25)
    for scene, indices in zip(points, got, strict=True):
        assert indices.tolist() == sample_by_loops(scene, 25)


@pytest.mark.parametrize("num_distinct", [1, 7, 64])
def test_indices_are_distinct_even_where_points_coincide(num_distinct):
    generator = torch.Generator().manual_seed(1)
    distinct = torch.randn(1, num_distinct, 3, generator=generator)
    points = distinct[:, torch.arange(64) % num_distinct]
    indices = farthest_point_sampling(points, 64)
    assert sorted(indices[0].tolist()) == list(range(64))
    first = farthest_point_sampling(points, num_distinct)
    assert len({tuple(p) for p in points[0, first[0]].tolist()}) == num_distinct  # no double before all are seen


def test_a_batch_of_two_equals_two_of_one():
    points = torch.randn(2, 100, 3, generator=torch.Generator().manual_seed(2))
    both = farthest_point_sampling(points, 30)
    single = torch.cat([farthest_point_sampling(points[i : i + 1], 30) for i in range(2)])
    assert torch.equal(both, single)


@pytest.mark.parametrize("count", [0, 11])
def test_refuses_an_impossible_count(count):
    with pytest.raises(ValueError, match=r"\[1, 10\]"):
        farthest_point_sampling(torch.zeros(1, 10, 3), count)
