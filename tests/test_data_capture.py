"""Captures as a data set: posed photos with masks, read when they are sliced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tokengroups.data.base import open_dataset
from tokengroups.data.procedural import generate_room
from tokengroups.data.readers.capture import find_capture
from tokengroups.data.readers.scannet import ScanNetScene, write_scannet
from tokengroups.errors import UserError

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """Two captures of 40 x 40 photos with a transforms.json, and a folder that is none."""
    root = tmp_path / "captures"
    (root / "notes").mkdir(parents=True)
    for index, name in enumerate(("desk", "hall")):
        write_scannet(tmp_path / name, generate_room(2, index, num_views=5, size=40))
        recording = ScanNetScene(tmp_path / name)
        folder = root / name
        shutil.copytree(tmp_path / name / "color", folder / "images")
        shutil.copytree(tmp_path / name / "instance-filt", folder / "masks")
        frames = [
            {
                "file_path": f"images/{photo.name}",
                "transform_matrix": (np.linalg.inv(camera.cam_from_world) @ OPENCV_FROM_OPENGL).tolist(),
                "fl_x": camera.intrinsics[0, 0], "fl_y": camera.intrinsics[1, 1],
                "cx": camera.intrinsics[0, 2], "cy": camera.intrinsics[1, 2], "w": 40, "h": 40,
            }
            for photo, camera in recording.posed_photos()
        ]  # fmt: skip
        (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    return root


def test_captures_are_the_scenes_that_they_photograph(captures: Path) -> None:
    dataset = open_dataset("capture", captures)
    assert len(dataset) == 2 and len(dataset.splits["train"]) == len(dataset.splits["val"]) == 1
    for index, name in enumerate(("desk", "hall")):
        capture, truth = dataset[index], ScanNetScene(captures.parent / name)[1:4:2]
        assert capture.name == name and len(capture) == 5
        frames = capture[1:4:2]
        np.testing.assert_array_equal(frames.images, truth.images)
        np.testing.assert_array_equal(frames.group_ids, np.where(truth.group_ids < 0, -1, truth.group_ids + 1))
        np.testing.assert_allclose(frames.cam_from_world, truth.cam_from_world, atol=1e-7)
        np.testing.assert_allclose(frames.intrinsics, truth.intrinsics, rtol=1e-12)
        assert (frames.depth == 0).all()
    assert len(open_dataset("capture", captures / "hall")) == 1


def test_photos_are_loaded_and_thinned_with_a_note(captures: Path) -> None:
    capture = find_capture([str(captures / "desk")])
    assert capture.evenly_spaced(None) is capture is capture.evenly_spaced(5)
    thinned = capture.evenly_spaced(2)
    assert [path.name for path, _ in thinned.pairs] == ["0.jpg", "2.jpg"]
    assert thinned.notes == ("used 2 of 5 photos, evenly spaced; --max-views allows more",)
    views, paths, notes = thinned.load(40)
    assert [path.name for path in paths] == ["0.jpg", "2.jpg"] and notes == list(thinned.notes)
    assert torch.equal(views.images, capture.load(40)[0].select([0, 2]).images)


def move_to_rig(folder: Path) -> None:
    """Photos and masks 0 to 3 as those of two cameras that number theirs alike: cam0/0, cam0/1, cam1/0, cam1/1."""
    for kind, suffix in (("images", "jpg"), ("masks", "png")):
        for view in range(4):
            (folder / kind / f"cam{view // 2}").mkdir(exist_ok=True)
            (folder / kind / f"{view}.{suffix}").rename(folder / kind / f"cam{view // 2}" / f"{view % 2}.{suffix}")


def test_masks_in_folders_like_those_of_the_photos_are_theirs(captures: Path) -> None:
    """Also where the stems alone say nothing; a mask that lies elsewhere is no longer used in silence."""
    folder = captures / "desk"
    truth = find_capture([str(folder)]).load(40)[0].group_ids
    move_to_rig(folder)
    text = (folder / "transforms.json").read_text()
    for view in range(4):
        text = text.replace(f"images/{view}.jpg", f"images/cam{view // 2}/{view % 2}.jpg")
    (folder / "transforms.json").write_text(text)
    views, paths, _ = find_capture([str(folder)]).load(40)
    assert len(paths) == 5
    for path, ids in zip(paths, views.group_ids, strict=True):
        view = 4 if path.name == "4.jpg" else 2 * int(path.parent.name[-1]) + int(path.stem)
        assert torch.equal(ids, truth[view]) and (view == 0 or not torch.equal(ids, truth[0])), path
    (folder / "masks" / "cam1" / "0.png").rename(folder / "masks" / "0.png")
    with pytest.raises(UserError, match="cannot tell which mask is whose: .*0.png for"):
        find_capture([str(folder)])


def test_colmap_photos_in_folders_below_are_found(captures: Path) -> None:
    folder = captures / "hall"
    before = find_capture([str(folder)]).load(40)[0].group_ids
    move_to_rig(folder)
    names = [*(f"cam{view // 2}/{view % 2}.jpg" for view in range(4)), "cam9/gone.jpg"]
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    (folder / "transforms.json").unlink()
    (model / "cameras.txt").write_text("1 PINHOLE 40 40 50 50 20 20\n")
    lines = [f"{index} 1 0 0 0 {index} 0 0 1 {name}\n\n" for index, name in enumerate(names, start=1)]
    (model / "images.txt").write_text("".join(lines))
    for photos in (folder, folder / "images"):
        capture = find_capture([str(photos)], cameras=str(model), masks=str(folder / "masks"))
        found = {path.relative_to(folder / "images").as_posix(): camera for path, camera in capture.pairs}
        assert list(found) == names[:4]
        assert [camera.cam_from_world[0, 3] for camera in found.values()] == [1, 2, 3, 4]
        assert "left out 1 camera without a photo: cam9/gone.jpg" in capture.notes
        assert "left out 1 photo without a camera: 4.jpg" in capture.notes
        ids = capture.load(40)[0].group_ids
        assert torch.equal(ids, before[:4])


def test_without_masks_nothing_is_labelled_and_a_note_says_it(captures: Path) -> None:
    shutil.rmtree(captures / "desk" / "masks")
    capture = find_capture([str(captures / "desk")])
    assert capture.masks is None and capture.notes == (
        "no masks: the groups are clusters of positions; --masks DIR gives instances",
    )
    assert bool((capture.load(40)[0].group_ids == -1).all())


def test_a_folder_without_cameras_is_no_capture(captures: Path) -> None:
    with pytest.raises(UserError, match="notes: no capture in it"):
        open_dataset("capture", captures / "notes")
