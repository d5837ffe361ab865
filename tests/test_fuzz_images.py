"""Hostile pictures: a photo or mask that can be used, or one line that refuses it."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import ORIENTATION, deep_png, deep_tiff, tiled_tiff, unsigned_tiff
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.focal import exif_focal_px
from tokengroups.io.images import decode_photo, load_photos
from tokengroups.io.pixels import read_mask, read_pixels

derandomize = os.environ.get("FUZZ_FACTOR", "1") == "1"
fuzzed = settings(max_examples=examples(100), deadline=None, derandomize=derandomize, database=None)

SIDE = 48
LIMIT = 0.25  # megapixels: what claims more costs no time
HEADER = 400  # bytes that hold most of a file's structure
WORDS = [0, 1, 2, 3, 5, 16, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1]
PIXELS = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
COLOR, GREY = Image.fromarray(PIXELS[..., :3]), Image.fromarray(PIXELS[..., 0])


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif() -> Image.Exif:
    """What phones write: an orientation and a focal length."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(0x8769)[0xA405] = 26
    return exif


SEEDS = {  # small files of every format that is read, in the ways in which these hold pixels
    "jpeg": encoded(COLOR, "JPEG", exif=exif()),
    "progressive jpeg": encoded(COLOR, "JPEG", progressive=True),
    "cmyk jpeg": encoded(COLOR.convert("CMYK"), "JPEG"),
    "mpo": encoded(COLOR, "MPO", save_all=True, append_images=[GREY.convert("RGB")]),
    "png": encoded(COLOR, "PNG", exif=exif()),
    "alpha png": encoded(Image.fromarray(PIXELS), "PNG"),
    "palette png": encoded(GREY.convert("P"), "PNG", transparency=bytes(range(256))),
    "bit png": encoded(GREY.convert("1"), "PNG"),
    "16-bit png": encoded(Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 16), "PNG"),
    "16-bit colour png": deep_png(PIXELS.astype(np.uint16) * 16),
    "animated png": encoded(COLOR, "PNG", save_all=True, append_images=[COLOR.rotate(90)]),
    "webp": encoded(COLOR, "WEBP", exif=exif()),
    "lossless webp": encoded(Image.fromarray(PIXELS), "WEBP", lossless=True),
    "animated webp": encoded(COLOR, "WEBP", save_all=True, append_images=[COLOR.rotate(90)]),
    "bmp": encoded(COLOR, "BMP"),
    "palette bmp": encoded(GREY.convert("P"), "BMP"),
    "tiff": encoded(COLOR, "TIFF", exif=exif()),
    "lzw tiff": encoded(COLOR, "TIFF", compression="tiff_lzw"),
    "jpeg tiff": encoded(COLOR, "TIFF", compression="jpeg"),
    "float tiff": encoded(GREY.convert("F"), "TIFF"),
    "32-bit tiff": unsigned_tiff(PIXELS[..., 0].astype(np.uint32) * 1000),
    "16-bit colour tiff": deep_tiff(PIXELS.astype(np.uint16) * 16, compressed=True),
    "tiled tiff": tiled_tiff(SIDE, 64),
    "several tiffs": encoded(COLOR, "TIFF", save_all=True, append_images=[GREY]),
    "ppm": encoded(COLOR, "PPM"),
    "pgm": encoded(GREY.convert("I"), "PPM"),
    "plain ppm": b"P3\n48 48\n1023\n" + b" ".join(b"%d" % (4 * value) for value in PIXELS[..., :3].flatten().tolist()),
    "pfm": encoded(GREY.convert("F"), "PPM"),
}
if importlib.util.find_spec("pillow_heif") is not None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    SEEDS["heic"] = encoded(COLOR, "HEIF", quality=50)

places = st.one_of(st.integers(0, HEADER), st.integers(0, 2**20))  # modulo the length of the file
Change = Callable[[bytearray], None]


