"""InsScene-15K's three parts: cameras, depth and ids as they are on disk, and what is missing or does not fit."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from insscene_folders import HIDDEN, INFINIGEN, RE10K, SCANNETPP, write_infinigen, write_re10k, write_scannetpp

from tokengroups.data.augment import collate, to_views
from tokengroups.data.base import open_dataset
from tokengroups.data.procedural import generate_room
from tokengroups.data.readers.insscene import InsScene
from tokengroups.data.stream import DataConfig, PathStream
from tokengroups.errors import UserError
from tokengroups.geometry import project, transform_points, world_points
from tokengroups.io.pixels import read_pixels, write_pixels
from tokengroups.types import SceneFrames


@pytest.fixture(scope="module")
def room() -> SceneFrames:
    """Four views of a room, wider than high."""
    frames = generate_room(2, 0, "test", num_views=4, size=48)
    pinholes = frames.intrinsics.copy()
    pinholes[:, 1, 2] -= 8
    return replace(
        frames,
        images=frames.images[:, 8:40],
        depth=frames.depth[:, 8:40],
        group_ids=frames.group_ids[:, 8:40],
        intrinsics=pinholes,
    )


def only(root: Path, **options: object) -> SceneFrames:
    """All frames of the only scene."""
    dataset = InsScene(root, **options)  # pyright: ignore[reportArgumentType]
    assert len(dataset) == 1
    return dataset[0][:]


def assert_reprojects(frames: SceneFrames) -> None:
    """Surface points of the first view have the depth that the second view sees: poses and pixels are right."""
    views = to_views(frames, range(len(frames)))
    cameras, depth = views.cameras, views.depth
    points = world_points(depth, cameras.cam_from_world, cameras.intrinsics)[0].flatten(0, 1)
    pixels, seen = project(transform_points(cameras.cam_from_world[1], points), cameras.intrinsics[1])
    column, row = pixels.floor().long().unbind(-1)
    height, width = depth.shape[-2:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width) & (seen > 0) & (depth[0].flatten() > 0)
    assert inside.float().mean() > 0.3
    error = (seen[inside] - depth[1][row[inside], column[inside]]).abs() / seen[inside]
    assert error.median() < 0.02


def test_scannetpp_rows_are_found_by_name_and_poses_inverted(room: SceneFrames, tmp_path: Path) -> None:
    write_scannetpp(tmp_path, "7831862f02", room)
    frames = only(tmp_path)
    assert frames.name == "7831862f02" and len(frames) == 4
    np.testing.assert_allclose(frames.cam_from_world, room.cam_from_world, atol=1e-6)
    np.testing.assert_allclose(frames.intrinsics, room.intrinsics, atol=1e-6)
    np.testing.assert_allclose(frames.depth, room.depth, atol=0.00051)
    np.testing.assert_array_equal(frames.group_ids, np.where(room.group_ids < 0, -1, room.group_ids + 1))
    assert_reprojects(frames)


def test_scannetpp_rows_in_another_order(room: SceneFrames, tmp_path: Path) -> None:
    file = write_scannetpp(tmp_path, "a", room) / "scene_iphone_metadata.npz"
    content = dict(np.load(file))
    np.savez(file, **{name: values[::-1] for name, values in content.items()})
    np.testing.assert_allclose(only(tmp_path).cam_from_world, room.cam_from_world, atol=1e-6)


def test_scannetpp_ids_at_two_resolutions_are_the_same(room: SceneFrames, tmp_path: Path) -> None:
    scene = write_scannetpp(tmp_path, "a", room)
    at_image_size = only(tmp_path).group_ids
    for file in (scene / "refined_ins_ids").glob("*.npy"):
        file.unlink()
    np.testing.assert_array_equal(only(tmp_path).group_ids, at_image_size)


def test_scannetpp_ids_above_an_int16(room: SceneFrames, tmp_path: Path) -> None:
    scene = write_scannetpp(tmp_path, "a", room)
    ids = np.full(room.group_ids.shape[1:], 40_000, np.uint16)
    ids[0] = 0
    np.save(scene / "refined_ins_ids" / "frame_000008.jpg.npy", ids.view(np.int16))
    frames = only(tmp_path)
    assert (frames.group_ids[0, 0] == -1).all() and (frames.group_ids[0, 1:] == 40_000).all()
    assert (to_views(frames, [0]).group_ids.max()) == 40_000


def test_infinigen_names_and_meshes(room: SceneFrames, tmp_path: Path) -> None:
    write_infinigen(tmp_path, "scene_000", "12", room)
    frames = only(tmp_path)
    assert frames.name == "scene_000_12" and len(frames) == 4
    np.testing.assert_allclose(frames.cam_from_world, room.cam_from_world, atol=1e-6)
    np.testing.assert_allclose(frames.intrinsics, room.intrinsics)
    np.testing.assert_array_equal(frames.depth, room.depth.astype(np.float32))
    np.testing.assert_array_equal(frames.images, room.images)
    expected = room.group_ids.astype(int) + 1
    expected[(expected == 0) | (expected == HIDDEN)] = -1
    np.testing.assert_array_equal(frames.group_ids, expected)
    assert (room.group_ids + 1 == HIDDEN).any()  # the light is seen
    names = {index + 1: name for index, name in room.instance_classes.items() if index + 1 != HIDDEN}
    assert frames.instance_classes == names | {1000: "wall"}
    assert_reprojects(frames)


def test_infinigen_sky_is_unknown(room: SceneFrames, tmp_path: Path) -> None:
    scene = write_infinigen(tmp_path, "scene_000", "12", room)
    depth = room.depth[0].astype(np.float32)
    depth[0], depth[1], depth[2] = np.inf, np.nan, 1e9
    np.save(scene / "frames/Depth/camera_0/Depth_9_0001_0.npy", depth)
    read = only(tmp_path).depth[0]
    assert (read[:3] == 0).all()
    np.testing.assert_array_equal(read[3:], depth[3:])


def test_re10k_times_of_8_and_9_digits_and_overlapping_masks(room: SceneFrames, tmp_path: Path) -> None:
    scene = write_re10k(tmp_path, "00a5a09f0c68ff5c", room)
    stems = sorted(path.stem for path in (scene / "rgb").iterdir())
    assert stems[0] == "100000000"  # the order of names is not that of times
    frames = only(tmp_path)
    np.testing.assert_array_equal(frames.images, room.images)
    np.testing.assert_allclose(frames.cam_from_world, room.cam_from_world, atol=1e-6)
    np.testing.assert_allclose(frames.intrinsics, room.intrinsics)
    assert (frames.depth == 0).all()
    # Object 0 covers everything, so it remains only where nothing smaller is.
    numbers = {
        instance: index for index, instance in enumerate(np.unique(room.group_ids[room.group_ids >= 0]), start=1)
    }
    expected = np.vectorize(lambda instance: numbers.get(instance, 0))(room.group_ids)
    np.testing.assert_array_equal(frames.group_ids, expected)


def test_re10k_masks_of_another_size(room: SceneFrames, tmp_path: Path) -> None:
    scene = write_re10k(tmp_path, "a", room)
    small = only(tmp_path).group_ids
    for file in (scene / "rgb").iterdir():
        write_pixels(file, np.kron(read_pixels(file), np.ones((2, 2, 1), np.uint8)))
    np.testing.assert_array_equal(only(tmp_path).group_ids, np.kron(small, np.ones((2, 2), int)))


def test_masklet_num_is_not_used(room: SceneFrames, tmp_path: Path) -> None:
    write_re10k(tmp_path, "a", room)
    file = tmp_path / "sam2_results/a/auto_masks.json"
    expected = only(tmp_path).group_ids
    file.write_text(json.dumps(json.loads(file.read_text()) | {"masklet_num": 1}))
    np.testing.assert_array_equal(only(tmp_path).group_ids, expected)
    shutil.move(tmp_path / "sam2_results", tmp_path / RE10K / "sam2_results")  # the other place
    np.testing.assert_array_equal(only(tmp_path).group_ids, expected)


def test_splits_keep_the_sub_scenes_of_a_house_together(room: SceneFrames, tmp_path: Path) -> None:
    two = room[:2]
    for house in range(6):
        for sub in ("1", "2"):
            write_infinigen(tmp_path, f"scene_{house:03d}", sub, two)
    write_scannetpp(tmp_path, "x", two)
    write_scannetpp(tmp_path, "y", two)
    dataset = open_dataset("insscene", tmp_path)
    assert isinstance(dataset, InsScene) and len(dataset) == 14
    assert sorted(index for split in dataset.splits.values() for index in split) == list(range(14))
    houses = {split: {dataset[i].room for i in indices} for split, indices in dataset.splits.items()}
    assert houses["train"].isdisjoint(houses["val"])
    assert {room.parent.name for room in houses["val"]} == {INFINIGEN, SCANNETPP}  # of every part
    (tmp_path / "nvs_sem_val.txt").write_text("y\n")
    (tmp_path / "nvs_sem_train.txt").write_text("x\n")
    dataset = InsScene(tmp_path, parts=["scannetpp"])
    assert {split: [dataset[i].name for i in indices] for split, indices in dataset.splits.items()} == {
        "train": ["x"],
        "val": ["y"],
    }


def test_one_part_by_its_own_folder_or_by_the_mark_of_its_scenes(room: SceneFrames, tmp_path: Path) -> None:
    write_scannetpp(tmp_path / "all", "x", room[:2])
    write_re10k(tmp_path / "all", "z", room[:2])
    assert len(InsScene(tmp_path / "all")) == 2
    assert len(InsScene(tmp_path / "all", parts="re10k")) == 1
    assert len(InsScene(tmp_path / "all" / RE10K, parts="re10k")) == 1
    (tmp_path / "all" / SCANNETPP).rename(tmp_path / "mine")
    assert len(InsScene(tmp_path / "mine")) == 1


@pytest.mark.parametrize(
    "damage",
    ["depth/frame_000009.png", "refined_ins_ids/frame_000009", "images/frame_000009.jpg", "metadata", "pose", "shape"],
)
def test_frames_that_lack_a_part_are_left_out_and_named(
    room: SceneFrames, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene = write_scannetpp(tmp_path, "a", room)
    if damage in ("metadata", "pose"):
        content = dict(np.load(scene / "scene_iphone_metadata.npz"))
        content["trajectories"][3] = -np.inf
        content["images"][3] = content["images"][3] if damage == "pose" else "frame_000099.jpg"
        np.savez(scene / "scene_iphone_metadata.npz", **content)
    elif damage == "shape":
        np.save(scene / "refined_ins_ids" / "frame_000009.jpg.npy", np.ones((32, 32), np.int16))
    elif damage.startswith("images"):
        (scene / damage).write_text("damaged")
    else:
        for path in scene.glob(f"{damage}*"):
            path.unlink()
    with caplog.at_level(logging.WARNING):
        frames = only(tmp_path)
    kept = [0, 2, 3]
    np.testing.assert_allclose(frames.cam_from_world, room.cam_from_world[kept], atol=1e-6)
    np.testing.assert_array_equal(frames.group_ids, np.where(room.group_ids < 0, -1, room.group_ids + 1)[kept])
    assert len(caplog.messages) == 1 and "1 of 4 frames" in caplog.messages[0] and "frame_000009" in caplog.messages[0]
    with pytest.raises(UserError, match="1 of 4 frames.*frame_000009.*skip_limit") as caught:
        only(tmp_path, skip_limit=0.0)
    assert "\n" not in str(caught.value)


def test_too_many_frames_without_a_part_are_refused(room: SceneFrames, tmp_path: Path) -> None:
    scene = write_scannetpp(tmp_path, "a", room)
    for path in list((scene / "depth").iterdir())[:2]:
        path.unlink()
    with pytest.raises(UserError, match="2 of 4 frames .*no depth"):
        only(tmp_path)
    assert len(only(tmp_path, skip_limit=0.5)) == 2


@pytest.mark.parametrize("missing", ["frames/Objects", "frames/camview", "frames/Depth/camera_0"])
def test_scenes_without_a_part_are_left_out_and_named(
    room: SceneFrames, tmp_path: Path, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    for sub in "123":
        write_infinigen(tmp_path, "scene_000", sub, room[:2])
    shutil.rmtree(tmp_path / INFINIGEN / "scene_000/2" / missing)
    with caplog.at_level(logging.WARNING):
        dataset = InsScene(tmp_path)
    assert [dataset[index].name for index in range(len(dataset))] == ["scene_000_1", "scene_000_3"]
    assert (
        dataset.notes == caplog.messages and "1 of 3 scenes" in dataset.notes[0] and "scene_000_2" in dataset.notes[0]
    )
    with pytest.raises(UserError, match="1 of 3 scenes.*scene_000_2"):
        InsScene(tmp_path, skip_limit=0.0)
    shutil.rmtree(tmp_path / INFINIGEN / "scene_000/1" / missing)
    with pytest.raises(UserError, match="2 of 3 scenes"):
        InsScene(tmp_path)


def test_clips_without_masks_or_with_those_of_another_number_of_frames(room: SceneFrames, tmp_path: Path) -> None:
    for name in "abc":
        write_re10k(tmp_path, name, room)
    (tmp_path / "sam2_results/a/auto_masks.json").unlink()
    dataset = InsScene(tmp_path)
    assert [dataset[index].name for index in range(len(dataset))] == ["b", "c"]
    write_re10k(tmp_path / "longer", "b", generate_room(2, 0, "test", num_views=5, size=48))
    shutil.copy(tmp_path / "longer/sam2_results/b/auto_masks.json", tmp_path / "sam2_results/b/auto_masks.json")
    with pytest.raises(UserError, match="5 frames of masks for 4 photos"):
        InsScene(tmp_path)[0]
    checked = InsScene(tmp_path, check=True, skip_limit=0.5)
    assert [checked[index].name for index in range(len(checked))] == ["c"]
    assert "5 frames of masks" in checked.notes[0]


WRONG_RUNS = '{"masklet": [[{"size": [2, 3], "counts": "5"}], [], [], []]}'


@pytest.mark.parametrize("content", ["{", "[]", '{"masklet": 3}', '{"masklet": [[3], [], [], []]}', WRONG_RUNS])
def test_damaged_masks_are_one_line(room: SceneFrames, tmp_path: Path, content: str) -> None:
    write_re10k(tmp_path, "a", room)
    (tmp_path / "sam2_results/a/auto_masks.json").write_text(content)
    with pytest.raises(UserError) as caught:
        only(tmp_path, skip_limit=0.0)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_damaged_arrays_are_one_line_that_names_the_file(room: SceneFrames, tmp_path: Path) -> None:
    scene = write_infinigen(tmp_path, "scene_000", "1", room)
    file = scene / "frames/Depth/camera_0/Depth_10_0001_0.npy"
    file.write_bytes(file.read_bytes()[:300])
    assert len(only(tmp_path)) == 3
    with pytest.raises(UserError, match=r"1 of 4 frames .*\(damaged: 10\)"):
        only(tmp_path, skip_limit=0.0)
    photo = scene / "frames/Image/camera_0/Image_11_0001_0.png"
    photo.write_bytes(photo.read_bytes()[:600])  # its header is whole, so this is found when it is read
    with pytest.raises(UserError, match="Image_11"):
        only(tmp_path)
    for content in (b"", b"PK\x03\x04 no archive"):
        write_scannetpp(tmp_path / "b", "a", room, dslr_rows=0) if not content else None
        (tmp_path / "b" / SCANNETPP / "a/scene_iphone_metadata.npz").write_bytes(content)
        with pytest.raises(UserError, match="scene_iphone_metadata.npz"):
            only(tmp_path / "b")


def test_nothing_there_says_how_to_unpack(tmp_path: Path) -> None:
    for wrong in ({"parts": ["aria"]}, {"skip_limit": 1.0}, {}):
        with pytest.raises(UserError) as caught:
            InsScene(tmp_path, **wrong)
        assert "\n" not in str(caught.value)
    assert "unzip" in str(caught.value)


def test_training_draws_from_it_and_unknown_depth_costs_nothing(room: SceneFrames, tmp_path: Path) -> None:
    """Losses of depth, points and cameras are 0 where no depth is known; nothing becomes NaN."""
    from tokengroups.encoders.vggt import VGGTOutput
    from tokengroups.losses.cell_matching import cell_targets
    from tokengroups.losses.geometry import geometry_losses

    write_re10k(tmp_path, "a", room)
    write_re10k(tmp_path, "b", room)
    stream = PathStream(DataConfig(dataset="insscene", root=str(tmp_path), num_frames=3, size=32), seed=0)
    views = collate([to_views(stream.path(0), range(3), 32)])
    assert (views.group_ids >= 0).all() and (views.depth == 0).all()
    predicted = torch.rand(1, 3, 32, 32, requires_grad=True)
    encoding = torch.rand(1, 3, 9, requires_grad=True)
    points = predicted[..., None] * torch.ones(3)
    output = VGGTOutput((torch.zeros(1, 3, 2, 2),), (encoding,), predicted, 1 + predicted, points, 1 + predicted)
    losses = geometry_losses(output, views)
    assert losses.total.item() == 0 and all(term.item() == 0 for term in losses.terms.values())
    losses.total.backward()
    assert predicted.grad is not None and (predicted.grad == 0).all() and (encoding.grad == 0).all()
    assert not cell_targets(views, 16).visible.any()
