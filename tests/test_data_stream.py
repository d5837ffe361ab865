"""The stream of training scenes: generated and recorded ones, in an order that the seed fixes; and held-out ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from tokengroups.data.augment import shrink_turns, to_views, turn_views
from tokengroups.data.example import FramePlan, cut_example
from tokengroups.data.procedural import generate_room
from tokengroups.data.readers.scannet import ScanNetScene, write_scannet
from tokengroups.data.stream import (
    DataConfig,
    ExampleConfig,
    ExampleStream,
    PathStream,
    draw_frames,
    held_out_examples,
    held_out_views,
)
from tokengroups.errors import UserError
from tokengroups.geometry import invert_rigid, project, transform_points, world_points
from tokengroups.types import Views


def path_views(stream: PathStream, draw: int) -> Views:
    """All frames of a draw, square and not augmented."""
    path = stream.path(draw)
    return to_views(path, range(len(path)), stream.config.size)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> DataConfig:
    """Procedural rooms."""
    cache = str(tmp_path_factory.mktemp("rooms"))
    return DataConfig(root=cache, options={"num_rooms": 3}, num_frames=4, size=32)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> DataConfig:
    """Four recordings, of which a hash of the names holds two out."""
    folder = tmp_path_factory.mktemp("scans")
    for index in range(4):
        write_scannet(folder / f"scene{index:04d}_00", generate_room(1, index, num_views=6, size=48))
    return DataConfig(dataset="scannet", root=str(folder), num_frames=4, size=32)


def test_every_room_comes_once_an_epoch_in_another_order(config):
    stream = PathStream(config, seed=0)
    first = [path_views(stream, draw).images for draw in range(3)]
    second = [path_views(stream, draw).images for draw in range(3, 6)]
    assert all(not torch.equal(first[i], first[j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    assert all(any(torch.equal(a, b) for b in second) for a in first)
    assert torch.equal(path_views(stream, 1).images, first[1])  # going back gives the same again


def test_rooms_of_several_seeds_make_one_epoch(config):
    def stream(*seeds: int) -> PathStream:
        options = {"num_rooms": 2, "seeds": list(seeds)}
        return PathStream(dataclasses.replace(config, options=options), seed=0)

    drawn = [path_views(stream(0, 4), draw).images for draw in range(4)]
    for seed in (0, 4):
        for draw in range(2):
            expected = path_views(stream(seed), draw).images
            assert sum(torch.equal(expected, images) for images in drawn) == 1


def test_recordings_give_stretches_of_the_asked_size(recorded):
    stream = PathStream(recorded, seed=0)
    path = stream.path(0)
    views = path_views(stream, 0)
    assert views.images.shape == (4, 3, 32, 32)
    seen = set(views.group_ids.unique().tolist()) - {-1}
    assert seen <= set(path.instance_classes) and "wall" in path.instance_classes.values()
    assert views.cameras.size_hw == (32, 32)
    assert (views.depth > 0).float().mean() > 0.9
    assert views.group_ids.max() > 0
    assert torch.equal(views.images, path_views(PathStream(stream.config, seed=0), 0).images)


def test_a_recording_too_short_for_the_step_is_refused(recorded):
    with pytest.raises(UserError, match="scene scene.*: too few frames for 4 views 10 apart"):
        PathStream(dataclasses.replace(recorded, frame_step=10), seed=0).path(0)


def test_training_never_draws_the_recordings_that_watch_it(recorded):
    """They are watched in their own data set, at its own frame step, as `tokengroups evaluate` cuts them."""
    drawn = {PathStream(recorded, seed=0).path(draw).name for draw in range(12)}
    config = ExampleConfig(dataset="scannet", root=recorded.root, num_frames=3, size=24, context_views=1, frame_step=2)
    examples = list(held_out_examples(config))
    watched = [example.names[0] for example in examples]
    assert sorted([*drawn, *watched]) == [f"scene{index:04d}_00" for index in range(4)]
    for name, example in zip(watched, examples, strict=True):
        expected = cut_example(ScanNetScene(f"{recorded.root}/{name}")[:], FramePlan(1, frame_step=2), 24)
        assert torch.equal(example.targets.images, expected.targets.images)
        assert example.targets.images.shape == (2, 3, 24, 24)
    expected = [to_views(ScanNetScene(f"{recorded.root}/{name}")[:3], range(3), 32) for name in watched]
    for views, truth in zip(held_out_views(recorded, 3), expected, strict=True):
        assert torch.equal(views.images, truth.images) and views.images.shape == (3, 3, 32, 32)
    (first,) = held_out_views(dataclasses.replace(recorded, evaluation_scenes=1), 3)
    assert torch.equal(first.images, expected[0].images)


def test_procedural_training_is_watched_on_rooms_of_a_seed_of_its_own(config):
    examples = list(
        held_out_examples(ExampleConfig(root=config.root, num_frames=3, size=32, context_views=1, evaluation_scenes=2))
    )
    expected = [cut_example(generate_room(714_025, n, "test", 3, 32), FramePlan(1)) for n in range(2)]
    assert [example.names for example in examples] == [("test_714025_000000",), ("test_714025_000001",)]
    for example, room in zip(examples, expected, strict=True):
        assert torch.equal(example.context.images, room.context.images)


def test_examples_are_a_pure_function_of_seed_step_and_slot(config):
    settings = ExampleConfig(root=config.root, options={"num_rooms": 3}, num_frames=5, size=32)
    batch = ExampleStream(settings, seed=1, batch_size=4).batch(3, range(1, 3))
    stream = ExampleStream(settings, seed=1, batch_size=4)
    stream.batch(0, range(4))
    for place, slot in enumerate((1, 2)):
        example = stream.example(3, slot)
        assert torch.equal(batch.targets.images[place], example.targets.images)
        assert (batch.names[place], batch.classes[place]) == (*example.names, *example.classes)
        assert torch.equal(example.targets.images[1::2], example.context.images)
    other = ExampleStream(settings, seed=2, batch_size=4).batch(3, range(1, 3))
    assert not torch.equal(batch.targets.images, other.targets.images)


def test_drawn_frames_are_neighbours_within_the_gap():
    for seed in range(200):
        frames = draw_frames(np.random.default_rng(seed), 8, 4, 3)
        gaps = np.diff(sorted(frames))
        assert len(set(frames)) == 4 and min(frames) >= 0 and max(frames) <= 7
        assert (gaps >= 1).all() and (gaps <= 3).all()
    with pytest.raises(ValueError, match="at most the path's 3"):
        draw_frames(np.random.default_rng(0), 3, 4, 1)


def test_zoom_varies_the_focal_length_within_its_bound(config):
    stream = PathStream(dataclasses.replace(config, zoom=1.5), seed=0)
    views = path_views(stream, 0)
    focal = views.cameras.intrinsics[0, 0, 0]
    factors = [
        (stream.augment(views, np.random.default_rng(seed)).cameras.intrinsics[:, 0, 0] / focal) for seed in range(20)
    ]
    assert all((factor == factor[0]).all() for factor in factors)  # one lens a scene
    assert min(f[0] for f in factors) >= 0.97 and 1.3 < max(f[0] for f in factors) < 1.55  # whole source pixels
    untouched = sum(bool(factor[0] == 1) for factor in factors)
    assert 4 <= untouched <= 16  # about every second scene keeps its lens


def test_turned_photos_show_the_same_points_of_the_same_objects(config):
    """Every pixel of a photo turned about its centre lies in the world where the untouched photo sees it."""
    views = path_views(PathStream(config, seed=0), 0)
    turns = torch.tensor([[0.0, 0.1, 0.0], [-0.08, 0.0, 0.0], [0.0, 0.0, 0.15], [0.05, -0.05, 0.05]])
    rotations = shrink_turns(views.cameras, turns, 1.5)
    turned = turn_views(views, rotations, 1.5)
    assert (turned.cameras.intrinsics[:, 0, 0] == 1.5 * views.cameras.intrinsics[:, 0, 0]).all()
    before, after = (v.cameras.cam_from_world for v in (views, turned))
    centres = [invert_rigid(cam_from_world)[:, :3, 3] for cam_from_world in (before, after)]
    torch.testing.assert_close(centres[1], centres[0], rtol=0, atol=1e-5)
    points = world_points(turned.depth, after, turned.cameras.intrinsics)
    pixels, depth = project(transform_points(before, points.flatten(1, 2)), views.cameras.intrinsics)
    pixels, depth = pixels.unflatten(1, (32, 32)), depth.unflatten(1, (32, 32))
    assert pixels.min() >= 0 and pixels.max() <= 32  # nothing beside the photo
    column, row = pixels.floor().long().clamp(0, 31).unbind(-1)
    photo = torch.arange(len(pixels))[:, None, None]
    assert (turned.group_ids == views.group_ids[photo, row, column]).float().mean() > 0.99
    assert (depth - views.depth[photo, row, column]).abs().quantile(0.99) < 1e-4
    seen = [
        map_coordinates(views.images[v, c].double(), (pixels[v] - 0.5).flip(-1).permute(2, 0, 1).double(),
                        order=1, mode="nearest")
        for v in range(len(pixels)) for c in range(3)
    ]  # fmt: skip
    torch.testing.assert_close(turned.images.flatten(0, 1), torch.from_numpy(np.stack(seen)).float(), rtol=0, atol=2e-3)


def test_turns_are_shortened_to_what_the_photo_shows(config):
    cameras = path_views(PathStream(config, seed=0), 0).cameras
    turns = torch.tensor([[0.0, 0.02, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    angles = [float(((r.trace() - 1) / 2).clamp(-1, 1).acos()) for r in shrink_turns(cameras, turns, zoom=1.3)]
    assert angles[0] == pytest.approx(0.02, abs=1e-4)  # fits as it is
    assert 0 < angles[1] < 0.3 and angles[2] < 0.3 and angles[3] == 0
    still = shrink_turns(cameras, turns, zoom=1.0)
    assert torch.equal(still, torch.eye(3).expand_as(still))  # no room for any turn


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zoom": 0.9}, "zoom must be a finite number from 1 to 100, got 0.9"),
        ({"turn": -1.0, "zoom": 1.3}, "turn must be a finite number from 0 to 90, got -1.0"),
        ({"turn": 5.0}, r"data\.turn needs data\.zoom above 1, got 5.0 with 1.0"),
    ],
)
def test_enlargements_and_turns_that_cannot_be_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(config, **changes)


def test_each_photo_of_a_scene_turns_by_itself(config):
    stream = PathStream(dataclasses.replace(config, zoom=1.5, turn=8, mirror=0), seed=0)
    views = path_views(stream, 0)
    for seed in range(20):
        got = stream.augment(views, np.random.default_rng(seed))
        turns = got.cameras.cam_from_world[:, :3, :3] @ views.cameras.cam_from_world[:, :3, :3].mT
        cosines = (turns.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2
        if (got.cameras.intrinsics[0, 0, 0] / views.cameras.intrinsics[0, 0, 0]) > 1.2:
            assert len(cosines.unique()) == len(cosines) and (cosines.max() < 1)
        assert (cosines > np.cos(np.deg2rad(8 * 3**0.5 + 0.1))).all()


def test_every_second_step_has_images_of_another_shape(config):
    stream = PathStream(dataclasses.replace(config, size=64, aspect=2.0), seed=0, multiple=8)
    shapes = [stream.shape(step) for step in range(400)]
    assert shapes == [PathStream(stream.config, seed=0, multiple=8).shape(step) for step in range(400)]
    squares = sum(shape == (64, 64) for shape in shapes) / len(shapes)
    assert 0.45 < squares < 0.7 and {max(shape) for shape in shapes} == {64}
    assert {min(shape) for shape in shapes} == {32, 40, 48, 56, 64}
    portraits = sum(height > width for height, width in shapes) / sum(height != width for height, width in shapes)
    assert 0.15 < portraits < 0.35
    views = stream.views(stream.path(0), [0, 1], (40, 64), np.random.default_rng(0))
    assert views.images.shape[-2:] == (40, 64) and views.cameras.size_hw == (40, 64)


def test_views_that_are_not_square_keep_points_on_their_pixels():
    """Every pixel's point, from its depth and camera, lies in the whole frame on the pixel that it was cut from."""
    frames = generate_room(2, 0, num_views=2, size=64)
    whole, cut = to_views(frames, [0, 1]), to_views(frames, [0, 1], (16, 32))
    points = world_points(cut.depth, cut.cameras.cam_from_world, cut.cameras.intrinsics).flatten(1, 2)
    in_cam = transform_points(whole.cameras.cam_from_world, points)
    pixels, depth = project(in_cam, whole.cameras.intrinsics)
    column, row = pixels.floor().long().unbind(-1)
    assert float((whole.depth[torch.arange(2)[:, None], row, column] / depth - 1).abs().median()) < 0.02
