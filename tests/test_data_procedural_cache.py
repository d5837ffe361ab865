"""The cache of procedural rooms, and the tensors made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tokengroups.data.augment import collate, jitter_colours, mirror, to_views
from tokengroups.data.base import open_dataset
from tokengroups.data.procedural import cache as rooms_module
from tokengroups.data.procedural.cache import ProceduralRooms
from tokengroups.errors import UserError
from tokengroups.geometry import invert_rigid, project, transform_points, unproject
from tokengroups.types import SceneFrames

FIELDS = ("images", "depth", "group_ids", "cam_from_world", "intrinsics")


def assert_same(first: SceneFrames, second: SceneFrames) -> None:
    assert first.name == second.name and first.instance_classes == second.instance_classes
    for field in FIELDS:
        a, b = getattr(first, field), getattr(second, field)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def frames() -> SceneFrames:
    return ProceduralRooms(seeds=(5,), num_rooms=1, num_frames=4, size=32)[0]


def test_cached_room_equals_generated_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = ProceduralRooms(tmp_path, seeds=(5,), num_rooms=2, num_frames=2, size=24)
    made = rooms[1]
    assert_same(made, ProceduralRooms(seeds=(5,), num_rooms=2, num_frames=2, size=24)[1])
    monkeypatch.setattr(rooms_module, "generate_room", None)
    assert_same(made, rooms[1])
    assert [path.name for path in tmp_path.glob("*/*")] == ["000001.npz"]


def test_damaged_cache_file_is_made_again(tmp_path: Path) -> None:
    rooms = ProceduralRooms(tmp_path, seeds=(5,), num_rooms=1, num_frames=2, size=24)
    made, path = rooms[0], rooms.path(0)
    assert path is not None
    whole = path.read_bytes()
    for damage in (b"", b"not a zip", whole[: len(whole) // 2], whole[:200] + b"\0" * 400 + whole[600:]):
        path.write_bytes(damage)
        assert_same(made, rooms[0])
        assert path.read_bytes() == whole


def test_cache_key_holds_all_that_determines_the_pixels(tmp_path: Path) -> None:
    settings = {"root": tmp_path, "seeds": (1,), "num_rooms": 3, "num_frames": 4, "size": 32}
    paths = {ProceduralRooms(**settings).path(0)}
    for change in ({"seeds": (2,)}, {"num_frames": 5}, {"size": 64}, {"gaze": "around"}):
        paths.add(ProceduralRooms(**(settings | change)).path(0))
    rooms = ProceduralRooms(**settings)
    paths |= {rooms.path(rooms.splits[split][0]) for split in ("test", "val")}
    assert len(paths) == 7
    assert ProceduralRooms(**(settings | {"num_rooms": 9})).path(0) in paths


def test_splits_are_rooms_of_the_seeds_and_of_one_to_watch_with(tmp_path: Path) -> None:
    def files(rooms: ProceduralRooms, split: str) -> list[str]:
        paths = [rooms.path(index) for index in rooms.splits[split]]
        return [f"{path.parent.name}/{path.stem}" for path in paths if path is not None]

    rooms = ProceduralRooms(tmp_path, num_frames=3, size=16, seeds=(5, 9), num_rooms=2)
    for split in ("train", "test"):
        folders = [f"rooms_v1_{split}_seed{seed}_3x16" for seed in (5, 9)]
        assert files(rooms, split) == [f"{name}/00000{number}" for name in folders for number in (0, 1)]
    watched = files(rooms, "val")
    assert watched[:2] == [f"rooms_v1_test_seed714025_3x16/00000{number}" for number in (0, 1)]
    assert watched == files(ProceduralRooms(tmp_path, num_frames=3, size=16, seeds=(1,)), "val")
    assert len(rooms) == 2 + 2 + 2 + 2 + len(watched)
    for index in (-1, len(rooms)):
        with pytest.raises(IndexError):
            rooms[index]


@pytest.mark.parametrize(
    "options", [{"seeds": 3}, {"seeds": []}, {"seeds": [-1]}, {"seeds": ["a"]}, {"num_rooms": 0}, {"num_room": 4}]
)
def test_options_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"data set procedural: .*{next(iter(options))}"):
        open_dataset("procedural", options=options)
    assert open_dataset("procedural", options={"seeds": [2, 3]}).splits["test"] == range(8000, 16000)


def test_views_keep_order_range_and_labels(frames: SceneFrames) -> None:
    views = to_views(frames, [2, 0])
    assert views.images.shape == (2, 3, 32, 32) and views.group_ids.dtype == torch.int64
    np.testing.assert_array_equal((views.images[1] * 255).round().byte().permute(1, 2, 0), frames.images[0])
    np.testing.assert_array_equal(views.group_ids[0], frames.group_ids[2])
    np.testing.assert_allclose(views.cameras.cam_from_world[1], frames.cam_from_world[0], atol=1e-6)
    assert views.cameras.size_hw == (32, 32)


def test_mirrored_scene_is_a_consistent_scene(frames: SceneFrames) -> None:
    """Points of view 0 project into view 1 at mirrored pixels with the same depth; poses stay rigid."""
    views = to_views(frames, [0, 1])
    turned = mirror(views)
    locations = []
    for scene in (views, turned):
        pose, pinhole = scene.cameras.cam_from_world.double(), scene.cameras.intrinsics.double()
        points = unproject(scene.depth[0].double(), pinhole[0]).reshape(-1, 3)
        moved = transform_points(pose[1] @ invert_rigid(pose[0]), points)
        pixels, depth = project(moved, pinhole[1])
        locations.append((pixels.reshape(32, 32, 2), depth.reshape(32, 32)))
        torch.testing.assert_close(torch.linalg.det(pose[:, :3, :3]), torch.ones(2).double(), rtol=0, atol=1e-5)
    (pixels, depth), (mirrored_pixels, mirrored_depth) = locations
    torch.testing.assert_close(mirrored_depth.flip(-1), depth, rtol=0, atol=1e-5)
    torch.testing.assert_close(32 - mirrored_pixels[..., 0].flip(-1), pixels[..., 0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(mirrored_pixels[..., 1].flip(-1), pixels[..., 1], rtol=1e-4, atol=1e-3)


def test_mirror_twice_is_the_identity(frames: SceneFrames) -> None:
    views = to_views(frames, [0, 1, 3])
    twice = mirror(mirror(views))
    for field in ("images", "depth", "group_ids"):
        assert torch.equal(getattr(twice, field), getattr(views, field))
    assert torch.equal(twice.cameras.cam_from_world, views.cameras.cam_from_world)
    assert torch.equal(twice.cameras.intrinsics, views.cameras.intrinsics)


def test_colour_jitter_is_shared_by_the_photos_and_reproducible(frames: SceneFrames) -> None:
    photo = to_views(frames, [0]).images
    images = photo.expand(3, -1, -1, -1)
    jittered = jitter_colours(images, np.random.default_rng(4))
    assert torch.equal(jittered, jitter_colours(images, np.random.default_rng(4)))
    assert torch.equal(jittered[0], jittered[2]) and not torch.equal(jittered[0], images[0])
    assert jittered.min() >= 0 and jittered.max() <= 1
    torch.testing.assert_close(jitter_colours(images, np.random.default_rng(4), 0.0), images)


def test_collate_stacks_scenes(frames: SceneFrames) -> None:
    scenes = [to_views(frames, [0, 1]), mirror(to_views(frames, [2, 3]))]
    batch = collate(scenes)
    assert batch.images.shape == (2, 2, 3, 32, 32)
    for k, scene in enumerate(scenes):
        assert torch.equal(batch.depth[k], scene.depth)
        assert torch.equal(batch.cameras.cam_from_world[k], scene.cameras.cam_from_world)
    with pytest.raises(ValueError, match="at least one"):
        collate([])
