"""Photos as users have them: EXIF rotation, alpha, sizes, and everything that is not a photo."""

from __future__ import annotations

import math
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import (
    ASCII,
    BYTE,
    DOUBLE,
    EXIF_IFD,
    FLOAT,
    FOCAL_35MM,
    LONG,
    ORIENTATION,
    RATIONAL,
    SHORT,
    SSHORT,
    UNDEFINED,
    exif_with,
)
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io import decoding as module
from tokengroups.io.focal import exif_focal_px, photo_intrinsics
from tokengroups.io.images import Photos, decode_photo, load_photos


def gradient(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    return Image.fromarray((np.stack([x, y, np.zeros_like(x)], -1) * 255).round().astype(np.uint8))


def save(image: Image.Image, path: Path, orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif, quality=95)
    return path


def test_photo_of_the_right_size_is_bit_exact(tmp_path: Path) -> None:
    image = gradient(64, 64)
    image.save(tmp_path / "a.png")
    photos = load_photos([tmp_path / "a.png", tmp_path / "a.png"], 64)
    expected = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    assert torch.equal(photos.images, expected.expand(2, 3, 64, 64))
    assert photos.messages() == []


# What a camera stores so that the orientation tag makes it upright again.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    upright = gradient(96, 64)
    path = save(upright.transpose(STORED[orientation]), tmp_path / "a.jpg", orientation)
    turned = load_photos([path], 64)
    reference = load_photos([save(upright, tmp_path / "b.jpg")], 64)
    assert (turned.images - reference.images).abs().max() < 0.04  # two JPEG compressions
    photo = turned.photos[0]
    assert photo.exif_orientation == orientation and photo.size_hw == (64, 96)
    assert f"EXIF orientation {orientation}" in photo.notes[0]


@pytest.mark.parametrize("orientation", [1, *STORED])
@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_orientation_is_undone_only_when_asked(tmp_path: Path, orientation: int, name: str) -> None:
    """Pillow turns TIFFs on its own as it loads them."""
    upright = gradient(96, 64)
    stored = upright.transpose(STORED[orientation]) if orientation > 1 else upright
    path = save(stored, tmp_path / name, orientation)
    image, undone, notes = decode_photo(path)
    assert np.array_equal(image, upright) and undone == orientation and len(notes) == (orientation > 1)
    image, undone, notes = decode_photo(path, upright=False)
    assert np.array_equal(image, stored) and undone == 1 and notes == []


# Type, count and value of orientation tags that are no number from 1 to 8.
ODD_ORIENTATIONS = {
    "text": (ASCII, 2, b"6\0"),
    "word": (ASCII, 8, b"Rotated\0"),
    "bytes": (UNDEFINED, 2, b"\0\6"),
    "byte": (BYTE, 1, b"\6"),
    "no ratio": (RATIONAL, 1, struct.pack("<II", 0, 0)),
    "infinite ratio": (RATIONAL, 1, struct.pack("<II", 6, 0)),
    "fraction": (RATIONAL, 1, struct.pack("<II", 13, 2)),
    "infinity": (FLOAT, 1, struct.pack("<f", math.inf)),
    "no number": (DOUBLE, 1, struct.pack("<d", math.nan)),
    "nine": (SHORT, 1, struct.pack("<H", 9)),
    "largest": (LONG, 1, struct.pack("<I", 2**32 - 1)),
    "negative": (SSHORT, 1, struct.pack("<h", -6)),
}


@pytest.mark.parametrize("case", ODD_ORIENTATIONS)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_odd_orientations_are_ignored_with_a_note(case: str, name: str, tmp_path: Path) -> None:
    gradient(96, 64).save(tmp_path / f"plain{name[1:]}", quality=95)
    gradient(96, 64).save(tmp_path / name, quality=95, exif=exif_with(ORIENTATION, *ODD_ORIENTATIONS[case]))
    image, undone, notes = decode_photo(tmp_path / name)
    assert np.array_equal(image, decode_photo(tmp_path / f"plain{name[1:]}")[0]) and undone == 1
    assert len(notes) == 1 and notes[0].startswith("EXIF orientation ") and "ignored" in notes[0]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (LONG, struct.pack("<I", 6)),
        (RATIONAL, struct.pack("<II", 12, 2)),
        (FLOAT, struct.pack("<f", 6)),
        (DOUBLE, struct.pack("<d", 6)),
    ],
)
def test_orientations_of_any_numeric_type_are_undone(kind: int, value: bytes, tmp_path: Path) -> None:
    stored = gradient(96, 64).transpose(STORED[6])
    stored.save(tmp_path / "a.png", exif=exif_with(ORIENTATION, kind, 1, value))
    image, undone, notes = decode_photo(tmp_path / "a.png")
    assert np.array_equal(image, gradient(96, 64)) and undone == 6
    assert notes == ["turned upright (EXIF orientation 6)"]


