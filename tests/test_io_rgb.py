"""Numbers of any type as 8-bit colours: right values by the stated rule, and a note about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import deep_png, deep_tiff, written
from PIL import Image

from tokengroups.io import rgb
from tokengroups.io.images import load_photos
from tokengroups.io.rgb import blank_note, to_rgb, value_range

SIDE = 64
RAMP = np.tile(np.linspace(0, 1, SIDE), (SIDE, 1))  # from left to right


def load(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """8-bit pixels [H, W, 3] of a photo, and its notes."""
    photos = load_photos(path, SIDE)
    return (photos.images[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8), photos.photos[0].notes


def expected(values: np.ndarray, white: float) -> np.ndarray:
    return (values.astype(np.float64) * 255 / white).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("maximum", "white"),
    [
        (0, 1), (0.2, 1), (1, 1), (1.5, 1.5), (15.9, 15.9), (16, 255), (255, 255), (256, 4095), (4095, 4095),
        (4096, 65535), (65535, 65535), (65536, 65536), (3e9, 3e9),
    ],
)  # fmt: skip
def test_range_of_numbers_follows_from_the_largest(maximum: float, white: float) -> None:
    assert value_range(maximum) == white


# Largest value, type of the numbers, white, words of the note.
NUMBERS = {
    "fractions": (1.0, np.float32, 1, "values up to 1 taken for a range of 0 to 1"),
    "dark fractions": (0.6, np.float32, 1, "values up to 0.6 "),
    "bright fractions": (2.5, np.float32, 2.5, "0 to 2.5"),
    "bytes in floats": (250.0, np.float32, 255, "values up to 250 taken for a range of 0 to 255"),
    "12 bits in floats": (4000.0, np.float32, 4095, "0 to 4095"),
    "any floats": (1e6, np.float32, 1e6, "0 to 1e+06"),
    "bytes in 32 bits": (238, np.int32, 255, "0 to 255"),
    "12 bits in 32 bits": (3822, np.int32, 4095, "0 to 4095"),
    "16 bits in 32 bits": (65535, np.int32, 65535, "16-bit grey reduced to 8 bits"),
    "32 bits": (2_000_000, np.int32, 2_000_000, "0 to 2e+06"),
    "12 bits in 16 bits": (4095, np.uint16, 4095, "0 to 4095"),
    "bytes in 16 bits": (200, np.uint16, 255, "0 to 255"),
    "16 bits": (50000, np.uint16, 65535, "16-bit grey reduced to 8 bits"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_rasters_of_numbers_are_scaled_and_say_so(case: str, tmp_path: Path) -> None:
    largest, kind, white, note = NUMBERS[case]
    values = (RAMP * largest).astype(kind)
    Image.fromarray(values).save(tmp_path / "a.tif")
    pixels, notes = load(tmp_path / "a.tif")
    assert np.array_equal(pixels, np.repeat(expected(values, white)[..., None], 3, axis=-1))
    assert pixels.max() > 100 and len(notes) == 1 and note in notes[0]


def test_what_is_no_number_is_black_or_white(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[:2] = np.nan
    values[2, 0], values[3, 0], values[4, 0] = np.inf, -np.inf, -0.5
    Image.fromarray(values).save(tmp_path / "a.tif")
    pixels, notes = load(tmp_path / "a.tif")
    assert (pixels[:2] == 0).all() and pixels[2, 0, 0] == 255 and pixels[3, 0, 0] == pixels[4, 0, 0] == 0
    assert np.array_equal(pixels[5:, :, 0], expected(values[5:], 1))
    assert notes[1:] == ("negative values made black", "130 values that are no finite numbers made black or white")
    Image.fromarray(np.full((SIDE, SIDE), np.nan, np.float32)).save(tmp_path / "b.tif")
    pixels, notes = load(tmp_path / "b.tif")
    assert not pixels.any() and "nearly black all over" in notes[-1]


def deep_colors(largest: int, white: int, channels: int) -> np.ndarray:
    """A ramp in each colour, in other directions; opaque on the left half only."""
    opacity = [(RAMP < 0.5) * float(white)] * (channels - 3)
    return np.stack([RAMP * largest, RAMP.T * largest, RAMP[:, ::-1] * largest, *opacity], -1).astype(np.uint16)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("kind", ["png", "<tif", ">tif", "<tif compressed", ">tif compressed"])
@pytest.mark.parametrize(("largest", "white"), [(4095, 4095), (3000, 4095), (255, 255), (65535, 65535)])
def test_deep_colours_keep_what_they_show(channels: int, kind: str, largest: int, white: int, tmp_path: Path) -> None:
    values = deep_colors(largest, white, channels)
    if kind == "png":
        path = written(tmp_path / "a.png", deep_png(values))
    else:
        path = written(tmp_path / "a.tif", deep_tiff(values, kind[0], "compressed" in kind))
    pixels, notes = load(path)
    wanted = expected(values[..., :3], white) if white < 65535 else (values[..., :3] >> 8).astype(np.uint8)
    opaque = values[..., 3] > 0 if channels == 4 else np.ones((SIDE, SIDE), bool)
    assert np.array_equal(pixels[opaque], wanted[opaque]) and (pixels[~opaque] == 255).all()
    assert ("transparency composited on white" in notes) == (channels == 4)
    reduced = "16-bit colour reduced to 8 bits"
    assert notes[0] == (reduced if white == 65535 else f"values up to {largest} taken for a range of 0 to {white}")


def test_deep_grey_with_alpha_says_that_it_is_reduced(tmp_path: Path) -> None:
    values = (np.stack([RAMP, np.ones_like(RAMP)], -1) * 65535).astype(np.uint16)
    pixels, notes = load(written(tmp_path / "a.png", deep_png(values)))
    assert np.array_equal(pixels[..., 0], values[..., 0] >> 8) and notes == ("16-bit colour reduced to 8 bits",)


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large photos are converted band by band; the bands' borders are nowhere special."""
    rng = np.random.default_rng(0)
    images = [
        Image.fromarray(rng.integers(0, 256, (50, 30, 4), np.uint8)),
        Image.fromarray(rng.integers(0, 4096, (50, 30)).astype(np.uint16)),
        Image.fromarray(rng.normal(size=(50, 30)).astype(np.float32)),
    ]
    whole = [np.asarray(to_rgb(image, [])) for image in images]
    monkeypatch.setattr(rgb, "_BAND_PIXELS", 7 * 30)
    for image, wanted in zip(images, whole, strict=True):
        assert np.array_equal(np.asarray(to_rgb(image, [])), wanted)
    wanted = Image.alpha_composite(Image.new("RGBA", (30, 50), "white"), images[0]).convert("RGB")
    assert np.array_equal(np.asarray(to_rgb(images[0], [])), np.asarray(wanted))


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_one_transparent_colour_is_white(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray((RAMP > 0.5).astype(np.uint8) * 255).convert(mode)
    black = (0, 0, 0) if mode == "RGB" else image.getpixel((0, 0))
    image.save(tmp_path / "a.png", transparency=black)
    pixels, notes = load(tmp_path / "a.png")
    assert (pixels == 255).all() and notes[0] == "transparency composited on white"


@pytest.mark.parametrize(
    ("color", "words"),
    [((0, 0, 0), "nearly black"), ((255, 255, 255), "nearly white"), ((120, 130, 90), "nearly one colour")],
)
def test_blank_photos_are_warned_about(color: tuple[int, int, int], words: str, tmp_path: Path) -> None:
    pixels = np.full((200, 300, 3), color, np.int64) + np.random.default_rng(0).integers(-4, 5, (200, 300, 3))
    pixels[:2, :40] = 128  # a speck of dust
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    assert words in ", ".join(load(tmp_path / "a.png")[1])


def test_photos_with_something_to_see_are_not() -> None:
    pixels = np.full((200, 300, 3), 255, np.uint8)
    pixels[50:100, 50:100, 2] = 200  # pale yellow on white, 4 % of the photo
    assert blank_note(Image.fromarray(pixels)) is None
    assert blank_note(Image.fromarray((RAMP * 20 + 100).astype(np.uint8)).convert("RGB")) is None
