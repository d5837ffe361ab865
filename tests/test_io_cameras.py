"""Camera lists: round trip, the format of 3D Gaussian Splatting, and what must be refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tokengroups.errors import UserError
from tokengroups.geometry import rigid
from tokengroups.io.cameras import load_cameras, load_named_cameras, save_cameras, save_posed_cameras
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.types import Cameras


def some_cameras() -> Cameras:
    rotations = torch.from_numpy(Rotation.random(3, random_state=0).as_matrix())
    pinhole = torch.tensor([[100.0, 0, 31.0], [0, 110.0, 25.0], [0, 0, 1]]).repeat(3, 1, 1)
    return Cameras(rigid(rotations, torch.randn(3, 3, dtype=torch.float64)).float(), pinhole, (48, 64))


def test_cameras_come_back_exactly(tmp_path: Path) -> None:
    cameras = some_cameras()
    save_cameras(tmp_path / "cameras.json", cameras)
    again = load_cameras(tmp_path / "cameras.json")
    assert torch.equal(again.cam_from_world, cameras.cam_from_world)
    assert torch.equal(again.intrinsics, cameras.intrinsics) and again.size_hw == (48, 64)


def test_cameras_of_photos_keep_names_sizes_and_whether_they_are_upright(tmp_path: Path) -> None:
    cameras = [
        PosedCamera(name, np.eye(4), np.array([[50.0, 0, 9], [0, 40.0, 8], [0, 0, 1]]), size_hw, upright=upright)
        for name, size_hw, upright in (("a/b.jpg", (20, 30), True), ("c.jpg", (40, 10), False))
    ]
    save_posed_cameras(tmp_path / "cameras.json", cameras)
    for found, given in zip(load_named_cameras(tmp_path / "cameras.json").cameras, cameras, strict=True):
        assert (found.name, found.size_hw, found.upright) == (given.name, given.size_hw, given.upright)
        np.testing.assert_array_equal(found.intrinsics, given.intrinsics)
    assert "upright" not in json.loads((tmp_path / "cameras.json").read_text())[1]
    with pytest.raises(UserError, match="different sizes"):
        load_cameras(tmp_path / "cameras.json")


def test_the_fields_of_3dgs_alone_say_the_same(tmp_path: Path) -> None:
    """position = camera centre, rotation = world_from_cam; the image centre where cx cy are missing."""
    cameras = some_cameras()
    save_cameras(tmp_path / "cameras.json", cameras, names=["a", "b", "c"])
    entries = json.loads((tmp_path / "cameras.json").read_text())
    assert [entry["img_name"] for entry in entries] == ["a", "b", "c"]
    for entry in entries:
        for key in ("cam_from_world", "cx", "cy"):
            del entry[key]
    (tmp_path / "theirs.json").write_text(json.dumps(entries))
    again = load_cameras(tmp_path / "theirs.json")
    torch.testing.assert_close(again.cam_from_world, cameras.cam_from_world)
    centre = torch.linalg.inv(cameras.cam_from_world)[:, :3, 3]
    torch.testing.assert_close(torch.tensor([entry["position"] for entry in entries]), centre)
    assert again.intrinsics[0].tolist() == [[100, 0, 32], [0, 110, 24], [0, 0, 1]]


def good_entry() -> dict[str, Any]:
    rotation = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    return {"position": [0, 0, 0], "rotation": rotation, "fx": 10, "fy": 10, "width": 8, "height": 8}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not JSON"),
        ("[]", "expected a list of cameras"),
        ("3", "expected a list of cameras"),
        ("[3]", "wrong form"),
        (json.dumps([{"fx": 1}]), "camera 0: lacks 'height'"),
        (json.dumps([good_entry() | {"fx": "wide"}]), "wrong form"),
        (json.dumps([good_entry() | {"fx": -1}]), "must be positive"),
        (json.dumps([good_entry() | {"rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}]), "camera 0: its pose"),
        (json.dumps([good_entry() | {"rotation": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]}]), "camera 0: its pose"),
        (json.dumps([good_entry(), good_entry() | {"position": [float("nan"), 0, 0]}]), "camera 1: .*not finite"),
        (json.dumps([good_entry(), good_entry() | {"width": 9}]), "different sizes"),
        (json.dumps([good_entry() | {"width": float("inf")}]), "not finite"),
        (json.dumps([good_entry() | {"width": 8.5}]), "no side of a picture"),
        (json.dumps([good_entry() | {"height": 2**17}]), "no side of a picture"),
        (json.dumps([good_entry() | {"height": True}]), "True is no number"),
        (json.dumps([good_entry() | {"fx": 1e39}]), "no such camera exists"),
        (json.dumps([good_entry() | {"cx": float("nan")}]), "not finite"),
        (json.dumps([good_entry() | {"cy": None}]), "None is no number"),
        (json.dumps([good_entry() | {"cam_from_world": 10**400}]), "wrong form"),
        (json.dumps([good_entry() | {"cam_from_world": [[10**400, 0, 0, 0]] * 4}]), "wrong form"),
        (
            json.dumps([good_entry() | {"cam_from_world": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]]}]),
            "last row",
        ),
        (json.dumps([good_entry() | {"position": [1e39, 0, 0]}]), "units away"),
        (json.dumps([good_entry() | {"rotation": {"a": 1}}]), "wrong form"),
        ("[" * 100_000, "nested too deeply"),
        (json.dumps([[]]), "is no camera"),
    ],
)
def test_bad_list_is_refused_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "cameras.json").write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        load_cameras(tmp_path / "cameras.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        load_cameras(tmp_path / "none.json")


def test_poses_of_three_rows_are_whole(tmp_path: Path) -> None:
    pose = [[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 2]]
    (tmp_path / "cameras.json").write_text("\ufeff" + json.dumps([good_entry() | {"cam_from_world": pose}]))
    assert load_cameras(tmp_path / "cameras.json").cam_from_world.tolist() == [[*pose, [0, 0, 0, 1]]]


def test_named_cameras_keep_the_precision_of_the_file(tmp_path: Path) -> None:
    entry = good_entry() | {"position": [500000.03, 4000000.05, 1.5], "img_name": "a"}
    (tmp_path / "cameras.json").write_text(json.dumps([entry]))
    (camera,) = load_named_cameras(tmp_path / "cameras.json").cameras
    assert camera.name == "a" and camera.cam_from_world[:3, 3].tolist() == [-500000.03, -4000000.05, -1.5]
