"""`tokengroups reconstruct` with given cameras, photos that do not fit, and a known length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.cli.known_length import parse_length
from tokengroups.cli.main import main
from tokengroups.data.procedural import generate_room
from tokengroups.errors import UserError
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.io.transforms import save_transforms
from tokengroups.scene import load_scene
from tokengroups.types import SceneFrames

VIEWS = (0, 2, 4)
QUICK = ("--postprocess", "bundle_adjustment")


@pytest.fixture(scope="module")
def room() -> SceneFrames:
    return generate_room(9002, 0, "test", num_views=5, size=128)


@pytest.fixture
def photos(room: SceneFrames, tmp_path: Path) -> Path:
    """Photos of a room with their cameras, and first of all one of another room, which has none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for view in VIEWS:
        Image.fromarray(room.images[view]).save(folder / f"{view}.png")
    Image.fromarray(generate_room(9003, 0, "test", num_views=1, size=128).images[0]).save(folder / "-1.png")
    cameras = [
        PosedCamera(f"photos/{view}.png", room.cam_from_world[view], room.intrinsics[view], (128, 128))
        for view in VIEWS
    ]
    save_transforms(tmp_path / "transforms.json", cameras)
    return folder


def reconstruct(photos: Path, *words: object) -> int:
    return main(["reconstruct", str(photos), "-o", str(photos.parent / "scene.safetensors"), *map(str, words), *QUICK])


def test_the_scene_is_in_the_world_of_the_cameras(
    photos: Path, room: SceneFrames, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconstruct(photos, "--cameras", photos.parent / "transforms.json", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    scene = load_scene(photos.parent / "scene.safetensors")
    true = torch.from_numpy(room.cam_from_world[list(VIEWS)]).float()
    torch.testing.assert_close(scene.cameras.cam_from_world, true, rtol=0, atol=1e-5)
    facts = summary["geometry"]
    assert (facts["cameras"], facts["unit"]) == ("given", "that of the cameras")
    assert facts["matched"] > 0.2 and 0 < facts["reprojection_px"] < 2 and facts["depth_unit"] > 0
    assert "left out 1 photo without a camera: -1.png" in summary["notes"]
    assert reconstruct(photos, "--cameras", photos.parent / "transforms.json", "--refine-cameras") == 0
    said = capsys.readouterr().out
    assert "cameras refined:" in said and "of patches matched" in said and "refined by up to" in said
    assert load_scene(photos.parent / "scene.safetensors").provenance["cameras"] == "refined"


def test_one_camera_does_not_tell_the_unit(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconstruct(photos, "--cameras", photos.parent / "transforms.json", "--max-views", 1) == 0
    assert "\ncameras given: one photo; lengths are not in their unit" in capsys.readouterr().out
    assert load_scene(photos.parent / "scene.safetensors").provenance["unit"] == "relative"


def test_a_photo_of_another_room_is_left_out_and_named(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconstruct(photos) == 0
    assert "note: left out 1 of 4 photos that do not fit the others: -1.png (0." in capsys.readouterr().out
    scene = load_scene(photos.parent / "scene.safetensors")
    torch.testing.assert_close(scene.cameras.cam_from_world[0], torch.eye(4))
    assert [photo["name"] for photo in scene.provenance["photos"]] == ["0.png", "2.png", "4.png"]
    listed = {fact["photo"]: fact["registered"] for fact in scene.provenance["registration"]}
    assert listed == {"-1.png": False, "0.png": True, "2.png": True, "4.png": True}
    assert reconstruct(photos, "--keep-all") == 0
    assert "note: 1 of 4 photos do not fit the others: -1.png" in capsys.readouterr().out
    assert len(load_scene(photos.parent / "scene.safetensors").cameras.intrinsics) == 4


def test_unrelated_photos_are_refused_in_one_line(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for view in (2, 4):
        (photos / f"{view}.png").unlink()
    assert reconstruct(photos) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: no two of the 2 photos agree") and line.count("\n") == 1
    assert not (photos.parent / "scene.safetensors").exists()


def test_two_pixels_and_a_length_give_metres(
    photos: Path, room: SceneFrames, capsys: pytest.CaptureFixture[str]
) -> None:
    points = []
    for x, y in ((20, 100), (100, 90)):
        in_cam = room.depth[0, y, x] * np.linalg.solve(room.intrinsics[0], [x + 0.5, y + 0.5, 1])
        points.append(in_cam)
    metres = float(np.linalg.norm(points[0] - points[1]))
    assert reconstruct(photos, "--scale-between", "0:20.5,100.5", "0.png:100.5,90.5", metres) == 0
    assert "to metres" in capsys.readouterr().out
    scene = load_scene(photos.parent / "scene.safetensors")
    assert scene.provenance["unit"] == "metre" and scene.provenance["scale_between"]["metres"] == metres
    centres, true = (torch.linalg.inv(poses)[:, :3, 3] for poses in (
        scene.cameras.cam_from_world.double(), torch.from_numpy(room.cam_from_world[list(VIEWS)])
    ))  # fmt: skip
    ratio = torch.pdist(centres) / torch.pdist(true)
    assert 0.8 < float(ratio.median()) < 1.25


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cameras", "x", "--poses", "colmap"), "--cameras and --poses: give one of them"),
        (("--cameras", "x", "--focal", "100"), "--cameras gives the focal lengths, too; leave --focal out"),
        (("--refine-cameras",), "--refine-cameras: there are none to refine; give them with --cameras"),
        (("--cameras", "missing"), "missing"),
        (("--scale-between", "1,2", "3,4", "0"), "--scale-between 1,2 3,4 0: give U,V U,V METRES"),
        (("--scale-between", "900,2", "3,4", "1"), "900,2: the scene shows no such pixel; 0.png has 128x128 pixels"),
        (("--scale-between", "9,2", "10,2", "1"), "less than 2 pixels between them; choose others"),
        (("--max-gaussians", "9"), "has no such setting; keep the step densify, or leave the option out"),
        (("--scale-between", "x:9,2", "3,4", "1"), "--scale-between x: is no photo of the scene"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    words: tuple[str, ...], message: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reconstruct(photos, *words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and message in line
    assert not (photos.parent / "scene.safetensors").exists()


def test_cameras_of_a_video_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconstruct(tmp_path / "clip.mp4", "--cameras", "x") == 2
    assert "clip.mp4 is a video; give the folder of its frames" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["1", "1,2,3", "a,b", "1,nan", ":1", "1;2", ""])
def test_pixels_of_another_form_are_refused(word: str) -> None:
    with pytest.raises(UserError, match="give U,V U,V METRES"):
        parse_length([word, "1,2", "2"])
    assert parse_length(["a:b.jpg:1,2", "3,4", "2.5"]).first == ("a:b.jpg", 1.0, 2.0)
