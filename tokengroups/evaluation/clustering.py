"""The geometric baseline: anchors grouped by position alone, room planes first, then density clusters.

It uses no learned grouping, only where the anchors are; a learned grouping has to beat it to be worth
anything. All lengths are fractions of the median distance of the anchors from the first camera, so the
settings hold for scenes of any scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from sklearn.cluster import HDBSCAN


@dataclass(frozen=True)
class PlanesHdbscanSettings:
    """Thresholds, the same for every model and data set.

    The defaults were chosen once, by AP on 14 procedural training rooms whose true depth was distorted
    smoothly by 3 and 6 percent; neighbouring values differ little.
    """

    max_planes: int = 5
    plane_trials: int = 1000  # random triples of anchors per plane
    plane_tolerance: float = 0.04  # of the median distance
    min_plane_share: float = 0.08  # of all anchors
    max_share_behind: float = 0.03  # a room plane bounds the room: hardly any anchor may lie behind it
    min_cluster_size: int = 5
    min_samples: int = 3


def planes_hdbscan(
    points: Float[np.ndarray, "K 3"], settings: PlanesHdbscanSettings = PlanesHdbscanSettings()
) -> Int64[np.ndarray, " K"]:
    """Group anchors: RANSAC planes that bound the room, then HDBSCAN of the remaining positions.

    Args:
        points: Anchor positions; the origin, the first camera, is inside the room.
        settings: Thresholds.

    Returns:
        Group of every anchor, 0, 1, ...: planes first. What HDBSCAN calls noise joins the group of the
        nearest grouped anchor, so that no anchor is lost. The result is the same for the same points.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.evaluation.clustering import planes_hdbscan
        >>> labels = planes_hdbscan(tg.example_scene().anchors.numpy())
        >>> labels.shape, int(labels.min())
        ((613,), 0)
    """
    points = points.astype(np.float64) / max(float(np.median(np.linalg.norm(points, axis=1))), 1e-9)
    labels = np.full(len(points), -1, dtype=np.int64)
    random = np.random.default_rng(0)
    for plane in range(settings.max_planes):
        inliers = _room_plane(points, labels < 0, settings, random)
        if inliers is None:
            break
        labels[inliers] = plane
    rest = np.flatnonzero(labels < 0)
    if len(rest) >= max(settings.min_cluster_size, 2):
        clustering = HDBSCAN(settings.min_cluster_size, min_samples=settings.min_samples, copy=True)  # pyright: ignore[reportArgumentType]
        clusters = clustering.fit_predict(points[rest])
        labels[rest] = np.where(clusters >= 0, clusters + labels.max() + 1, -1)
    return _fill_from_nearest(points, labels)


def _room_plane(
    points: np.ndarray, free: np.ndarray, settings: PlanesHdbscanSettings, random: np.random.Generator
) -> Bool[np.ndarray, " K"] | None:
    """Free anchors on the best supported plane that bounds the room; None if there is no such plane."""
    candidates = np.flatnonzero(free)
    if len(candidates) < 3:
        return None
    triples = points[random.choice(candidates, size=(settings.plane_trials, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    proper = lengths > 1e-9
    normals = normals[proper] / lengths[proper, None]
    offsets = np.einsum("tc,tc->t", normals, triples[proper, 0])
    support, behind = _support(points, free, normals, offsets, settings.plane_tolerance)
    support[behind > settings.max_share_behind * len(points)] = 0
    if len(support) == 0 or support.max() < settings.min_plane_share * len(points):
        return None
    best = int(support.argmax())
    inliers = free & (np.abs(points @ normals[best] - offsets[best]) < settings.plane_tolerance)
    return _refit(points, free, inliers, settings.plane_tolerance)


def _support(
    points: np.ndarray, free: np.ndarray, normals: np.ndarray, offsets: np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Per plane: free anchors on it, and anchors on its far side as seen from the first camera."""
    toward_camera = np.where(offsets > 0, -1.0, 1.0)  # the camera, at the origin, is at height -offset
    heights = (points @ normals.T - offsets) * toward_camera
    support = ((np.abs(heights) < tolerance) & free[:, None]).sum(axis=0)
    return support, (heights < -2 * tolerance).sum(axis=0)


def _refit(points: np.ndarray, free: np.ndarray, inliers: np.ndarray, tolerance: float) -> Bool[np.ndarray, " K"]:
    """Least-squares plane through the inliers, and the free anchors on it."""
    centre = points[inliers].mean(axis=0)
    normal = np.linalg.svd(points[inliers] - centre, full_matrices=False)[2][-1]
    return free & (np.abs((points - centre) @ normal) < tolerance)


def _fill_from_nearest(points: np.ndarray, labels: np.ndarray) -> Int64[np.ndarray, " K"]:
    grouped = labels >= 0
    if not grouped.any():
        return np.zeros_like(labels)
    distances = np.linalg.norm(points[~grouped, None] - points[None, grouped], axis=-1)
    filled = labels.copy()
    filled[~grouped] = labels[grouped][distances.argmin(axis=1)]
    return filled
