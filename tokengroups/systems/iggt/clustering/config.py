"""Settings of clustering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ClusteringConfig:
    """How instances are found in a field; distances are between unit vectors, so that they lie in [0, 2]."""

    method: Literal["mean_shift", "linkage", "hdbscan"] = "mean_shift"
    # The one control of how fine instances are. Two compact things whose mean features are farther apart than this are
    # two instances, and two that are closer than 0.8 of it are one. In between, it depends on the method.
    granularity: float = 0.5
    min_pixels: int = 50  # over all views; smaller instances are dropped, and their pixels take the nearest other one
    smoothing: int = (
        0  # neighbours in space over which features are averaged first, as in IGGT's demonstration; 0 = off
    )
    cell: int = 0  # pixels per side of the squares that are grouped; 0 = 1, 2, 4, ... by the size of the views
    link: float = 1.5  # cells are linked up to this many times the median distance of neighbouring cells
    min_cells: int = 6  # smaller connected regions, such as borders and outliers, shape no instance

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        bounds = {
            "granularity": (1e-3, 2.0), "min_pixels": (1, 10**9), "smoothing": (0, 1000), "cell": (0, 64),
            "link": (0.1, 100.0), "min_cells": (1, 10**6),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:  # NaN is refused too
                raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")
