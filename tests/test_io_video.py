"""Videos, against their own decoder."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest

from tokengroups.errors import UserError
from tokengroups.io import video
from tokengroups.io.video import FRAMES_PER_SECOND, check_video, video_codec, video_writer


def test_pictures_come_back_in_their_order_and_size(tmp_path: Path) -> None:
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    with video_writer(tmp_path / "a.mp4", (91, 120)) as add:
        for color in colors:
            add(np.full((91, 120, 3), color, np.uint8))
        add(np.full((40, 60, 3), 255, np.uint8))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == FRAMES_PER_SECOND and stream.codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in frames] == 4 * [(92, 120, 3)]
    for frame, color in zip(frames, colors, strict=False):
        assert np.abs(frame[:90].astype(int) - color).mean() < 8
    small = frames[3]
    assert small[30:60, 40:80].min() > 235 and small[:20].max() < 25 and small[:, :20].max() < 25


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("fps", [1, 23.976, 30, 120])
def test_pace_and_colours_are_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, fps: float) -> None:
    monkeypatch.setattr(video, "_CODECS", ("missing", codec))
    assert video_codec() == codec
    rows, columns = np.mgrid[:64, :96]
    picture = np.stack([2 * columns, 3 * rows, 255 - 2 * columns], axis=-1).astype(np.uint8)
    with video_writer(tmp_path / "a.mp4", (64, 96), fps) as add:
        for shift in range(4):
            add(np.roll(picture, 2 * shift, axis=1))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate or 0) == pytest.approx(fps) and stream.codec_context.pix_fmt == "yuv420p"
        frames = list(container.decode(stream))
    assert {frame.colorspace for frame in frames} == {1} and len(frames) == 4  # BT.709
    assert [frame.time for frame in frames] == pytest.approx([index / fps for index in range(4)])
    for shift, frame in enumerate(frames):
        expected = np.roll(picture, 2 * shift, axis=1).astype(int)
        assert np.abs(frame.to_ndarray(format="rgb24") - expected).mean() < 3
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays while it loads


def test_no_codec_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "_CODECS", ("missing", "gone"))
    with pytest.raises(UserError, match="no missing and no gone"):
        video_codec()


def test_a_failure_leaves_no_video(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), video_writer(tmp_path / "a.mp4", (32, 32)) as add:
        add(np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_what_ffmpeg_cannot_write_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise av.error.OSError(28, "No space left on device", "a.mp4")

    monkeypatch.setattr(av, "open", full)
    with pytest.raises(UserError, match="No space left on device"), video_writer(tmp_path / "a.mp4", (32, 32)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_video()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r'pip install "tokengroups\[video\]"'):
        check_video()
