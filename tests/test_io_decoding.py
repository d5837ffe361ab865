"""The only opener of pictures: advertised formats, bounded size, one line for whatever is wrong."""

from __future__ import annotations

import ast
import logging
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pictures import EXIF_IFD, LONG, SHORT, exif_with, png, tiled_tiff, written
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.decoding import MAX_MEGAPIXELS, PHOTO_FORMATS, TooManyPixels, opened_photo, opened_picture
from tokengroups.io.focal import exif_focal_px
from tokengroups.io.images import decode_photo, load_photos
from tokengroups.io.pixels import read_mask, read_pixels

ROOT = Path(__file__).parents[1]
READERS = {"photo": lambda path: load_photos([path], 64), "mask": read_mask, "frame": read_pixels}
EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(%pipe%touch gone) (w) file\nshowpage\n%%EOF\n"
)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def opening_calls(path: Path) -> list[ast.Call]:
    """All calls of something named `open` that belongs to Pillow's module."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    return [
        call for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "open" and ast.unparse(call.func.value) == "Image"
    ]  # fmt: skip


def test_every_picture_is_opened_with_its_formats() -> None:
    found = {}
    for path in [*ROOT.glob("tokengroups/**/*.py"), *ROOT.glob("benchmarks/**/*.py"), *ROOT.glob("*.py")]:
        assert "from PIL.Image import" not in path.read_text(), path
        found |= {path.name: calls} if (calls := opening_calls(path)) else {}
    assert list(found) == ["decoding.py"]
    assert all("formats" in [keyword.arg for keyword in call.keywords] for call in found["decoding.py"])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.eps", "a"])
def test_postscript_never_reaches_its_decoder(
    reader: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_args: object, **_options: object) -> None:
        pytest.fail("a picture started a program")

    for starter in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, starter, forbidden)
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(UserError, match="that can be read .its content is none of"):
        READERS[reader](tmp_path / name)


def test_focal_length_of_postscript_is_unknown(tmp_path: Path) -> None:
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "a.png")
    photo = load_photos(tmp_path / "a.png", 64).photos[0]
    (tmp_path / "a.png").write_bytes(EPS)
    assert exif_focal_px(photo) is None


@pytest.mark.parametrize("kind", ["GIF", "ICO", "TGA", "PCX", "JPEG2000", "SGI"])
def test_formats_that_are_not_advertised_are_refused_whatever_their_name(kind: str, tmp_path: Path) -> None:
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "a.png", format=kind)
    with pytest.raises(UserError, match="none of JPEG, PNG, WEBP, BMP, TIFF, PPM"):
        load_photos(tmp_path / "a.png", 64)


@pytest.mark.parametrize("kind", PHOTO_FORMATS)
def test_advertised_formats_are_read_whatever_their_name(kind: str, tmp_path: Path) -> None:
    pixels = np.kron(noise(8, 8, 3), np.ones((8, 8, 1), np.uint8))
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(tmp_path / "a.jpg", format=kind, **options)
    read = load_photos(tmp_path / "a.jpg", 64).images[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(read - pixels).max() <= (3 if kind == "JPEG" else 1e-3)


def test_masks_are_never_jpegs(tmp_path: Path) -> None:
    """JPEG mixes the values of neighbours."""
    Image.fromarray(noise(16, 16)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(UserError, match="none of PNG, TIFF, BMP.*save masks as"):
        read_mask(tmp_path / "a.png")


def test_a_limit_of_pixels_holds_before_they_are_decoded(tmp_path: Path) -> None:
    Image.fromarray(noise(100, 100)).save(tmp_path / "fits.png")
    Image.fromarray(noise(100, 102)).save(tmp_path / "over.png")
    damaged = (tmp_path / "over.png").read_bytes()[:200]
    (tmp_path / "over.png").write_bytes(damaged)  # the limit speaks first: nothing was decoded
    assert decode_photo(tmp_path / "fits.png", max_megapixels=0.01)[0].size == (100, 100)
    with pytest.raises(TooManyPixels, match="over.png: more than 0.01 megapixels; .*raise --max-megapixels"):
        decode_photo(tmp_path / "over.png", max_megapixels=0.01)
    with pytest.raises(UserError, match="over.png: damaged or truncated"):
        decode_photo(tmp_path / "over.png", max_megapixels=0.0102)


def test_the_limit_is_ours_not_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(noise(100, 100, 3)).save(tmp_path / "a.tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode_photo(tmp_path / "a.tif")[0].size == (100, 100)
    assert Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(UserError):
        decode_photo(tmp_path / "a.tif", max_megapixels=0.001)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_default_limit_refuses_a_bomb_at_once(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 13000, 13000, 16, 0, 0, 0, 0)
    data = zlib.compress(bytes(2**20))
    (tmp_path / "a.png").write_bytes(png([(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]))
    assert MAX_MEGAPIXELS < 169
    with pytest.raises(TooManyPixels, match="more than 120 megapixels"):
        load_photos([tmp_path / "a.png"], 64)


def test_tiles_larger_than_the_picture_count(tmp_path: Path) -> None:
    """A TIFF of 64 pixels a side may have a tile of gigabytes, which is decoded as a whole."""
    path = written(tmp_path / "a.tif", tiled_tiff(64, 320))
    assert decode_photo(path, max_megapixels=320 * 320 / 1e6)[0].size == (64, 64)
    with pytest.raises(TooManyPixels):
        decode_photo(path, max_megapixels=0.1)


def _text_bomb(path: Path) -> None:
    header = struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 0)
    text = b"Comment\0\0" + zlib.compress(bytes(2**26))
    path.write_bytes(
        png([(b"IHDR", header), (b"zTXt", text), (b"IDAT", zlib.compress(bytes(65 * 64))), (b"IEND", b"")])
    )


def _no_pixels(path: Path) -> None:
    header = struct.pack(">IIBBBBB", 0, 64, 8, 0, 0, 0, 0)
    path.write_bytes(png([(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]))


def _wrong_sum(path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(path)
    content = bytearray(path.read_bytes())
    content[30] ^= 1  # of the header
    path.write_bytes(content)


def _cut(path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:-500])


@pytest.mark.parametrize("make", [_text_bomb, _no_pixels, _wrong_sum, _cut, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_are_one_line(make: Callable[[Path], None], reader: str, tmp_path: Path) -> None:
    make(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: ") as caught:
        READERS[reader](tmp_path / "a.png")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_only_regular_files_are_opened(reader: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("pipe.png", "a\0b.png", "x" * 5000 + ".png"):
        with pytest.raises(UserError, match="cannot read .*(pipe or socket|no file can have this name)"):
            READERS[reader](tmp_path / name)


@pytest.mark.parametrize(
    "error",
    [OverflowError("much"), struct.error("short"), RecursionError(), MemoryError(), zlib.error("bad"), KeyError(3),
     AttributeError("x"), ZeroDivisionError(), RuntimeError("two\nlines"), AssertionError(), EOFError(), IndexError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_decoder_raises_is_one_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import PngImagePlugin

    def fail(_image: object) -> None:
        raise error

    Image.fromarray(noise(64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    words = "needs more memory" if isinstance(error, MemoryError) else "damaged or truncated"
    for read in READERS.values():
        with pytest.raises(UserError, match=f"a.png: .*{words}") as caught:
            read(tmp_path / "a.png")
        assert "\n" not in str(caught.value) and caught.value.__cause__ is error


def test_errors_of_the_operating_system_keep_their_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(UserError, match="cannot read .*a.png: Permission denied"), opened_photo(tmp_path / "a.png"):
        pass


@pytest.mark.parametrize("damage", ["data", "tags"])
def test_libraries_print_nothing_of_their_own(damage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(noise(64, 64, 3)).save(tmp_path / "a.tif", compression="tiff_lzw")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    if damage == "data":
        content[len(content) // 2 :] = bytes(20)
    else:  # an absurd number of channels
        place = content.index(struct.pack("<HHI", 277, SHORT, 1))
        content[place + 8 : place + 10] = b"\xff\xff"
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match="a.tif: (damaged|not a photo)"):
        load_photos(tmp_path / "a.tif", 64)
    os.write(2, b"stderr works again\n")
    assert capfd.readouterr().err == "stderr works again\n"
    assert logging.getLogger("PIL").handlers


def test_errors_for_the_user_pass_through(tmp_path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="^mine$"), opened_picture(tmp_path / "a.png", ("PNG",), "advice"):
        raise UserError("mine")


def test_unreadable_exif_data_spoil_nothing(tmp_path: Path) -> None:
    pixels = noise(64, 64, 3)
    for number, exif in enumerate(
        [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0XX", exif_with(EXIF_IFD, LONG, 1, b"\xff" * 4)]
    ):
        Image.fromarray(pixels).save(tmp_path / f"{number}.webp", lossless=True, exif=exif)
        photos = load_photos(tmp_path / f"{number}.webp", 64)
        assert np.array_equal((photos.images[0].permute(1, 2, 0) * 255).round().numpy(), pixels)
        assert photos.photos[0].notes == () and exif_focal_px(photos.photos[0]) is None


def peak_gigabytes(path: Path) -> float:
    """Most memory of a process that reads a photo; getrusage would count its parent's."""
    code = (
        "import sys; from tokengroups.io.images import load_photos; load_photos(sys.argv[1], 128);"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-c", code, str(path)]
    return int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout) / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_largest_deep_photo_takes_less_than_3_gb(tmp_path: Path) -> None:
    side = int((MAX_MEGAPIXELS * 1e6) ** 0.5)
    header, row = struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0), b"\0" + bytes(range(256)) * (side // 128 + 1)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row[: 1 + 2 * side]) for _ in range(side)) + packer.flush()
    (tmp_path / "a.png").write_bytes(png([(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]))
    assert peak_gigabytes(tmp_path / "a.png") < 1.5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(("name", "mode"), [("a.webp", "RGBA"), ("a.png", "RGBA"), ("a.tif", "CMYK"), ("a.tif", "F")])
def test_the_largest_photo_of_any_mode_takes_less_than_3_gb(name: str, mode: str, tmp_path: Path) -> None:
    side = int((MAX_MEGAPIXELS * 1e6) ** 0.5)
    bands = [
        Image.fromarray(np.tile(np.arange(side) // (index + 1) % 256, (side, 1)).astype(np.uint8)) for index in range(4)
    ]
    image = bands[0].convert("F") if mode == "F" else Image.merge(mode, bands)
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True, "quality": 0, "method": 0} if name == "a.webp" else {}
    image.save(tmp_path / name, exif=exif, compression="tiff_deflate", **options)
    assert peak_gigabytes(tmp_path / name) < 3
