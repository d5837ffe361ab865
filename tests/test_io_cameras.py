"""Camera lists: round trip, the format of 3D Gaussian Splatting, and what must be refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.spatial.transform import Rotation

from tokengroups.errors import UserError
from tokengroups.geometry import rigid
from tokengroups.io.cameras import load_cameras, save_cameras
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
        (json.dumps([{"fx": 1}]), "a camera lacks"),
        (json.dumps([good_entry() | {"fx": "wide"}]), "wrong form"),
        (json.dumps([good_entry() | {"fx": -1}]), "must be positive"),
        (json.dumps([good_entry() | {"rotation": [[2, 0, 0], [0, 1, 0], [0, 0, 1]]}]), "camera 0: its pose"),
        (json.dumps([good_entry() | {"rotation": [[-1, 0, 0], [0, 1, 0], [0, 0, 1]]}]), "camera 0: its pose"),
        (json.dumps([good_entry(), good_entry() | {"position": [float("nan"), 0, 0]}]), "camera 1: its pose"),
        (json.dumps([good_entry(), good_entry() | {"width": 9}]), "different sizes"),
    ],
)
def test_bad_list_is_refused_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "cameras.json").write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        load_cameras(tmp_path / "cameras.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        load_cameras(tmp_path / "none.json")
