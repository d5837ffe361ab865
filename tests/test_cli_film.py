"""`tokengroups render --video`, as a user types it: films against the views that they show."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from scenes import random_scene, two_cameras

from tokengroups.cli import film
from tokengroups.cli.main import main
from tokengroups.io import video
from tokengroups.io.camera_paths import MAX_SECONDS, MIN_SECONDS
from tokengroups.io.pictures import group_colors
from tokengroups.scene import load_scene, orbit_cameras, path_cameras, render_views, save_scene
from tokengroups.scene.views import resize_cameras
from tokengroups.types import Cameras


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    save_scene(tmp_path / "scene.safetensors", random_scene())
    return tmp_path / "scene.safetensors"


def save_path(path: Path, cameras: Cameras, **changes: Any) -> Path:
    (height, width), entries = cameras.size_hw, []
    for pose, k in zip(cameras.cam_from_world.double(), cameras.intrinsics.double().tolist(), strict=True):
        focal = {"fx": k[0][0], "fy": k[1][1], "cx": k[0][2], "cy": k[1][2]}
        entries.append({"name": "", "width": width, "height": height, **focal, "cam_from_world": pose.tolist()})
    content = {"format": "tokengroups.path", "version": 1, "seconds": 0.5, "closed": False, "viewpoints": entries}
    path.write_text(json.dumps(content | changes))
    return path


def run(*words: object) -> int:
    return main(["render", *(str(word) for word in words)])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def frames(path: Path) -> list[np.ndarray]:
    if path.suffix == ".gif":
        with Image.open(path) as opened:
            return [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(opened)]
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


def rendered(scene_file: Path, cameras: Cameras) -> list[np.ndarray]:
    views = render_views(load_scene(scene_file), cameras)
    return [(255 * view.color.clamp(0, 1)).round().numpy().astype(int) for view in views]


def three_cameras() -> Cameras:
    """Far enough apart that every frame of a film differs from the others by more than what the codec loses."""
    two, third = two_cameras((48, 64)), two_cameras((48, 64)).map(lambda values: values[:1].clone())
    poses = torch.cat([two.cam_from_world, third.cam_from_world])
    poses[1, 0, 3], poses[2, 1, 3] = -1.2, -0.8
    return Cameras(poses, torch.cat([two.intrinsics, third.intrinsics]), two.size_hw)


@pytest.mark.parametrize("closed", [False, True])
def test_a_film_shows_the_path(
    scene_file: Path, tmp_path: Path, closed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = save_path(tmp_path / "path.json", three_cameras(), closed=closed), tmp_path / "film.mp4"
    assert run(scene_file, "--camera", path, "--video", out, "--seconds", 0.4) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rendered 12 views of 64x48 (color)",
        f"wrote {out} (0.4 s, 0.0 MB)",
    ]
    with av.open(str(out)) as container:
        assert container.streams.video[0].average_rate == 30
    found, expected = frames(out), rendered(scene_file, path_cameras(three_cameras(), 12, closed))
    errors = np.array([[np.abs(one - other).mean() for other in expected] for one in found])
    assert errors.shape == (12, 12) and errors.diagonal().max() < 1
    assert errors.argmin(axis=1).tolist() == list(range(12))  # each frame shows its own camera and no other


def test_a_turntable_as_gif(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "turn.GIF"
    assert run(scene_file, "--camera", "orbit:8", "--video", out, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [str(out)]
    out = out.rename(tmp_path / "turn.gif")
    found, expected = frames(out), rendered(scene_file, orbit_cameras(load_scene(scene_file), 8))
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).mean() < 4
    with Image.open(out) as opened:
        assert opened.info["loop"] == 0 and {f.info["duration"] for f in ImageSequence.Iterator(opened)} == {60, 70}


def test_film_and_pictures_of_groups(scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A GIF of groups has exactly their colours, and the pictures of a path are those of its frames."""
    path, pictures, out = save_path(tmp_path / "p.json", two_cameras()), tmp_path / "pictures", tmp_path / "a.gif"
    assert run(scene_file, "--camera", path, "--fps", 10, "--what", "groups", "-o", pictures, "--video", out) == 0
    assert f"wrote 12 files to {pictures}\nwrote {out} (0.5 s" in capsys.readouterr().out
    cameras = path_cameras(two_cameras(), 5)
    expected = [group_colors(view.group_map) for view in render_views(load_scene(scene_file), cameras)]
    for index, (found, picture) in enumerate(zip(frames(out), expected, strict=True)):
        assert np.array_equal(found, picture)
        assert np.array_equal(np.asarray(Image.open(pictures / f"groups_{index:03d}.png")), picture)
    assert run(scene_file, "--camera", path, "-o", tmp_path / "more") == 0  # without a film: 30 frames a second
    assert len(list((tmp_path / "more").glob("color_*.png"))) == 15


