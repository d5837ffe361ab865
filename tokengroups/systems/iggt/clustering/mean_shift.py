"""Mean shift: regions climb to the modes of their density in feature space (Comaniciu and Meer, 2002)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tokengroups.systems.iggt.clustering.regions import Regions

BANDWIDTH = 0.3  # standard deviation of the Gaussian kernel, in granularities
MAX_ROUNDS = 60
STILL = 1e-3  # in bandwidths: a point that moves less has arrived
ROWS_AT_ONCE = 256  # their distances to all regions fit into a processor's cache


def mean_shift(regions: Regions, granularity: float) -> tuple[Float[np.ndarray, "R E"], Float[np.ndarray, " R"]]:
    """Mode to which each region climbs, and its weight; regions of one mode end close to each other.

    A region weighs as the root of its size, so that small objects are not drowned by walls.
    """
    weights = np.sqrt(regions.sizes)
    return climb(regions.means, weights, BANDWIDTH * granularity), regions.sizes.astype(np.float64)


def climb(
    points: Float[np.ndarray, "n E"], weights: Float[np.ndarray, " n"], bandwidth: float
) -> Float[np.ndarray, "n E"]:
    """Move a copy of every point to the mean around it, weighted by a Gaussian, until it stays where it is."""
    scaled = (points / bandwidth).astype(np.float32)
    log_weights = np.log(weights).astype(np.float32) - (scaled**2).sum(axis=1) / 2
    modes = scaled.copy()
    moving = np.arange(len(modes))
    for _ in range(MAX_ROUNDS):
        moved = np.empty((len(moving), points.shape[1]), dtype=np.float32)
        for start in range(0, len(moving), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            moved[rows] = _weighted_means(modes[moving[rows]], scaled, log_weights)
        steps = np.abs(moved - modes[moving]).max(axis=1)
        modes[moving] = moved
        moving = moving[steps > STILL]
        if len(moving) == 0:
            break
    return modes.astype(np.float64) * bandwidth


def _weighted_means(
    at: Float[np.ndarray, "m E"], points: Float[np.ndarray, "n E"], log_weights: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "m E"]:
    """Means of all points under a Gaussian of unit deviation around each place."""
    exponents = at @ points.T + log_weights
    exponents -= exponents.max(axis=1, keepdims=True)
    kernel = np.exp(exponents, out=exponents)
    return (kernel @ points) / kernel.sum(axis=1, keepdims=True)
