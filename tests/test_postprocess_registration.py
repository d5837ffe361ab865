"""Registration of photos: a room whose geometry is exact, photos put off in it, and graphs against scipy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from photographed_room import SIZE_HW, room_cameras, room_depth, room_photos
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from tokengroups.encoders import Geometry, geometry_of
from tokengroups.geometry import rigid
from tokengroups.postprocess.registration import REGISTERED, compare_photos, largest_set, register_photos, registrations
from tokengroups.types import Cameras

VIEWS = 4


@pytest.fixture(scope="module")
def room() -> tuple[Tensor, Geometry]:
    cameras = room_cameras(VIEWS)
    depth = room_depth(cameras)
    features = torch.zeros(1, VIEWS, 1, 8, 10)
    geometry = geometry_of(features, depth[None], torch.ones_like(depth)[None], cameras.map(lambda t: t[None]))
    return room_photos(cameras, depth), geometry.scene(0)


def turned(geometry: Geometry, view: int, degrees: float) -> Geometry:
    """One camera turned about its own axes."""
    poses = geometry.cameras.cam_from_world.clone()
    turn = Rotation.from_rotvec([0.0, math.radians(degrees), 0.0]).as_matrix()
    poses[view] = rigid(torch.from_numpy(turn).float(), torch.zeros(3)) @ poses[view]
    return replace(geometry, cameras=replace(geometry.cameras, cam_from_world=poses))


def test_photos_in_place_register_with_errors_below_a_pixel(room):
    for each in register_photos(*room):
        assert each.registered and each.score > 0.6 and each.score <= min(each.matched, each.consistent) <= 1
        assert each.reprojection_px is not None and each.reprojection_px < 0.6
        assert each.partner in range(VIEWS)


@pytest.mark.parametrize("view", [0, 2])
@pytest.mark.parametrize("degrees", [-20, 15])
def test_a_photo_turned_away_does_not_register_whichever_it_is(room, view, degrees):
    photos, geometry = room
    found = register_photos(photos, turned(geometry, view, degrees))
    assert [each.registered for each in found] == [other != view for other in range(VIEWS)]
    assert found[view].score < REGISTERED and found[view].partner != view
    assert all(each.partner != view for each in found)


def test_a_photo_at_a_wrong_depth_does_not_register(room):
    photos, geometry = room
    depth = geometry.depth.clone()
    depth[1] *= 1.5
    found = register_photos(photos, replace(geometry, depth=depth))
    assert [each.registered for each in found] == [True, False, True, True]


@pytest.mark.parametrize("other", ["blank", "noise", "mirrored"])
def test_photos_of_something_else_do_not_register(room, other):
    photos, geometry = room
    strange = {"blank": torch.ones(3, *SIZE_HW), "noise": torch.rand(3, *SIZE_HW), "mirrored": photos[3].flip(-1)}[
        other
    ]
    found = register_photos(torch.cat([photos[:3], strange[None]]), geometry)
    assert [each.registered for each in found] == [True, True, True, False]


def test_blank_photos_do_not_register_and_a_single_one_does(room):
    photos, geometry = room
    for blank in (torch.zeros_like(photos), torch.rand_like(photos)):
        assert not any(each.registered for each in register_photos(blank, geometry))
    (single,) = register_photos(torch.zeros_like(photos[:1]), geometry.map(lambda tensor: tensor[:1]))
    assert single.registered and single.partner is None


def test_pixels_that_do_not_count_are_no_evidence(room):
    photos, geometry = room
    mask = torch.ones(VIEWS, *SIZE_HW, dtype=torch.bool)
    mask[3, :, 8:] = False
    found = register_photos(photos, replace(geometry, mask=mask))
    assert [each.registered for each in found] == [True, True, True, False]


def test_scores_do_not_depend_on_order_unit_and_size(room):
    photos, geometry = room
    plain, order = compare_photos(photos, geometry), torch.tensor([2, 0, 3, 1])
    shuffled = compare_photos(photos[order], geometry.map(lambda tensor: tensor[order]))
    torch.testing.assert_close(shuffled, plain[:, order][:, :, order], equal_nan=True, rtol=0, atol=5e-3)
    poses = geometry.cameras.cam_from_world.clone()
    poses[:, :3, 3] *= 50
    larger = replace(geometry, depth=50 * geometry.depth, cameras=replace(geometry.cameras, cam_from_world=poses))
    torch.testing.assert_close(compare_photos(photos, larger), plain, equal_nan=True, rtol=0, atol=5e-3)
    assert torch.equal(plain[:3], plain[:3].mT)
    many = functional.interpolate(photos, scale_factor=2, mode="bilinear")
    depth = functional.interpolate(geometry.depth[:, None], scale_factor=2, mode="bilinear")[:, 0]
    pinholes = geometry.cameras.intrinsics * torch.tensor([[2.0], [2.0], [1.0]])
    cameras = Cameras(geometry.cameras.cam_from_world[None], pinholes[None], (2 * SIZE_HW[0], 2 * SIZE_HW[1]))
    doubled = geometry_of(torch.zeros(1, VIEWS, 1, 8, 10), depth[None], depth[None], cameras).scene(0)
    torch.testing.assert_close(compare_photos(many, doubled)[0], plain[0], rtol=0, atol=0.1)


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_set_is_that_of_scipy(seed):
    generator = np.random.default_rng(seed)
    links = generator.random((9, 9)) < 0.12
    links |= links.T
    _, labels = connected_components(links, directed=False)
    counts = np.bincount(labels)[labels]
    expected = set(np.flatnonzero(labels == labels[counts.argmax()]).tolist()) if counts.max() > 1 else set()
    assert largest_set(torch.from_numpy(links)) == expected


def test_of_equal_sets_the_earliest_counts_and_scores_are_those_with_it():
    scores = torch.zeros(4, 4)
    scores[0, 2] = scores[2, 0] = 0.5
    scores[1, 3] = scores[3, 1] = 0.9
    scores[1, 2] = scores[2, 1] = 0.04
    found = registrations(torch.stack([scores, scores, scores, torch.full((4, 4), torch.nan)]))
    assert [each.registered for each in found] == [True, False, True, False]
    assert (found[1].score, found[1].partner) == (pytest.approx(0.04), 2)
    assert found[0].to_json() == {
        "registered": True, "score": 0.5, "matched": 0.5, "consistent": 0.5, "reprojection_px": None, "partner": 2,
    }  # fmt: skip