def test_odd_and_large_sizes_are_said(
    scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_path(tmp_path / "path.json", two_cameras((37, 51)), seconds=0.1)
    assert run(scene_file, "--camera", path, "--video", tmp_path / "a.mp4") == 0
    assert "the film is cut from 51x37 to 50x36, at the right and lower edge" in capsys.readouterr().err
    whole = rendered(scene_file, path_cameras(two_cameras((37, 51)), 3))
    for one, other in zip(frames(tmp_path / "a.mp4"), whole, strict=True):
        assert one.shape == (36, 50, 3) and np.abs(one - other[:36, :50]).mean() < 1.5
    monkeypatch.setattr(film, "GIF_SIDE_PX", 30)
    assert run(scene_file, "--camera", "context:0", "--video", tmp_path / "a.gif") == 0
    assert "pictures of 32x24 are reduced to 29x22 for a .gif" in capsys.readouterr().err
    (small,) = frames(tmp_path / "a.gif")
    (expected,) = rendered(scene_file, resize_cameras(two_cameras().map(lambda values: values[:1]), 22))
    assert np.abs(small - expected).mean() < 4
    assert run(scene_file, "--camera", "context:0", "--video", tmp_path / "a.gif", "--size", 48) == 0
    assert frames(tmp_path / "a.gif")[0].shape == (48, 64, 3) and capsys.readouterr().err == ""


def test_an_older_codec_is_said(
    scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "_CODECS", ("mpeg4",))
    assert run(scene_file, "--video", tmp_path / "a.mp4") == 0
    assert "note: this FFmpeg has no libx264" in capsys.readouterr().err and len(frames(tmp_path / "a.mp4")) == 2


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), MemoryError()])
def test_a_film_that_is_stopped_leaves_nothing(
    scene_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stop: BaseException
) -> None:
    from tokengroups import scene as package

    def broken(*words: Any) -> Any:
        yield from list(render_views(*words))[:1]
        raise stop

    monkeypatch.setattr(package, "render_views", broken)
    before = sorted(tmp_path.rglob("*"))
    assert run(scene_file, "--video", tmp_path / name, "-o", tmp_path / "out") != 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing to write: give -o DIR for pictures, --video FILE for a film, or both"),
        (["--video", "a.webm"], "--video a.webm: give a file name that ends in .mp4 or .gif"),
        (["--video", "none/a.mp4"], "there is no folder none"),
        (["--video", "a.mp4", "--what", "depth"], "a film shows color or groups"),
        (["--video", "a.mp4", "--what", "color,groups"], "a film shows color or groups"),
        (["--video", "a.mp4", "--fps", "0"], "choose 1 to 120"),
        (["--video", "a.mp4", "--fps", "nan"], "choose 1 to 120"),
        (["--video", "a.mp4", "--fps", "1000"], "choose 1 to 120"),
        (["--video", "a.gif", "--fps", "60"], "a .gif has at most 50 frames a second"),
        (["--video", "a.mp4", "--seconds", "3"], "--seconds is the length of a camera path"),
        (["-o", "out", "--fps", "3"], "--fps is for films and camera paths"),
        (["--video", "a.mp4", "--camera", "path.json", "--seconds", "400"], "12,000 frames, more than 10,000; lower"),
        (["--video", "a.mp4", "--camera", "path.json", "--seconds", "-1"], "choose 0.01 to 3600"),
        (
            ["--video", "a.gif", "--camera", "path.json", "--seconds", "700", "--fps", "1", "--size", "20"],
            "a .gif lasts at most 655 s; write an .mp4",
        ),
        (
            ["--video", "a.gif", "--camera", "path.json", "--seconds", "60", "--size", "1000"],
            "megapixels in all; lower",
        ),
        (["--video", "a.mp4", "--size", "1"], "pictures of 1x1 are too small for a video"),
        (["--video", "a.mp4", "-o", "a.mp4"], "-o a.mp4: it is the film of --video, or in it"),
        (["--video", "a.mp4", "-o", "a.mp4/in"], "-o a.mp4/in: it is the film of --video, or in it"),
        (["--video", "a.mp4", "--camera", "odd.json"], "odd.json: not a camera path; give"),
    ],
)
def test_bad_options_are_refused(
    scene_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_path(tmp_path / "path.json", two_cameras())
    (tmp_path / "odd.json").write_text('{"viewpoints": []}')
    before = sorted(tmp_path.iterdir())
    assert words in refused(capsys, scene_file, *options)
    assert sorted(tmp_path.iterdir()) == before


def test_a_missing_extra_is_said_and_not_needed_for_gifs(
    scene_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "av" else found(name, *rest))
    assert 'pip install "tokengroups[video]"' in refused(capsys, scene_file, "--video", tmp_path / "a.mp4")
    assert run(scene_file, "--video", tmp_path / "a.gif") == 0


def test_the_limits_of_options_are_those_of_files(scene_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The options repeat them, because importing the reader would slow --help down."""
    for seconds in (0.9 * MIN_SECONDS, 1.1 * MAX_SECONDS):
        limits = f"choose {MIN_SECONDS:g} to {MAX_SECONDS:g}"
        assert limits in refused(capsys, scene_file, "--video", "a.mp4", "--seconds", seconds)
