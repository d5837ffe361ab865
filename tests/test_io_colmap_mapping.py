"""Cameras by COLMAP on photos of a room: true rotations and directions, and answers where it fails."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokengroups.cli.main import main
from tokengroups.data.procedural import generate_room
from tokengroups.errors import UserError
from tokengroups.io.colmap_mapping import check_colmap, map_photos
from tokengroups.io.images import load_photos
from tokengroups.scene import load_scene
from tokengroups.types import SceneFrames

pytest.importorskip("pycolmap", reason="pycolmap is not installed")
SIZE, VIEWS = 320, 5
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def room() -> SceneFrames:
    return generate_room(9002, 0, "test", num_views=VIEWS, size=SIZE)


@pytest.fixture
def photos(room: SceneFrames, tmp_path: Path) -> Path:
    """Photos, one of which lies on its side with an EXIF tag, and a blank one."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for view, pixels in enumerate(room.images):
        exif = Image.Exif()
        exif[ORIENTATION] = 6 if view == 2 else 1
        Image.fromarray(np.rot90(pixels) if view == 2 else pixels).save(folder / f"{view}.png", exif=exif)
    Image.new("RGB", (SIZE, SIZE), "white").save(folder / "blank.png")
    return folder


def test_cameras_are_the_true_ones_up_to_a_similarity(photos: Path, room: SceneFrames) -> None:
    found, notes = map_photos(load_photos(photos, 128).photos)
    assert notes == ["COLMAP registered 5 of 6 photos; left out blank.png"]
    poses = np.stack([found[photos / f"{view}.png"].cam_from_world for view in range(VIEWS)])
    np.testing.assert_allclose(poses[0], np.eye(4), atol=1e-9)
    true = room.cam_from_world @ np.linalg.inv(room.cam_from_world[0])
    traces = np.einsum("vij,vij->v", poses[:, :3, :3], true[:, :3, :3])
    # The focal length is found, too, and small photos of a room leave some freedom between it and rotations.
    assert np.degrees(np.arccos(np.clip((traces - 1) / 2, -1, 1))).max() < 8
    centres, expected = (np.linalg.inv(each)[1:, :3, 3] for each in (poses, true))
    cosines = (centres * expected).sum(1) / np.linalg.norm(centres, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.9
    for camera in found.values():
        assert camera.size_hw == (SIZE, SIZE) and camera.upright
        assert camera.intrinsics[0, 0] == pytest.approx(room.intrinsics[0, 0, 0], rel=0.15)


def test_it_is_nearly_the_same_every_time(photos: Path) -> None:
    """COLMAP's threads match in another order, and RANSAC then takes other samples, whatever the seeds."""
    once, again = (map_photos(load_photos(photos, 128).photos)[0] for _ in range(2))
    for path, camera in once.items():
        np.testing.assert_allclose(again[path].cam_from_world[:3, :3], camera.cam_from_world[:3, :3], atol=0.05)


def test_photos_of_nothing_are_refused_in_one_line(tmp_path: Path) -> None:
    for index in range(2):
        Image.new("RGB", (64, 64), "teal").save(tmp_path / f"{index}.png")
    with pytest.raises(UserError, match="--poses colmap: COLMAP found no cameras for 2 photos; take more photos"):
        map_photos(load_photos(tmp_path, 64).photos)
    with pytest.raises(UserError, match="--poses colmap: one photo has no others to match; take more photos"):
        map_photos(load_photos(tmp_path / "0.png", 64).photos)


def test_without_pycolmap_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match=r'needs pycolmap: pip install "tokengroups\[colmap\]"'):
        check_colmap()


def test_the_command_takes_its_cameras(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photos.parent / "scene.safetensors"
    words = ["--poses", "colmap", "--postprocess", "bundle_adjustment"]
    assert main(["reconstruct", str(photos), "-o", str(out), *words]) == 0
    said = capsys.readouterr()
    assert "note: COLMAP registered 5 of 6 photos; left out blank.png" in said.out and "cameras given:" in said.out
    scene = load_scene(out)
    np.testing.assert_allclose(scene.cameras.cam_from_world[0].numpy(), np.eye(4), atol=1e-6)
    assert scene.provenance["poses"] == "colmap" and len(scene.provenance["photos"]) == VIEWS
