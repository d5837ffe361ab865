"""Frames of videos: the right ones, upright, the sharp ones; damaged files are one line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from videos import WIDTH, code, coded, write_video

from tokengroups.errors import UserError
from tokengroups.io.video_frames import Sampling, extract_frames, sharpness
from tokengroups.io.video_reading import opened_video


def numbers(video: Path, sampling: Sampling, **options: object) -> tuple[list[int], list[str]]:
    """Numbers of the frames that are taken, which their names and their pixels agree on, and notes."""
    folder = video.parent / "frames"
    folder.mkdir(exist_ok=True)
    paths, notes = extract_frames(video, folder, sampling, **options)
    named = [int(path.stem.rpartition("_")[2]) for path in paths]
    assert [code(np.asarray(Image.open(path))) for path in paths] == named
    assert all(path.name == f"{video.stem}_{number:06d}.png" for path, number in zip(paths, named, strict=True))
    return named, notes


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx")],
)
def test_every_container_gives_the_frames_asked_for(name: str, codec: str, tmp_path: Path) -> None:
    import av

    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    video = write_video(tmp_path / name, 40, codec=codec)
    assert numbers(video, Sampling(5)) == ([0, 10, 20, 29, 39], [])
    assert numbers(video, Sampling(100))[0] == list(range(40))
    assert numbers(video, Sampling(100, fps=5))[0] == list(range(0, 40, 2))
    assert numbers(video, Sampling(1)) == ([0], [])


def test_more_frames_a_second_than_allowed_are_thinned_out(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 40)
    found, notes = numbers(video, Sampling(4, fps=2))
    assert found == [0, 13, 26, 39] and notes == ["a.mp4: 4 of 8 frames at 2 a second; --max-views allows more"]
    assert numbers(video, Sampling(50, fps=30))[0] == list(range(40))  # no frame comes twice


def test_the_sharpest_frame_of_every_window_is_taken(tmp_path: Path) -> None:
    sharp = [3, 7, 14, 19]

    def picture(number: int) -> np.ndarray:
        plain = Image.fromarray(coded(number))
        return np.asarray(plain if number in sharp else plain.filter(ImageFilter.GaussianBlur(1.5)))

    video = write_video(tmp_path / "a.mp4", 20, picture)
    assert numbers(video, Sampling(4, "sharp")) == (sharp, [])
    assert numbers(video, Sampling(9, "sharp", fps=2)) == (sharp, [])


def test_stretches_without_motion_are_left_out(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 30, lambda number: coded(min(number, 10)))
    folder = tmp_path / "frames"
    folder.mkdir()
    paths, notes = extract_frames(video, folder, Sampling(6, "sharp"))
    assert len(paths) == 3 and code(np.asarray(Image.open(paths[-1]))) == 10
    assert notes == ["a.mp4: 3 of 6 stretches left out: nothing moved"]
    assert len(extract_frames(video, folder, Sampling(6))[0]) == 6


def test_the_sharpness_is_that_of_a_convolution() -> None:
    from scipy.ndimage import laplace

    image = np.random.default_rng(0).uniform(0, 255, (20, 30))
    assert sharpness(image) == pytest.approx(laplace(image)[1:-1, 1:-1].var())
    assert sharpness(np.zeros((2, 2))) == 0


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], Image.Transpose.ROTATE_270),  # a phone held upright
        ([-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30], Image.Transpose.ROTATE_180),
        ([0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30], Image.Transpose.ROTATE_90),
    ],
)
def test_frames_are_turned_as_players_do(matrix: list[int], turn: Image.Transpose, tmp_path: Path) -> None:
    """Pillow's ROTATE_270 is clockwise by 90 degrees; the matrix maps x of the stored frame to y downwards."""
    import av

    if not hasattr(av.VideoStream, "set_display_matrix"):
        pytest.skip("this PyAV does not write the matrix")
    video = write_video(tmp_path / "a.mov", 2, matrix=matrix)
    (path,) = extract_frames(video, tmp_path, Sampling(1))[0]
    expected = np.asarray(Image.fromarray(coded(0)).transpose(turn)).astype(int)
    found = np.asarray(Image.open(path)).astype(int)
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 12


def test_the_middle_of_a_damaged_video_costs_its_own_frames(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mkv", 60)
    content = bytearray(video.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    video.write_bytes(content)
    folder = tmp_path / "frames"
    folder.mkdir()
    found = extract_frames(video, folder, Sampling(60))[0]
    assert 30 <= len(found) <= 60 and len({path.name for path in found}) == len(found)


def test_unusable_videos_are_one_line(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", 20)
    whole = video.read_bytes()
    cases = {"empty": b"", "noise": bytes(range(256)) * 40, "cut": whole[: len(whole) // 2]}
    for name, content in cases.items():
        video.write_bytes(content)
        with pytest.raises(UserError, match=r"a.mp4: damaged, or no video") as error:
            extract_frames(video, tmp_path, Sampling(2))
        assert "\n" not in str(error.value), name
    with pytest.raises(UserError, match="there is no such file"):
        extract_frames(tmp_path / "b.mp4", tmp_path, Sampling(2))
    video.write_bytes(whole)
    with pytest.raises(UserError, match=r"frames of 96x64, more than 0.001 megapixels"):
        extract_frames(video, tmp_path, Sampling(2), max_megapixels=0.001)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("name", ["list.mp4", "list.mkv"])
def test_a_list_of_other_files_is_no_video(name: str, tmp_path: Path) -> None:
    """FFmpeg would open what such a file names, on this disk or in the network."""
    write_video(tmp_path / "a.mp4", 4)
    for content in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{tmp_path / 'a.mp4'}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{tmp_path / 'a.mp4'}'\n",
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match="no video that is read"):
            extract_frames(tmp_path / name, tmp_path, Sampling(2))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"a.mp4: no video in it"), opened_video(tmp_path / "a.mp4"):
        pass


def test_a_missing_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'a.mp4 needs PyAV: pip install "tokengroups\[video\]"'):
        extract_frames(tmp_path / "a.mp4", tmp_path, Sampling(1))


def test_pixels_are_square(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        container.mux(stream.encode(av.VideoFrame.from_ndarray(coded(0), format="rgb24")))
        container.mux(stream.encode(None))
    (path,) = extract_frames(tmp_path / "a.mp4", tmp_path, Sampling(1))[0]
    assert Image.open(path).size == (2 * WIDTH, 64)