@pytest.mark.parametrize(
    ("kind", "count", "value", "focal_mm"),
    [
        (SHORT, 1, struct.pack("<H", 26), 26),
        (RATIONAL, 1, struct.pack("<II", 55, 2), 27.5),
        (FLOAT, 1, struct.pack("<f", 26), 26),
        (SHORT, 1, struct.pack("<H", 0), None),
        (RATIONAL, 1, struct.pack("<II", 0, 0), None),
        (RATIONAL, 1, struct.pack("<II", 26, 0), None),
        (FLOAT, 1, struct.pack("<f", math.inf), None),
        (DOUBLE, 1, struct.pack("<d", math.nan), None),
        (SSHORT, 1, struct.pack("<h", -26), None),
        (ASCII, 6, b"26 mm\0", None),
        (UNDEFINED, 2, b"\0\x1a", None),
        (SHORT, 2, struct.pack("<HH", 26, 26), None),
    ],
)
def test_focal_length_of_any_type(kind: int, count: int, value: bytes, focal_mm: float | None, tmp_path: Path) -> None:
    gradient(90, 60).save(tmp_path / "a.jpg", exif=exif_with(FOCAL_35MM, kind, count, value, EXIF_IFD))
    photos = load_photos(tmp_path / "a.jpg", 64)
    focal = exif_focal_px(photos.photos[0])
    assert focal == (None if focal_mm is None else pytest.approx(focal_mm * math.hypot(90, 60) / math.hypot(36, 24)))
    if focal is None:
        with pytest.raises(UserError, match="no 35 mm equivalent"):
            photo_intrinsics(photos)


def test_focal_lengths_from_python_are_checked(tmp_path: Path) -> None:
    gradient(64, 64).save(tmp_path / "a.png")
    photos = load_photos(tmp_path / "a.png", 64)
    for focal in (np.float32(80), torch.tensor(80), 80):
        assert photo_intrinsics(photos, focal)[0, 0, 0] == 80
    with pytest.raises(ValueError, match="focal_px must be a number of pixels or None, got 'exif'"):
        photo_intrinsics(photos, "exif")
    with pytest.raises(ValueError, match="takes the result of load_photos, got Tensor"):
        photo_intrinsics(photos.images, 80)
    for focal in (math.nan, math.inf, 0, -80):
        with pytest.raises(UserError, match="not plausible"):
            photo_intrinsics(photos, focal)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_the_first_of_several_pictures_is_used(name: str, tmp_path: Path) -> None:
    others = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    gradient(64, 64).save(tmp_path / name, save_all=True, append_images=others, lossless=True)
    photos = load_photos(tmp_path / name, 64)
    assert np.array_equal((photos.images[0].permute(1, 2, 0) * 255).round().numpy(), gradient(64, 64))
    assert photos.photos[0].notes == ("several pictures in one file, of which only the main one is used",)


def test_the_pictures_beside_a_phones_photo_are_not_worth_a_note(tmp_path: Path) -> None:
    gradient(64, 64).save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64))])
    photos = load_photos(tmp_path / "a.jpg", 64)
    assert photos.photos[0].notes == () and photos.images[0, 0, 0, -1] > 0.9


def test_too_large_photos_are_left_out_if_others_remain(tmp_path: Path) -> None:
    gradient(64, 64).save(tmp_path / "a.png")
    gradient(200, 200).save(tmp_path / "b.png")
    gradient(64, 64).save(tmp_path / "c.png")
    photos = load_photos(tmp_path, 64, max_megapixels=0.01)
    assert [photo.path.name for photo in photos.photos] == ["a.png", "c.png"]
    cure = "more than 0.01 megapixels; reduce it, or raise --max-megapixels"
    assert photos.notes == (f"left out {tmp_path / 'b.png'}: {cure}",)
    assert len(load_photos(tmp_path, 64, max_megapixels=0.04).images) == 3
    one = load_photos([tmp_path / "a.png", tmp_path / "b.png"], 64, max_megapixels=0.01)
    assert "left out" in one.notes[0] and "only one photo" in one.notes[1]
    with pytest.raises(UserError, match=f"b.png: {cure}"):
        load_photos([tmp_path / "b.png"], 64, max_megapixels=0.01)


