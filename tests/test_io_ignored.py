"""Masks of ignored pixels at the model's size, and every wrong one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.ignored import ignore_pixels
from tokengroups.io.images import Photos, find_photos, load_photos
from tokengroups.io.photo_maps import on_photo

ORIENTATION = 0x0112


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A wide photo, a tall one, and one that EXIF turns; masks of the first two, whose left thirds are ignored."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for name, size in (("a.jpg", (90, 60)), ("b.jpg", (60, 90)), ("c.jpg", (90, 60))):
        options = {"exif": exif} if name == "c.jpg" else {}
        Image.new("RGB", size, "teal").save(tmp_path / "photos" / name, **options)
    left_third("L", (90, 60)).save(tmp_path / "masks" / "a.png")
    left_third("L", (60, 90)).save(tmp_path / "masks" / "b.jpg.png")
    return tmp_path


def left_third(mode: str, size: tuple[int, int]) -> Image.Image:
    image = Image.new(mode, size, 255 if mode == "L" else 1)
    image.paste(0, (0, 0, size[0] // 3, size[1]))
    return image


def ignored(folder: Path, size: int = 48, **options: object) -> Photos:
    photos = load_photos(folder / "photos", size, **options)
    return ignore_pixels(photos, folder / "masks", find_photos(folder / "photos"))


def test_pixels_count_where_the_mask_does_at_their_centre(folder: Path) -> None:
    photos = ignored(folder)
    assert photos.mask is not None and photos.images.shape[-2:] == (48, 48)
    wide, tall, turned = photos.mask
    assert wide[8:40, 16:].all() and not wide[:, :16].any() and not wide[:8].any()  # 48x32, padded above and below
    assert tall[:, 19:40].all() and not tall[:, :18].any()  # 32x48, from column 8 on
    assert turned[:, 8:40].all() and not turned[:, :8].any()
    assert "22.6% of the pixels are ignored" in photos.notes
    assert "no mask of ignored pixels for c.jpg: all pixels count" in photos.notes


@pytest.mark.parametrize("square", [True, False])
def test_centres_are_those_of_a_loop(folder: Path, square: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (60, 90), np.uint8) * 255
    Image.fromarray(noise).save(folder / "masks" / "a.png")
    photos = ignored(folder, 56, square=square)
    assert photos.mask is not None
    for y, x in np.ndindex(*photos.mask.shape[1:]):
        u, v, _ = photos.photos[0].photo_from_model @ (x + 0.5, y + 0.5, 1)
        inside = 0 <= u < 90 and 0 <= v < 60
        assert bool(photos.mask[0, y, x]) == (inside and noise[int(v), int(u)] > 0)


def test_a_mask_of_the_stored_photo_is_turned_with_it(folder: Path) -> None:
    left_third("L", (90, 60)).save(folder / "masks" / "c.png")  # turned by 90 degrees, its left is above
    photos = ignored(folder)
    assert photos.mask is not None
    shown = on_photo(photos.mask[2].numpy(), photos.photos[2], False)
    assert shown.shape == (90, 60) and not shown[:29].any() and shown[31:].all()


def test_whole_masks_change_nothing(folder: Path) -> None:
    for mask in (folder / "masks").iterdir():
        Image.new("L", Image.open(mask).size, 7).save(mask)  # any value but 0 counts
    before, after = load_photos(folder / "photos", 48), ignored(folder)
    assert before.mask is not None and after.mask is not None and torch.equal(before.mask, after.mask)


@pytest.mark.parametrize("form", ["1", "P", "inverted palette", "RGB"])
def test_black_is_ignored_in_every_form(folder: Path, form: str) -> None:
    image = left_third("L", (90, 60))
    if form == "inverted palette":
        image = image.point(lambda value: int(value == 0)).convert("P")
        image.putpalette([255, 255, 255, 0, 0, 0])
    else:
        image = image.convert(form)
    image.save(folder / "masks" / "a.png")
    mask = ignored(folder).mask
    assert mask is not None and mask[0].sum() == 32 * 32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Image.new("L", (60, 60), 1), "a.png: 60x60 pixels, another shape than its photo a.jpg of 90x60"),
        (Image.new("L", (90, 60), 0), "a.png: ignores all of a.jpg; 0 = ignored, so invert it"),
        (Image.new("RGB", (90, 60), "teal"), "a.png: a coloured picture"),
        (None, "masks: no such folder of masks"),
    ],
)
def test_wrong_masks_are_one_line(folder: Path, content: Image.Image | None, message: str) -> None:
    if content is None:
        (folder / "masks").rename(folder / "other")
    else:
        content.save(folder / "masks" / "a.png")
    with pytest.raises(UserError, match=message):
        ignored(folder)
