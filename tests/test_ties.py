"""Order among values that are equal up to rounding."""

from __future__ import annotations

import numpy as np
import pytest

from tokengroups.ties import ascending


@pytest.mark.parametrize("seed", range(20))
def test_rounding_does_not_change_the_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(-3, 4, size=30) / 7
    rounded = values + random.uniform(-1e-9, 1e-9, size=30)
    expected = sorted(range(30), key=lambda index: (values[index], index))
    assert ascending(rounded, 1e-6).tolist() == expected
    assert ascending(values.astype(np.float32), 1e-6).tolist() == expected


def test_without_ties_it_is_the_order_of_the_values() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    assert np.array_equal(ascending(values, 0.0), np.argsort(values))
    assert ascending(np.array([2.0, 1.0, 1.0 + 1e-3]), 1e-2).tolist() == [1, 2, 0]


def test_chains_are_one_tie() -> None:
    assert ascending(np.array([0.2, 0.1, 0.0, 9.0]), 0.15).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("count", range(32))
def test_the_smallest_are_the_first_of_all(count: int) -> None:
    values = np.random.default_rng(count).integers(0, 9, size=30) / 7
    assert ascending(values, 1e-6, count).tolist() == ascending(values, 1e-6).tolist()[:count]


@pytest.mark.parametrize("count", [0, 1])
def test_few_values(count: int) -> None:
    assert ascending(np.zeros(count), 0.0).tolist() == list(range(count))
