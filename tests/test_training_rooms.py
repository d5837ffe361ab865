"""The stream of training rooms: generated and recorded ones, in an order that the seed fixes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tokengroups.data.procedural import generate_room
from tokengroups.data.scannet import write_scannet
from tokengroups.errors import UserError
from tokengroups.training.rooms import RoomsConfig, RoomStream, draw_frames


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RoomsConfig:
    folder = tmp_path_factory.mktemp("rooms")
    for index in range(2):
        write_scannet(folder / f"scene{index:04d}_00", generate_room(1, index, num_views=6, size=48))
    return RoomsConfig(cache=str(folder / "cache"), num_rooms=3, num_views=4, size=32, recorded=str(folder))


def test_every_room_comes_once_an_epoch_in_another_order(config):
    stream = RoomStream(dataclasses.replace(config, recorded=None), seed=0)
    first = [stream.path(draw).views.images for draw in range(3)]
    second = [stream.path(draw).views.images for draw in range(3, 6)]
    assert all(not torch.equal(first[i], first[j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    assert all(any(torch.equal(a, b) for b in second) for a in first)
    assert torch.equal(stream.path(1).views.images, first[1])  # going back gives the same again


def test_recordings_give_stretches_at_the_asked_step_and_size(config):
    stream = RoomStream(dataclasses.replace(config, frame_step=1), seed=0)
    path = stream.path(0)
    views = path.views
    assert views.images.shape == (4, 3, 32, 32)
    seen = set(views.group_ids.unique().tolist()) - {-1}
    assert seen <= set(path.classes) and "wall" in path.classes.values()
    assert views.cameras.size_hw == (32, 32)
    assert (views.depth > 0).float().mean() > 0.9
    assert views.group_ids.max() > 0
    assert torch.equal(views.images, RoomStream(stream.config, seed=0).path(0).views.images)


def test_a_recording_too_short_for_the_step_is_refused(config):
    with pytest.raises(UserError, match="too few frames with a pose for 4 views 10 apart"):
        RoomStream(config, seed=0).path(0)


def test_drawn_frames_are_neighbours_within_the_gap():
    for seed in range(200):
        frames = draw_frames(np.random.default_rng(seed), 8, 4, 3)
        gaps = np.diff(sorted(frames))
        assert len(set(frames)) == 4 and min(frames) >= 0 and max(frames) <= 7
        assert (gaps >= 1).all() and (gaps <= 3).all()
    with pytest.raises(ValueError, match="at most the path's 3"):
        draw_frames(np.random.default_rng(0), 3, 4, 1)


def test_zoom_varies_the_focal_length_within_its_bound(config):
    stream = RoomStream(dataclasses.replace(config, recorded=None, zoom=1.5), seed=0)
    views = stream.path(0).views
    focal = views.cameras.intrinsics[0, 0, 0]
    factors = [
        (stream.augment(views, np.random.default_rng(seed)).cameras.intrinsics[:, 0, 0] / focal)
        for seed in range(20)
    ]
    assert all((factor == factor[0]).all() for factor in factors)  # one lens a scene
    assert (
        min(f[0] for f in factors) >= 0.97 and 1.3 < max(f[0] for f in factors) < 1.55
    )  # whole source pixels
    untouched = sum(bool(factor[0] == 1) for factor in factors)
    assert 4 <= untouched <= 16  # about every second scene keeps its lens
