"""Random choices that come out the same on every machine and with every numpy.

Only two things are stable everywhere: the PCG64 bit stream and its conversion to doubles in [0, 1).
Everything else is built on them here (numpy does not promise the streams of its distributions), and the few
transcendental functions of the generator go through `unit_vector`, which rounds away the last bits of the
platform's libm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Number = float | int  # for parameters that get whole numbers too; run-time type checks take `float` literally


class Draw:
    """A stream of random choices, a pure function of its entropy (non-negative integers)."""

    def __init__(self, *entropy: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))

    def uniform(self, low: Number = 0.0, high: Number = 1.0) -> float:
        """A real number in [low, high)."""
        return low + (high - low) * float(self.generator.random())

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high], both ends included."""
        return low + int(float(self.generator.random()) * (high - low + 1))

    def chance(self, probability: Number) -> bool:
        """True with this probability."""
        return float(self.generator.random()) < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, all equally likely."""
        return items[self.integer(0, len(items) - 1)]

    def point(self, low: Sequence[Number], high: Sequence[Number]) -> np.ndarray:
        """A point [n] in an axis-aligned box."""
        return np.array([self.uniform(a, b) for a, b in zip(low, high, strict=True)])

    def signed(self, size: Number) -> float:
        """A real number in [-size, size)."""
        return self.uniform(-size, size)


def unit_vector(angle: float) -> tuple[float, float]:
    """(cos, sin) of an angle in radians, rounded to 1e-9: equal for libms that differ in the last bits."""
    return round(math.cos(angle), 9), round(math.sin(angle), 9)


def rotation_z(angle: float) -> np.ndarray:
    """Rotation [3, 3] about the vertical axis, counter-clockwise seen from above, in radians."""
    c, s = unit_vector(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def rotation_x(angle: float) -> np.ndarray:
    """Rotation [3, 3] about the x axis, in radians."""
    c, s = unit_vector(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation_y(angle: float) -> np.ndarray:
    """Rotation [3, 3] about the y axis, in radians."""
    c, s = unit_vector(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def product(left: np.ndarray, right: np.ndarray | Sequence[Number]) -> np.ndarray:
    """Matrix product, rounded to 1e-9 because BLAS sums in the machine's own order."""
    return np.round(left @ np.asarray(right, dtype=np.float64), 9)