def set_byte(place: int, value: int) -> Change:
    def change(content: bytearray) -> None:
        start = place % max(len(content), 1)
        content[start : start + 1] = bytes([value])

    return change


def set_word(place: int, value: int, width: int, order: Any) -> Change:
    def change(content: bytearray) -> None:
        start = place % max(len(content), 1)
        content[start : start + width] = (value % 256**width).to_bytes(width, order)

    return change


def cut(place: int) -> Change:
    def change(content: bytearray) -> None:
        del content[place % max(len(content), 1) :]

    return change


def repeat(place: int, length: int, times: int) -> Change:
    def change(content: bytearray) -> None:
        start = place % max(len(content), 1)
        content[start : start + length] = content[start : start + length] * times

    return change


changes = st.one_of(
    st.builds(set_byte, places, st.integers(0, 255)),
    st.builds(set_word, places, st.sampled_from(WORDS), st.sampled_from([2, 4]), st.sampled_from(["little", "big"])),
    st.builds(cut, places),
    st.builds(repeat, places, st.integers(1, 64), st.integers(0, 3)),  # 0 = taken out
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def answer(read: Callable[[], Any]) -> Any:
    """What a reader returns; None = it refused the file in one line."""
    try:
        return read()
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        return None


def check_photo(path: Path) -> None:
    photos = answer(lambda: load_photos(path, SIDE, max_megapixels=LIMIT))
    if photos is None:
        return
    assert photos.images.shape == (1, 3, SIDE, SIDE) and photos.images.isfinite().all()
    assert photos.images.min() >= 0 and photos.images.max() <= 1
    photo, (height, width) = photos.photos[0], photos.photos[0].size_hw
    assert min(height, width) >= 32 and height * width <= LIMIT * 1e6 and 1 <= photo.exif_orientation <= 8
    assert all(message.isprintable() for message in photos.messages())
    focal = exif_focal_px(photo)
    assert focal is None or 0 < focal < np.inf
    stored, undone, _ = decode_photo(path, upright=False, max_megapixels=LIMIT)
    turned = photo.exif_orientation > 4
    assert stored.mode == "RGB" and stored.size == ((height, width) if turned else (width, height)) and undone == 1


@pytest.mark.parametrize("name", SEEDS)
def test_files_that_are_whole_are_read(name: str, folder: Path) -> None:
    path = folder / ("whole.heic" if name == "heic" else "whole.png")
    path.write_bytes(SEEDS[name])
    assert load_photos(path, SIDE, max_megapixels=LIMIT).photos[0].size_hw == (SIDE, SIDE)
    check_photo(path)


@fuzzed
@given(name=st.sampled_from(list(SEEDS)), damage=st.lists(changes, min_size=1, max_size=4))
def test_damaged_photos_are_read_or_refused(name: str, damage: list[Change], folder: Path) -> None:
    content = bytearray(SEEDS[name])
    for change in damage:
        change(content)
    path = folder / ("damaged.heic" if name == "heic" else "damaged.png")
    path.write_bytes(content)
    check_photo(path)


@fuzzed
@given(name=st.sampled_from([name for name in SEEDS if "webp" not in name]), damage=st.lists(changes, max_size=3))
def test_damaged_masks_and_frames_are_read_or_refused(name: str, damage: list[Change], folder: Path) -> None:
    content = bytearray(SEEDS[name])
    for change in damage:
        change(content)
    path = folder / "damaged_mask.png"
    path.write_bytes(content)
    mask = answer(lambda: read_mask(path, max_megapixels=LIMIT))
    assert mask is None or (mask.dtype == np.int64 and mask.ndim == 2 and 0 < mask.size <= LIMIT * 1e6)
    frame = answer(lambda: read_pixels(path))
    assert frame is None or (frame.dtype, frame.ndim) in ((np.uint8, 2), (np.uint8, 3), (np.uint16, 2))
