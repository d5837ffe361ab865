"""Settings of clustering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tokengroups.bounds import Between, Count, Settings


@dataclass(frozen=True)
class ClusteringConfig(Settings):
    """How instances are found in a field; distances are between unit vectors, so that they lie in [0, 2]."""

    method: Literal["mean_shift", "linkage", "hdbscan"] = "mean_shift"
    # The one control of how fine instances are. Two compact things whose mean features are farther apart than this are
    # two instances, and two that are closer than 0.8 of it are one. In between, it depends on the method.
    granularity: Annotated[float, Between(1e-3, 2)] = 0.5
    min_pixels: Count = 50  # over all views; smaller instances are dropped, and their pixels take the nearest other one
    # Neighbours in space over which features are averaged first, as in IGGT's demonstration; 0 = off.
    smoothing: Annotated[int, Between(0, 1000)] = 0
    cell: Annotated[int, Between(0, 64)] = (
        0  # pixels per side of the squares that are grouped; 0 = 1, 2, 4, ... by the size of the views
    )
    link: Annotated[float, Between(0.1, 100)] = (
        1.5  # cells are linked up to this many times the median distance of neighbouring cells
    )
    min_cells: Annotated[int, Between(1, 10**6)] = (
        6  # smaller connected regions, such as borders and outliers, shape no instance
    )
