"""Geometric baseline: anchors grouped by position alone, room planes first, then density clusters.

A learned grouping has to beat it to be worth anything. Lengths are fractions of the median distance of the anchors from
the first camera, so the constants hold for scenes of any scale. They were chosen once, by AP on 14 procedural training
rooms whose true depth was distorted smoothly by 3 and 6 percent; neighbouring values differ little.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int64

MAX_PLANES = 5
PLANE_TRIALS = 1000  # random triples of anchors per plane
PLANE_TOLERANCE = 0.04
MIN_PLANE_SHARE = 0.08  # of all anchors
MAX_SHARE_BEHIND = 0.03  # a room plane bounds the room: hardly any anchor is behind it
MIN_CLUSTER_SIZE = 5
MIN_SAMPLES = 3  # of HDBSCAN


def planes_hdbscan(points: Float[np.ndarray, "K 3"]) -> Int64[np.ndarray, " K"]:
    """Group anchors: RANSAC planes that bound the room, then HDBSCAN of the remaining positions.

    Args:
        points: Anchor positions; the origin, the first camera, is inside the room.

    Returns:
        Group of every anchor, 0, 1, ...: planes first. Noise of HDBSCAN joins the group of the nearest grouped anchor.
        The same points give the same groups.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.clustering import planes_hdbscan
        >>> labels = planes_hdbscan(tg.example_scene().anchors.numpy())
        >>> labels.shape, int(labels.min())
        ((613,), 0)
    """
    from sklearn.cluster import HDBSCAN  # takes half a second to import, and few commands cluster

    points = points.astype(np.float64) / max(float(np.median(np.linalg.norm(points, axis=1))), 1e-9)
    labels = np.full(len(points), -1, dtype=np.int64)
    random = np.random.default_rng(0)
    for plane in range(MAX_PLANES):
        inliers = _room_plane(points, labels < 0, random)
        if inliers is None:
            break
        labels[inliers] = plane
    rest = np.flatnonzero(labels < 0)
    if len(rest) >= MIN_CLUSTER_SIZE:
        clusters = HDBSCAN(MIN_CLUSTER_SIZE, min_samples=MIN_SAMPLES, copy=True).fit_predict(points[rest])  # pyright: ignore[reportArgumentType]
        labels[rest] = np.where(clusters >= 0, clusters + labels.max() + 1, -1)
    return _fill_from_nearest(points, labels)


def _room_plane(
    points: Float[np.ndarray, "K 3"], free: Bool[np.ndarray, " K"], random: np.random.Generator
) -> Bool[np.ndarray, " K"] | None:
    """Free anchors on the best supported plane that bounds the room; None if there is no such plane."""
    candidates = np.flatnonzero(free)
    if len(candidates) < 3:
        return None
    triples = points[random.choice(candidates, size=(PLANE_TRIALS, 3))]
    normals = np.cross(triples[:, 1] - triples[:, 0], triples[:, 2] - triples[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    proper = lengths > 1e-9
    normals = normals[proper] / lengths[proper, None]
    offsets = np.einsum("tc,tc->t", normals, triples[proper, 0])
    toward_camera = np.where(offsets > 0, -1.0, 1.0)  # the camera, at the origin, is at height -offset
    heights = (points @ normals.T - offsets) * toward_camera
    support = ((np.abs(heights) < PLANE_TOLERANCE) & free[:, None]).sum(axis=0)
    behind = (heights < -2 * PLANE_TOLERANCE).sum(axis=0)
    support[behind > MAX_SHARE_BEHIND * len(points)] = 0
    if len(support) == 0 or support.max() < MIN_PLANE_SHARE * len(points):
        return None
    best = int(support.argmax())
    inliers = free & (np.abs(points @ normals[best] - offsets[best]) < PLANE_TOLERANCE)
    centre = points[inliers].mean(axis=0)
    least_squares_normal = np.linalg.svd(points[inliers] - centre, full_matrices=False)[2][-1]
    return free & (np.abs((points - centre) @ least_squares_normal) < PLANE_TOLERANCE)


def _fill_from_nearest(points: np.ndarray, labels: np.ndarray) -> Int64[np.ndarray, " K"]:
    grouped = labels >= 0
    if not grouped.any():
        return np.zeros_like(labels)
    distances = np.linalg.norm(points[~grouped, None] - points[None, grouped], axis=-1)
    filled = labels.copy()
    filled[~grouped] = labels[grouped][distances.argmin(axis=1)]
    return filled
