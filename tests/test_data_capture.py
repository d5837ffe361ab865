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


def test_a_folder_without_cameras_is_no_capture(captures: Path) -> None:
    with pytest.raises(UserError, match="notes: no capture in it"):
        open_dataset("capture", captures / "notes")
