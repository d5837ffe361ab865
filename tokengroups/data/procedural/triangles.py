"""Ray-triangle intersection in NumPy, for platforms without a wheel of embree (Linux on ARM64); 40 times slower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_PAIRS = 2_000_000  # rays times triangles at a time: bounds the memory
SLACK = 1e-6  # relative, of bounding boxes and barycentric coordinates: rays through an edge must meet a triangle


class NumpyScene:
    """Triangles [T, 3, 3] in groups of `counts`, with the queries of embreex's `EmbreeScene`.

    A group, such as the triangles of one object, has a bounding box; only rays that meet the box are tested with its
    triangles by Möller and Trumbore's algorithm (1997).
    """

    def __init__(self, corners: np.ndarray, counts: Sequence[int]) -> None:
        self.corner = corners[:, 0].astype(np.float64)
        self.edges = (corners[:, 1:] - corners[:, :1]).astype(np.float64)
        ends = np.cumsum(counts).tolist()
        self.groups = [(end - count, end) for count, end in zip(counts, ends, strict=True) if count]
        flat = [corners[start:end].reshape(-1, 3).astype(np.float64) for start, end in self.groups]
        margin = SLACK * max(1.0, float(np.abs(corners).max(initial=0.0)))
        self.boxes = [(points.min(axis=0) - margin, points.max(axis=0) + margin) for points in flat]

    def run(
        self, origins: np.ndarray, directions: np.ndarray, distances: np.ndarray | None = None, query: str = "INTERSECT"
    ) -> np.ndarray:
        """Index [M] of the first triangle that each ray meets within `distances` of its own length; -1 = none.

        With the query "OCCLUDED" any triangle in between will do.
        """
        origins, directions = origins.astype(np.float64), directions.astype(np.float64)
        nearest = np.full(len(origins), np.inf) if distances is None else distances.astype(np.float64)
        index = np.full(len(origins), -1, np.int64)
        with np.errstate(divide="ignore", invalid="ignore"):
            for (start, end), (low, high) in zip(self.groups, self.boxes, strict=True):
                slabs = np.stack([(low - origins) / directions, (high - origins) / directions])
                enter, leave = np.nanmax(slabs.min(axis=0), axis=1), np.nanmin(slabs.max(axis=0), axis=1)
                wanted = (enter <= leave) & (leave > 0) & (enter < nearest)
                if query == "OCCLUDED":
                    wanted &= index < 0
                rays = np.flatnonzero(wanted)
                step = max(1, MAX_PAIRS // (end - start))
                for part in (rays[at : at + step] for at in range(0, len(rays), step)):
                    found, hit = self._nearest(origins[part], directions[part], start, end)
                    closer = found < nearest[part]
                    nearest[part[closer]], index[part[closer]] = found[closer], hit[closer]
        return index

    def _nearest(
        self, origins: np.ndarray, directions: np.ndarray, start: int, end: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Distance and index of the nearest of some triangles for every ray; infinite where it meets none."""
        first, second = self.edges[start:end, 0], self.edges[start:end, 1]
        across = np.cross(directions[:, None], second)
        determinant = np.einsum("mtc,tc->mt", across, first)
        offset = origins[:, None] - self.corner[start:end]
        u = np.einsum("mtc,mtc->mt", offset, across) / determinant
        along = np.cross(offset, first)
        v = np.einsum("mtc,mc->mt", along, directions) / determinant
        distance = np.einsum("mtc,tc->mt", along, second) / determinant
        inside = (u >= -SLACK) & (v >= -SLACK) & (u + v <= 1 + SLACK) & (distance > 0)
        distance = np.where(inside, distance, np.inf)
        best = distance.argmin(axis=1)
        return distance[np.arange(len(distance)), best], start + best