def test_a_single_path_is_a_source(tmp_path: Path) -> None:
    gradient(64, 64).save(tmp_path / "a.png")
    assert len(load_photos(tmp_path, 64).images) == len(load_photos(str(tmp_path / "a.png"), 64).images) == 1


def test_what_is_true_of_many_photos_is_one_line(tmp_path: Path) -> None:
    for name in range(6):
        gradient(128 if name != 4 else 96, 64).save(tmp_path / f"{name}.png")
    said = "reduced from 128x64 to 64x32"
    assert load_photos(tmp_path, 64).messages()[:2] == [
        f"0.png, 1.png and 3 more: {said}",
        "4.png: reduced from 96x64 to 64x43",
    ]
    few = load_photos([tmp_path / f"{name}.png" for name in range(3)], 64)
    assert few.messages() == [f"{name}.png: {said}" for name in range(3)]


def test_names_are_shown_on_one_line(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\n\x1b[31m\xff.jpg")
    save(gradient(64, 64).transpose(STORED[6]), tmp_path / name, 6)
    message = load_photos(tmp_path, 64).messages()[0]
    assert message == "a \\x1b[31m\\udcff.jpg: turned upright (EXIF orientation 6)"
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="not a photo") as caught:
        load_photos(tmp_path, 64)
    assert str(caught.value).isprintable()


def check_places(photos: Photos) -> None:
    """Check that the colour of every pixel names its place in the original, to which the recorded map points."""
    height, width = photos.images.shape[-2:]
    masks = [None] * len(photos.photos) if photos.mask is None else photos.mask
    for image, photo, mask in zip(photos.images, photos.photos, masks, strict=True):
        large_height, large_width = photo.size_hw
        for column, row in [(width // 9, height // 5), (width // 2, height // 2), (width * 3 // 4, height * 2 // 3)]:
            if mask is None or mask[row, column]:
                x, y, one = photo.photo_from_model @ np.array([column + 0.5, row + 0.5, 1.0])
                red, green = image[:2, row, column].tolist()
                assert one == 1
                assert abs(red * large_width - x) < 0.02 * large_width, (photo, row, column)
                assert abs(green * large_height - y) < 0.02 * large_height, (photo, row, column)


def test_crop_and_resize_are_recorded_and_map_back(tmp_path: Path) -> None:
    gradient(400, 300).save(tmp_path / "a.png")
    photos = load_photos([tmp_path / "a.png"], 100, square=True)
    photo = photos.photos[0]
    assert photo.crop_box == (50, 0, 350, 300) and photos.images.shape == (1, 3, 100, 100) and photos.mask is None
    assert "cropped from 400x300 to the central 300x300" in photo.notes[0] and "100x100" in photo.notes[1]
    check_places(photos)


@pytest.mark.parametrize(
    ("photo_wh", "size", "patch", "expected_hw", "rows_shown"),
    [
        ((640, 480), 128, 16, (96, 128), 96),  # 4:3 fits
        ((480, 640), 128, 16, (128, 96), 128),
        ((1024, 768), 518, 14, (392, 518), 392),  # 388.5 pixels: stretched by 0.9 %, as by VGGT
        ((1920, 1080), 518, 14, (294, 518), 294),
        ((1920, 1080), 128, 16, (80, 128), 72),  # whole patches would stretch it by 11 %
        ((600, 400), 128, 16, (96, 128), 86),
        ((2000, 100), 128, 16, (16, 128), 6),
        ((300, 300), 128, 16, (128, 128), 128),
        ((500, 333), 128, 1, (85, 128), 85),
    ],
)
def test_photos_stay_whole(
    tmp_path: Path, photo_wh: tuple[int, int], size: int, patch: int, expected_hw: tuple[int, int], rows_shown: int
) -> None:
    gradient(*photo_wh).save(tmp_path / "a.png")
    photos = load_photos(tmp_path, size, patch_size=patch)
    assert photos.images.shape[-2:] == expected_hw
    mask = torch.ones(1, *expected_hw, dtype=torch.bool) if photos.mask is None else photos.mask
    assert int(mask[0].any(dim=1).sum()) == rows_shown and bool(mask[0].any(dim=0).all())
    assert (photos.mask is None) == (rows_shown == expected_hw[0])
    check_places(photos)


def test_photos_of_other_shapes_are_padded_around_their_middle(tmp_path: Path) -> None:
    gradient(640, 480).save(tmp_path / "a.png")
    gradient(480, 640).save(tmp_path / "b.png")
    gradient(1920, 1080).save(tmp_path / "c.png")
    photos = load_photos(tmp_path, 128, patch_size=16)
    assert photos.images.shape == (3, 3, 128, 128) and photos.mask is not None
    assert photos.mask.flatten(1).sum(dim=1).tolist() == [96 * 128, 96 * 128, 72 * 128]
    assert torch.equal(photos.mask, photos.mask.flip(-1)) and torch.equal(photos.mask, photos.mask.flip(-2))
    assert bool((photos.images.movedim(1, -1)[~photos.mask] == 1).all())
    assert any("shapes" in message for message in photos.messages())
    check_places(photos)
    for photo in photos.photos:  # the middle of the photo stays in the middle: networks assume it
        x, y, _ = photo.photo_from_model @ np.array([64.0, 64.0, 1.0])
        assert (y, x) == pytest.approx((photo.size_hw[0] / 2, photo.size_hw[1] / 2))


def test_photos_with_more_pixels_show_the_same(tmp_path: Path) -> None:
    """A multiple of the pixels, up to the largest photo's own; the mean of their cells is the small photo."""
    gradient(400, 300).save(tmp_path / "a.png")
    gradient(150, 200).save(tmp_path / "b.png")
    photos = load_photos(tmp_path, 64, patch_size=16)
    assert photos.images.shape == (2, 3, 64, 64) and photos.full_images is not None
    assert photos.full_images.shape == (2, 3, 384, 384)
    assert photos.mask is not None
    small = torch.nn.functional.avg_pool2d(photos.full_images, 6)
    inside = torch.nn.functional.max_pool2d((~photos.mask).float()[:, None], 3, 1, 1)[:, 0] == 0
    assert float((small - photos.images).abs().amax(dim=1)[inside].max()) < 0.02
    assert load_photos(tmp_path, 64, patch_size=16, full_size=64).full_images is None
    assert load_photos(tmp_path / "b.png", 128).full_images is None  # it has no more
    chosen = photos.select([1])
    assert chosen.full_images is not None and torch.equal(chosen.full_images[0], photos.full_images[1])


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:, 32:] = (255, 0, 0, 255)
    pixels[:32, :32, 3] = 51  # black at one fifth
    Image.fromarray(pixels).save(tmp_path / "a.png")
    photos = load_photos([tmp_path / "a.png"], 64)
    assert photos.images[0, :, 50, 10].tolist() == [1, 1, 1]
    assert photos.images[0, :, 10, 50].tolist() == [1, 0, 0]
    torch.testing.assert_close(photos.images[0, :, 10, 10], torch.full((3,), 0.8))
    assert photos.photos[0].notes == ("transparency composited on white",)


def test_opaque_alpha_is_not_worth_a_note(tmp_path: Path) -> None:
    gradient(64, 64).convert("RGBA").save(tmp_path / "a.png")
    assert load_photos([tmp_path / "a.png"], 64).photos[0].notes == ()


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    values = np.full((64, 64), 200, np.uint8)
    image = Image.fromarray(values.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(values).convert(mode)
    image.save(tmp_path / "a.tif")
    photos = load_photos([tmp_path / "a.tif"], 64)
    assert photos.images.shape == (1, 3, 64, 64)
    if mode not in ("1", "P"):
        assert (photos.images * 255 - 200).abs().max() < 2


def test_heic_is_read(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    gradient(128, 128).save(tmp_path / "a.heic", quality=95)
    photos = load_photos([tmp_path / "a.heic"], 128)
    assert (photos.images[0, 0, 64] - torch.linspace(0, 1, 128)).abs().max() < 0.05


def test_heic_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"x")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UserError, match="pip install pillow-heif"):
        load_photos([tmp_path / "a.heic"], 64)


def test_folder_is_read_in_natural_order(tmp_path: Path) -> None:
    for name in ("IMG_10.jpg", "IMG_9.JPG", "IMG_1.png"):
        gradient(64, 64).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a photo")
    (tmp_path / ".hidden.jpg").write_text("not a photo")
    names = [photo.path.name for photo in load_photos([tmp_path], 64).photos]
    assert names == ["IMG_1.png", "IMG_9.JPG", "IMG_10.jpg"]


def test_one_photo_works_with_a_note(tmp_path: Path) -> None:
    gradient(64, 64).save(tmp_path / "a.png")
    assert "only one photo" in load_photos([tmp_path / "a.png"], 64).notes[0]


def test_many_photos_are_thinned_out_evenly(tmp_path: Path) -> None:
    for index in range(40):
        gradient(64, 64).save(tmp_path / f"{index:02d}.png")
    photos = load_photos([tmp_path], 64, max_views=4)
    assert [photo.path.stem for photo in photos.photos] == ["00", "13", "26", "39"]
    assert photos.notes == ("used 4 of 40 photos, evenly spaced; --max-views allows more",)
    assert len(load_photos([tmp_path], 64).images) == 40


def test_large_photos_are_held_one_at_a_time(tmp_path: Path) -> None:
    for index in range(6):
        gradient(1000, 1000).save(tmp_path / f"{index}.png")
    tracemalloc.start()
    load_photos([tmp_path], 64, full_size=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 3_000_000  # one decoded photo has 3 MB


def bad_photos(folder: Path) -> dict[str, tuple[list[Path], str]]:
    """Inputs that must be refused, and words of the line that says why."""
    gradient(64, 64).save(folder / "good.jpg")
    whole = (folder / "good.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    gradient(64, 64).save(folder / "good.png")
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:60])
    (folder / "text.jpg").write_text("I am no photo")
    (folder / "empty.jpg").write_bytes(b"")
    gradient(1, 1).save(folder / "tiny.png")
    (folder / "clip.mp4").write_bytes(b"x")
    (folder / "none").mkdir()
    (folder / "videos").mkdir()
    (folder / "videos" / "clip.mov").write_bytes(b"x")
    return {
        "nothing": ([], "no photo given"),
        "missing": ([folder / "missing.jpg"], "no such file"),
        "truncated jpeg": ([folder / "cut.jpg"], "cut.jpg: damaged or truncated"),
        "truncated png": ([folder / "cut.png"], "cut.png: damaged or truncated"),
        "text": ([folder / "good.jpg", folder / "text.jpg"], "text.jpg: not a photo"),
        "empty": ([folder / "empty.jpg"], "empty.jpg: not a photo"),
        "one pixel": ([folder / "tiny.png"], "1x1 pixels is too small; the shorter side needs 32"),
        "video": ([folder / "clip.mp4"], "videos are not read"),
        "folder without photos": ([folder / "none"], "no photo in the folder"),
        "folder of videos": ([folder / "videos"], "take frames from clip.mov"),
    }


@pytest.mark.parametrize("case", [
    "nothing", "missing", "truncated jpeg", "truncated png", "text", "empty", "one pixel", "video",
    "folder without photos", "folder of videos",
])  # fmt: skip
def test_bad_photo_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    sources, words = bad_photos(tmp_path)[case]
    with pytest.raises(UserError, match=words) as caught:
        load_photos(sources, 64)
    assert "\n" not in str(caught.value)


def test_size_must_fit_the_patches(tmp_path: Path) -> None:
    gradient(64, 64).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="--size 130: must be a multiple of 8, such as 128 or 136"):
        load_photos([tmp_path / "a.png"], 130, patch_size=8)
    with pytest.raises(UserError, match="such as 8 or 16"):
        load_photos([tmp_path / "a.png"], 0, patch_size=8)
    with pytest.raises(UserError, match="--max-views 0"):
        load_photos([tmp_path / "a.png"], 64, max_views=0)
    for size in (10**12, 10**12 + 1):
        with pytest.raises(UserError, match=f"--size {size}"):
            load_photos([tmp_path / "a.png"], size, patch_size=5)
    assert load_photos([tmp_path / "a.png"], np.int64(64)).images.shape == (1, 3, 64, 64)
