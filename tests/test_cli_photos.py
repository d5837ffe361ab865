"""Videos and ignored pixels of `tokengroups reconstruct` and `segment`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from iggt_weights import save_color_field
from PIL import Image
from videos import code, write_video

from tokengroups.cli.main import main
from tokengroups.io.ignored import ignore_pixels
from tokengroups.io.images import load_photos
from tokengroups.io.pixels import read_pixels
from tokengroups.io.scene_photos import find_scene_photos
from tokengroups.scene import load_scene
from tokengroups.systems import load_model
from tokengroups.systems.cell_gaussians import CellGaussiansConfig


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a system whose instances are the colours of the photos."""
    folder = tmp_path_factory.mktemp("weights") / "colors"
    return save_color_field(folder, gaussians=CellGaussiansConfig(max_gaussians=100_000))


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_video_becomes_a_scene_beside_its_frames(
    tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "room.mp4", 30)
    out = tmp_path / "scene.safetensors"
    options = ("--weights", random_weights, "--max-views", 4, "--json")
    assert run("reconstruct", tmp_path / "room.mp4", "-o", out, *options) == 0
    summary = json.loads(capsys.readouterr().out)
    frames = sorted((tmp_path / "scene_frames").iterdir())
    assert [path.name for path in frames] == [f"room_{number:06d}.png" for number in (0, 10, 19, 29)]
    assert [code(read_pixels(path)) for path in frames] == [0, 10, 19, 29]
    assert summary["photos"] == list(map(str, frames))
    assert f"4 frames of room.mp4 are in {tmp_path / 'scene_frames'}" in summary["notes"]
    scene = load_scene(out)
    found, _ = find_scene_photos([str(tmp_path / "scene_frames")], scene.provenance, 4)
    assert [photo.path for photo in found] == frames and found[0].load(scene.cameras.size_hw).shape[0] == 3


def test_videos_and_photos_share_the_views(
    tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        write_video(tmp_path / place / "clip.mp4", 12)
    Image.new("RGB", (96, 64), "teal").save(tmp_path / "first.png")
    words = [tmp_path / "first.png", tmp_path / "a" / "clip.mp4", tmp_path / "b"]
    options = ("--keep-all", "--weights", random_weights, "--max-views", 5, "--fps", 10, "--json")
    assert run("reconstruct", *words, "-o", tmp_path / "s.safetensors", *options) == 0
    summary = json.loads(capsys.readouterr().out)
    names = [Path(photo).name for photo in summary["photos"]]
    assert names == ["first.png", "clip_000000.png", "clip_000011.png", "clip-2_000000.png", "clip-2_000011.png"]
    assert "clip.mp4: 2 of 12 frames at 10 a second; --max-views allows more" in summary["notes"]


def test_segment_keeps_the_frames_of_a_video_in_its_folder(tmp_path: Path, colors: Path) -> None:
    def picture(number: int) -> np.ndarray:
        canvas = np.full((64, 96, 3), (250, 40, 40), np.uint8)
        canvas[20:50, 10 + 4 * number : 30 + 4 * number] = (40, 40, 250)
        return canvas

    write_video(tmp_path / "room.mov", 9, picture)
    out = tmp_path / "out"
    assert run("segment", tmp_path / "room.mov", "-o", out, "--weights", colors, "--frames", "sharp", "--fps", 3) == 0
    stems = sorted(path.stem for path in (out / "frames").iterdir())
    assert 2 <= len(stems) <= 3 and stems == sorted(path.stem for path in (out / "masks").iterdir())
    content = json.loads((out / "instances.json").read_text())
    assert [photo["name"] for photo in content["photos"]] == [f"{stem}.png" for stem in stems]
    mask = read_pixels(out / "masks" / f"{stems[-1]}.png")
    number = int(stems[-1][-6:])
    assert mask[35, 20 + 4 * number] != mask[5, 5] and mask.min() > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photo.png", "--fps", "2"], "--frames and --fps choose frames of videos, but no video is given"),
        (["bad.mp4"], "bad.mp4: damaged, or no video that is read"),
        (["room.mp4", "--size", "10"], "--size 10: must be a multiple"),
        (["room.mp4", "--ignore", "nothing"], "nothing: no such folder of masks"),
    ],
)
@pytest.mark.parametrize("command", ["reconstruct", "segment"])
def test_a_failure_leaves_no_frames(
    words: list[str], message: str, command: str, tmp_path: Path, random_weights: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "room.mp4", 6)
    Image.new("RGB", (96, 64), "teal").save("photo.png")
    Path("bad.mp4").write_text("no video")
    before = sorted(tmp_path.rglob("*"))
    assert run(command, *words, "-o", "out", "--weights", random_weights) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_made_of_ignored_pixels(
    tmp_path: Path, random_weights: Path, colors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("photos", "people"):
        (tmp_path / place).mkdir()
    for view in range(2):
        canvas = np.full((64, 96, 3), (250, 40, 40), np.uint8)
        canvas[:, 48:] = (40, 40, 250)
        mask = np.full((64, 96), 255, np.uint8)
        mask[:, 64:] = 0
        Image.fromarray(canvas).save(tmp_path / "photos" / f"{view}.png")
        Image.fromarray(mask).save(tmp_path / "people" / f"{view}.png.png")
    inputs, out = (tmp_path / "photos", "--ignore", tmp_path / "people"), tmp_path / "out"
    assert run("segment", *inputs, "-o", out, "--weights", colors, "--size", 96, "--json") == 0
    assert "33.3% of the pixels are ignored" in json.loads(capsys.readouterr().out)["notes"]
    labels = read_pixels(out / "masks" / "0.png")
    assert (labels[:, 64:] == 0).all() and labels[:, :64].min() > 0
    scene_file = tmp_path / "s.safetensors"
    options = ("--keep-all", "--weights", random_weights, "--postprocess", "none")
    assert run("reconstruct", *inputs, "-o", scene_file, *options) == 0
    model = load_model(random_weights)
    photos = load_photos(tmp_path / "photos", model.image_size, patch_size=model.size_multiple)
    photos = ignore_pixels(photos, tmp_path / "people", [photo.path for photo in photos.photos])
    with torch.no_grad():
        full = photos.full_images
        expected = model.predict(photos.images, mask=photos.mask, full_photos=full, postprocess=())
    assert torch.equal(load_scene(scene_file).gaussians.means, expected.scene.gaussians.means)
    assert photos.mask is not None
    assert all(photos.mask[view, int(y), int(x)] for view, y, x in expected.anchor_pixels.tolist())
