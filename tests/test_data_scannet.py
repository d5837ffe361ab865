"""ScanNet's exported-frames layout: round trip, the real layout's oddities, damage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokengroups.cli.main import main
from tokengroups.data.procedural import generate_room
from tokengroups.data.readers.scannet import ScanNet, ScanNetScene, find_scenes, write_scannet
from tokengroups.errors import UserError
from tokengroups.io.pixels import read_pixels, write_pixels
from tokengroups.types import SceneFrames


@pytest.fixture(scope="module")
def frames() -> SceneFrames:
    return generate_room(2, 0, "test", num_views=12, size=32)


@pytest.fixture
def folder(frames: SceneFrames, tmp_path: Path) -> Path:
    write_scannet(tmp_path / "room", frames)
    return tmp_path / "room"


def test_round_trip_keeps_all_but_rounding(frames: SceneFrames, folder: Path) -> None:
    read = ScanNetScene(folder)[:]
    np.testing.assert_array_equal(read.group_ids, frames.group_ids)
    np.testing.assert_allclose(read.depth, frames.depth, atol=0.00051)
    np.testing.assert_allclose(read.cam_from_world, frames.cam_from_world, atol=1e-7)
    np.testing.assert_allclose(read.intrinsics, frames.intrinsics, rtol=1e-12)
    assert np.abs(read.images.astype(int) - frames.images).mean() < 6  # JPEG of a noisy photo
    assert read.instance_classes == frames.instance_classes
    assert read.name == "room" and read.group_ids.dtype == np.int32 and read.depth.dtype == np.float32


def test_files_hold_what_scannet_says(frames: SceneFrames, folder: Path) -> None:
    assert read_pixels(folder / "depth/3.png").dtype == np.uint16
    np.testing.assert_array_equal(read_pixels(folder / "instance-filt/3.png"), frames.group_ids[3] + 1)
    labels = read_pixels(folder / "label-filt/3.png")
    names = json.loads((folder / "instances.json").read_text())["labels"]
    row, column = 20, 11
    expected = frames.instance_classes[int(frames.group_ids[3, row, column])]
    assert names[str(labels[row, column])] == expected
    pose = np.loadtxt(folder / "pose/3.txt")
    np.testing.assert_allclose(pose @ frames.cam_from_world[3], np.eye(4), atol=1e-7)
    intrinsics = np.loadtxt(folder / "intrinsic/intrinsic_color.txt")
    assert intrinsics.shape == (4, 4)
    assert intrinsics[0, 2] == frames.intrinsics[0, 0, 2] - 0.5  # ScanNet counts from the first pixel's centre


def test_frames_are_in_order_of_their_numbers(frames: SceneFrames, folder: Path) -> None:
    scene = ScanNetScene(folder)
    assert len(scene) == 12 and scene.name == "room"
    np.testing.assert_array_equal(scene[1::5].group_ids, frames.group_ids[1::5])


def test_unlabelled_pixels_are_minus_one_and_unknown_depth_is_zero(frames: SceneFrames, tmp_path: Path) -> None:
    ids, depth = frames.group_ids.copy(), frames.depth.copy()
    ids[:, :4], depth[:, :4] = -1, 0
    write_scannet(tmp_path / "holes", replace(frames, group_ids=ids, depth=depth))
    read = ScanNetScene(tmp_path / "holes")[:]
    assert (read.group_ids[:, :4] == -1).all() and (read.depth[:, :4] == 0).all()
    assert (read_pixels(tmp_path / "holes/label-filt/0.png")[:4] == 0).all()


def test_ids_beyond_15_bits_stay_positive(frames: SceneFrames, folder: Path) -> None:
    """An exported frame of ScanNet has one byte; tools that export more instances write 16 bits."""
    values = np.full(frames.group_ids.shape[1:], 40_000, np.uint16)
    values[0] = 0
    write_pixels(folder / "instance-filt" / "0.png", values)
    assert np.unique(ScanNetScene(folder)[:1].group_ids).tolist() == [-1, 39_999]


def test_frames_that_lost_tracking_are_skipped(frames: SceneFrames, folder: Path) -> None:
    (folder / "pose/4.txt").write_text("-inf -inf -inf -inf\n" * 4)
    (folder / "pose/7.txt").unlink()
    kept = [view for view in range(12) if view not in (4, 7)]
    np.testing.assert_array_equal(ScanNetScene(folder)[:].group_ids, frames.group_ids[kept])


def test_smaller_depth_and_missing_maps(frames: SceneFrames, folder: Path) -> None:
    """As in ScanNet, depth has its own size and pinhole: half the size sees every second pixel."""
    for view in range(12):
        write_pixels(folder / f"depth/{view}.png", read_pixels(folder / f"depth/{view}.png")[1::2, 1::2])
    text = np.loadtxt(folder / "intrinsic/intrinsic_depth.txt")
    text[:2] /= 2
    text[:2, 2] -= 0.25
    np.savetxt(folder / "intrinsic/intrinsic_depth.txt", text)
    (folder / "instance-filt/0.png").unlink()
    (folder / "depth/1.png").unlink()
    read = ScanNetScene(folder)[:]
    np.testing.assert_array_equal(read.depth[0], np.kron(read.depth[0][1::2, 1::2], np.ones((2, 2), np.float32)))
    np.testing.assert_allclose(read.depth[0][1::2, 1::2], frames.depth[0][1::2, 1::2], atol=0.00051)
    assert (read.depth[1] == 0).all() and (read.group_ids[0] == -1).all()


def test_class_names_from_scannets_aggregation_or_label_maps(frames: SceneFrames, folder: Path) -> None:
    labels = json.loads((folder / "instances.json").read_text())["labels"]
    (folder / "instances.json").unlink()
    number_of = {name: number for number, name in labels.items()}
    for instance, name in ScanNetScene(folder)[:].instance_classes.items():
        assert name == f"label {number_of[frames.instance_classes[instance]]}"
    table = {"segGroups": [{"objectId": 0, "label": "floor"}, {"objectId": 7, "label": "office chair"}]}
    (folder / "scene.aggregation.json").write_text(json.dumps(table))
    assert ScanNetScene(folder)[:].instance_classes == {0: "floor", 7: "office chair"}


def test_find_scenes(folder: Path) -> None:
    assert find_scenes(folder) == [folder]
    (folder.parent / "scene10/color").mkdir(parents=True)
    (folder.parent / "scene9/color").mkdir(parents=True)
    assert [path.name for path in find_scenes(folder.parent)] == ["room", "scene9", "scene10"]
    (folder.parent / "val/scene2/color").mkdir(parents=True)
    (folder.parent / "train/.scene3/color").mkdir(parents=True)
    assert [path.name for path in find_scenes(folder.parent)] == ["room", "scene2", "scene9", "scene10"]
    with pytest.raises(UserError, match="ScanNet"):
        find_scenes(folder / "pose")


def test_recordings_are_read_when_they_are_sliced(frames: SceneFrames, tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "val/c"):
        write_scannet(tmp_path / name, frames)
    dataset = ScanNet(tmp_path)
    (tmp_path / "train/a/color/3.jpg").write_text("damaged")
    assert dataset.splits == {"train": (0, 1), "val": (2,)} and dataset.split_source == "by its sub-folders"
    assert [dataset[index].name for index in range(len(dataset))] == ["a", "b", "c"]
    np.testing.assert_array_equal(dataset[0][4:6].group_ids, frames.group_ids[4:6])
    with pytest.raises(UserError, match="3.jpg"):
        dataset[0][2:4]


def test_posed_photos_are_the_frames_with_their_cameras(frames: SceneFrames, folder: Path) -> None:
    (folder / "pose/4.txt").write_text("-inf -inf -inf -inf\n" * 4)
    scene = ScanNetScene(folder)
    photos, cameras = zip(*scene.posed_photos(), strict=True)
    kept = [view for view in range(12) if view != 4]
    assert [photo.name for photo in photos] == [f"{view}.jpg" for view in kept]
    for view, camera in zip(kept, cameras, strict=True):
        np.testing.assert_allclose(camera.cam_from_world, frames.cam_from_world[view], atol=1e-7)
        np.testing.assert_allclose(camera.pinhole((32, 32)), frames.intrinsics[view])
    assert scene.instance_classes() == frames.instance_classes
    (folder / "instances.json").unlink()
    assert set(scene.instance_classes()) == set(np.unique(frames.group_ids[kept])) - {-1}


@pytest.mark.parametrize("damaged", ["color/2.jpg", "depth/2.png", "pose/2.txt", "instances.json"])
def test_damage_is_one_line_that_names_the_file(folder: Path, damaged: str) -> None:
    (folder / damaged).write_bytes((folder / damaged).read_bytes()[:40])
    with pytest.raises(UserError) as caught:
        ScanNetScene(folder)[:]
    assert "room" in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_left_behind_when_writing_fails(
    frames: SceneFrames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full/old").mkdir(parents=True)
    with pytest.raises(UserError, match="exists"):
        write_scannet(tmp_path / "full", frames)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokengroups.data.readers.scannet.write_pixels", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_scannet(tmp_path / "room", frames)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_command_writes_rooms_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "procedural", "--out", str(tmp_path / "out"), "--num-scenes", "2", "--num-views", "2"]
    assert main([*arguments, "--size", "24", "--seed", "9", "--json"]) == 0
    scenes = json.loads(capsys.readouterr().out)["scenes"]
    assert [Path(scene) for scene in scenes] == find_scenes(tmp_path / "out")
    expected = generate_room(9, 1, "test", 2, 24)
    np.testing.assert_array_equal(ScanNetScene(scenes[1])[:].group_ids, expected.group_ids)
    assert main([*arguments, "--seed", "-1"]) == 2
    assert "--seed" in capsys.readouterr().err
    assert main([*arguments, "--size", "24", "--seed", "9"]) == 2
    assert "exists" in capsys.readouterr().err
