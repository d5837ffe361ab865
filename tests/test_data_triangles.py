"""Ray-triangle intersection without embree: against float64 loops, against embree, and on whole rooms."""

from __future__ import annotations

import numpy as np
import pytest

from tokengroups.data.procedural import generate_room, raycast
from tokengroups.data.procedural.triangles import NumpyScene


def first_hit_by_a_loop(origin: np.ndarray, direction: np.ndarray, corners: np.ndarray) -> int:
    """Solve origin + t direction = a + u e1 + v e2 for every triangle."""
    best, index = np.inf, -1
    for number, (a, b, c) in enumerate(corners.astype(np.float64)):
        t, u, v = np.linalg.solve(np.stack([-direction, b - a, c - a], axis=1), origin - a)
        if u >= 0 and v >= 0 and u + v <= 1 and 0 < t < best:
            best, index = t, number
    return index


@pytest.mark.parametrize("seed", range(3))
def test_hits_are_those_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    corners = (rng.normal(size=(40, 1, 3)) * 2 + rng.normal(size=(40, 3, 3))).astype(np.float32)
    origins, directions = rng.normal(size=(60, 3)) * 3, rng.normal(size=(60, 3))
    scene = NumpyScene(corners, [7, 0, 13, 20])
    found = scene.run(origins, directions)
    assert found.tolist() == [first_hit_by_a_loop(o, d, corners) for o, d in zip(origins, directions, strict=True)]
    assert 5 < (found >= 0).sum() < 60
    reach = np.full(60, 0.5)
    occluded = scene.run(origins, directions, reach, query="OCCLUDED") >= 0
    assert occluded.tolist() == (scene.run(origins, directions, reach) >= 0).tolist()
    assert occluded.sum() < (found >= 0).sum()


def test_triangles_in_the_plane_of_a_ray_are_never_met():
    corners = np.array([[[0, -1, 2], [0, 1, 2], [0, 0, 3]]], np.float32)  # the ray runs within x = 0
    assert NumpyScene(corners, [1]).run(np.zeros((1, 3)), np.array([[0.0, 0, 1]])).tolist() == [-1]


def test_rooms_are_those_of_embree_but_for_single_pixels(monkeypatch):
    pytest.importorskip("embreex", reason="compares with embree, which has no wheel for this platform")
    expected = generate_room(5, 2, "train", num_views=2, size=48)
    monkeypatch.setattr(raycast, "EmbreeScene", None)
    room = generate_room(5, 2, "train", num_views=2, size=48)
    assert np.array_equal(room.cam_from_world, expected.cam_from_world)
    assert (room.group_ids == expected.group_ids).mean() > 0.999
    assert (np.abs(room.depth - expected.depth) < 1e-3).mean() > 0.999
    same = (np.abs(room.images.astype(int) - expected.images) <= 1).all(axis=-1)
    assert same.mean() > 0.99
