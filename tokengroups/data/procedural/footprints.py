"""Floor plan arithmetic: oriented rectangles that must not overlap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokengroups.data.procedural.draw import unit_vector


@dataclass(frozen=True)
class Rectangle:
    """An oriented rectangle on the floor: centre, half sizes along its own axes, angle in radians."""

    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float = 0.0

    def axes(self) -> np.ndarray:
        """Unit vectors [2, 2] of its own axes, one per row."""
        c, s = unit_vector(self.angle)
        return np.array([[c, s], [-s, c]])

    def corners(self) -> np.ndarray:
        """Its corners [4, 2]."""
        x, y = self.axes()
        a, b = self.half[0] * x, self.half[1] * y
        return np.array(self.centre) + np.array([a + b, a - b, -a - b, b - a])

    def within(self, low: tuple[float, float], high: tuple[float, float]) -> bool:
        """Test whether it lies inside an axis-aligned box."""
        corners = self.corners()
        return bool((corners >= np.array(low)).all() and (corners <= np.array(high)).all())

    def distance(self, x: float, y: float) -> float:
        """Distance of a point from it; 0 inside."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        c, s = unit_vector(self.angle)
        along = max(abs(c * dx + s * dy) - self.half[0], 0.0)
        across = max(abs(c * dy - s * dx) - self.half[1], 0.0)
        return (along * along + across * across) ** 0.5


def overlap(first: Rectangle, second: Rectangle) -> bool:
    """Test whether two rectangles overlap, by the separating-axis test; touching counts as apart."""
    dx, dy = second.centre[0] - first.centre[0], second.centre[1] - first.centre[1]
    a, b = first.axes(), second.axes()
    for x, y in (*a, *b):
        reach = sum(
            half * abs(axis[0] * x + axis[1] * y)
            for rectangle, axes in ((first, a), (second, b))
            for half, axis in zip(rectangle.half, axes, strict=True)
        )
        if abs(dx * x + dy * y) >= reach - 1e-6:
            return False
    return True
