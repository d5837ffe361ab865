"""Animated pictures, against Pillow's reader and the bytes of the format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tokengroups.errors import UserError
from tokengroups.io.gif import MAX_SECONDS, gif_writer, shared_palette


def gradient(shift: int) -> np.ndarray:
    rows, columns = np.mgrid[:40, :61]
    return np.stack([4 * columns, 6 * rows, 20 * shift + 0 * rows], axis=-1).astype(np.uint8)


def write(path: Path, pictures: list[np.ndarray], fps: float, palette: np.ndarray | None = None) -> Path:
    with gif_writer(path, shared_palette(pictures) if palette is None else palette, fps) as add:
        for picture in pictures:
            add(picture)
    return path


def test_frames_come_back_in_one_palette(tmp_path: Path) -> None:
    pictures = [gradient(shift) for shift in range(10)]
    with Image.open(write(tmp_path / "a.gif", pictures, 30)) as opened:
        assert opened.info["loop"] == 0 and opened.n_frames == 10 and opened.size == (61, 40)
        read = [(np.asarray(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(opened)]
    assert sum(time for _, time in read) == 330 and {time for _, time in read} == {30, 40}  # 10 / 30 s, in hundredths
    for (found, _), picture in zip(read, pictures, strict=True):
        assert np.abs(found.astype(int) - picture).mean() < 12  # 24,400 colours by 256
    assert len(np.unique(np.concatenate([found.reshape(-1, 3) for found, _ in read]), axis=0)) <= 256


def test_few_colours_stay_exact_and_no_frame_has_its_own_table(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (200, 3), np.uint8)
    palette = shared_palette([colors[None]])
    assert {tuple(color) for color in palette.tolist()} == {tuple(color) for color in colors.tolist()}
    pictures = [np.random.default_rng(seed).choice(colors, (20, 30)) for seed in range(5)]
    with Image.open(write(tmp_path / "a.gif", pictures, 10, palette)) as opened:
        for frame, picture in zip(ImageSequence.Iterator(opened), pictures, strict=True):
            assert np.array_equal(np.asarray(frame.convert("RGB")), picture)
    sizes = [write(tmp_path / "b.gif", pictures[:count], 10, palette).stat().st_size for count in (1, 2, 3)]
    assert sizes[2] - sizes[1] < 20 * 30 * 1.5 + 50  # a table would be 768 bytes more


def test_a_still_is_one_frame_that_stays(tmp_path: Path) -> None:
    with Image.open(write(tmp_path / "a.gif", 6 * [gradient(3)], 5)) as opened:
        assert opened.n_frames == 1 and opened.info["duration"] == 1200
    with Image.open(write(tmp_path / "a.gif", int(MAX_SECONDS) * [gradient(3)[:2, :2]], 1)) as opened:
        assert opened.n_frames == 1 and opened.info["duration"] == 1000 * MAX_SECONDS


def test_a_failure_leaves_no_picture(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), gif_writer(tmp_path / "a.gif", np.zeros((2, 3), np.uint8), 10) as add:
        add(gradient(0))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="there is no folder"):
        write(tmp_path / "none" / "a.gif", [gradient(0)], 10)
