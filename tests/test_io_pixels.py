"""Masks and frames: values are exact, or the file is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import deep_png, deep_tiff, unsigned_tiff, written
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.pixels import read_mask, read_pixels, write_pixels

IDS = np.arange(12).reshape(3, 4)


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    Image.fromarray(values).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", IDS.astype(np.uint8)),
        ("a.bmp", IDS.astype(np.uint8)),
        ("a.png", (IDS * 5957).astype(np.uint16)),
        ("a.tif", (IDS * 5957).astype(np.uint16)),
        ("a.tif", (IDS * 5957).astype(">u2")),
        ("a.tif", (IDS * 123_456_789).astype(np.int32)),
        ("a.tif", (IDS - 5).astype(np.int32)),
        ("a.tif", IDS.astype(np.float32)),
        ("a.tif", (IDS * 1_000_000 - 1).astype(np.float32)),
        ("a.png", IDS > 5),
    ],
)
def test_masks_keep_their_values_exactly(name: str, values: np.ndarray, tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path / name, values))
    assert mask.dtype == np.int64 and np.array_equal(mask, values.astype(np.int64))


def test_unsigned_masks_of_32_bits_stay_positive(tmp_path: Path) -> None:
    """Pillow reads them as signed numbers."""
    values = (IDS * 390_000_000).astype(np.uint32)
    assert values.max() > 2**31
    assert np.array_equal(read_mask(written(tmp_path / "a.tif", unsigned_tiff(values))), values)


@pytest.mark.parametrize("mode", ["LA", "PA"])
def test_alpha_of_a_mask_is_ignored(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(IDS.astype(np.uint8))
    if mode == "PA":
        image.putpalette([255 - value // 3 for value in range(768)])
    image.putalpha(128)
    assert image.mode == mode
    image.save(tmp_path / "a.tif")
    assert np.array_equal(read_mask(tmp_path / "a.tif"), IDS)


@pytest.mark.parametrize(
    "values", [IDS / 2, np.where(IDS == 3, np.nan, IDS), np.where(IDS == 3, np.inf, IDS), IDS * 1e30]
)
def test_masks_of_other_numbers_are_refused(values: np.ndarray, tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", values.astype(np.float32))
    with pytest.raises(UserError, match=r"a\.tif: values that are no whole numbers; save masks as"):
        read_mask(path)


def test_masks_whose_values_pillow_would_cut_are_refused(tmp_path: Path) -> None:
    values = np.repeat((IDS * 300).astype(np.uint16)[..., None], 3, axis=-1)
    for path in (written(tmp_path / "a.png", deep_png(values)), written(tmp_path / "a.tif", deep_tiff(values))):
        with pytest.raises(UserError, match="16 bits in several channels"):
            read_mask(path)


def test_several_masks_in_one_file_are_refused(tmp_path: Path) -> None:
    image = Image.fromarray(IDS.astype(np.uint8))
    for name in ("a.tif", "a.png"):
        image.save(tmp_path / name, save_all=True, append_images=[Image.new("L", image.size)])
        with pytest.raises(UserError, match="several pictures in one file"):
            read_mask(tmp_path / name)


@pytest.mark.parametrize("values", [IDS.astype(np.uint8), (IDS * 5957).astype(np.uint16)])
def test_frames_of_one_channel_keep_their_type(values: np.ndarray, tmp_path: Path) -> None:
    write_pixels(tmp_path / "a.png", values)
    read = read_pixels(tmp_path / "a.png")
    assert read.dtype == values.dtype and np.array_equal(read, values)


def test_frames_of_colour_are_rgb(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    write_pixels(tmp_path / "a.png", colors)
    assert np.array_equal(read_pixels(tmp_path / "a.png"), colors)
    write_pixels(tmp_path / "a.jpg", np.full((8, 9, 3), 90, np.uint8))
    assert (read_pixels(tmp_path / "a.jpg") == 90).all()
