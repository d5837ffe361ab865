"""Photos of a scene: the pixels that it was made from, found by name, and every wrong set of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.images import load_photos
from tokengroups.io.lenses import Lens
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.io.posed_photos import load_posed_photos
from tokengroups.io.scene_photos import find_scene_photos, kept_frames, recorded_photos, whole_photo_record

ORIENTATION = 0x0112


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos, the first turned by EXIF, and one that no scene was made from."""
    rng = np.random.default_rng(0)
    for name, shape, turned in (("b.jpg", (90, 120, 3), 6), ("a.jpg", (120, 90, 3), 1), ("c.jpg", (90, 120, 3), 1)):
        exif = Image.Exif()
        exif[ORIENTATION] = turned
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / name, exif=exif)
    return tmp_path


def provenance(*paths: Path, size: int = 48, square: bool = False) -> dict[str, Any]:
    """As `reconstruct` writes it."""
    photos = load_photos(paths, size, square=square)
    rows = [
        {"name": each.path.name, "size_hw": list(each.size_hw), "crop_box": list(each.crop_box)}
        for each in photos.photos
    ]
    return {"photos": rows}


@pytest.mark.parametrize("size", [48, 90, 120])
@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("names", ["ba", "bc", "abc"])
def test_photos_of_a_reconstruction_have_its_pixels(folder: Path, size: int, square: bool, names: str) -> None:
    paths = [folder / f"{name}.jpg" for name in names]
    found, notes = find_scene_photos([str(folder)], provenance(*paths, size=size, square=square), len(paths))
    assert [each.path for each in found] == paths and notes == []
    photos = load_photos(paths, size, square=square)
    size_hw = (photos.images.shape[-2], photos.images.shape[-1])
    assert torch.equal(torch.stack([each.load(size_hw) for each in found]), photos.images)
    shown = torch.stack([each.shown_in(size_hw) for each in found])
    assert torch.equal(shown, torch.ones_like(shown) if photos.mask is None else photos.mask)
    assert (photos.mask is None) == (square or names == "ba")


def test_photos_of_a_fit_have_its_pixels_as_stored(folder: Path) -> None:
    """The turned photo as it is stored, 120 wide; the other one has another shape and would be left out."""
    names = ["b.jpg", "c.jpg"]
    pinhole = np.array([[60.0, 0, 60], [0, 60, 45], [0, 0, 1]])
    camera = PosedCamera("", np.eye(4), pinhole, (90, 120))
    frames, *_ = load_posed_photos([(folder / name, camera) for name in names], 60, None)
    found, _ = find_scene_photos([str(folder)], {"photos": names}, 2)
    got = torch.stack([each.load((45, 60)) for each in found])
    assert np.array_equal((255 * got).round().byte().permute(0, 2, 3, 1).numpy(), frames.images)


def test_photos_of_a_fit_lose_their_lens_distortion_again(folder: Path) -> None:
    lens = Lens((0.2, -0.1), (0.01, 0.0))
    camera = PosedCamera("", np.eye(4), np.array([[80.0, 0, 60], [0, 80, 45], [0, 0, 1]]), (90, 120), lens=lens)
    frames, *_ = load_posed_photos([(folder / "c.jpg", camera)], 60, None)
    record = whole_photo_record("c.jpg", lens, torch.from_numpy(frames.intrinsics[0]), (45, 60))
    record = json.loads(json.dumps(record))
    found, _ = find_scene_photos([str(folder)], {"photos": [record]}, 1)
    assert np.array_equal((255 * found[0].load((45, 60))).round().byte().permute(1, 2, 0).numpy(), frames.images[0])
    assert whole_photo_record("c.jpg", None, torch.eye(3), (45, 60)) == "c.jpg"
    for key, value in (("pinhole", [1, 1, 0.5]), ("lens", {"radial": [1]}), ("pinhole", [1, float("nan"), 0.5, 0.5])):
        assert recorded_photos([{**record, key: value}], 1) is None


def test_upright_photos_of_a_fit_are_turned_by_their_shape(folder: Path) -> None:
    found, _ = find_scene_photos([str(folder / "b.jpg")], {"photos": ["b.jpg"]}, 1)
    upright = (
        Image.open(folder / "b.jpg").transpose(Image.Transpose.ROTATE_270).resize((45, 60), Image.Resampling.BICUBIC)
    )
    assert np.array_equal((255 * found[0].load((60, 45))).round().byte().permute(1, 2, 0).numpy(), np.asarray(upright))


OUTSIDE = {"name": "a.jpg", "size_hw": [9, 9], "crop_box": [0, 0, 99, 9]}


@pytest.mark.parametrize("recorded", [None, [], "photos", [{"name": "a.jpg"}], [1, 2], [OUTSIDE, OUTSIDE]])
def test_without_a_record_the_files_count_in_their_order(folder: Path, recorded: Any) -> None:
    words = [str(folder / "c.jpg"), str(folder / "a.jpg")]
    found, notes = find_scene_photos(words, {"photos": recorded}, 2)
    assert [str(each.path) for each in found] == words
    assert notes == ["the scene records no photos: taken in the order given"]
    with pytest.raises(UserError, match="3 photos for 2 context views"):
        find_scene_photos([str(folder)], {"photos": recorded}, 2)


def test_frames_that_are_kept_beside_a_scene_are_found(folder: Path) -> None:
    """Nothing but the folder of that name, and all of them or none."""
    known = provenance(folder / "b.jpg", folder / "a.jpg")
    frames = folder / "scene_frames"
    assert kept_frames(folder / "scene.safetensors", known, 2) == []
    frames.mkdir()
    (folder / "b.jpg").rename(frames / "b.jpg")
    assert kept_frames(folder / "scene.safetensors", known, 2) == []
    (folder / "a.jpg").rename(frames / "a.jpg")
    assert [photo.path.name for photo in kept_frames(folder / "scene.safetensors", known, 2)] == ["b.jpg", "a.jpg"]
    assert kept_frames(folder / "scene.safetensors", {}, 2) == []
    assert kept_frames(folder / "other.safetensors", known, 2) == []


def test_wrong_sets_of_photos_are_refused(folder: Path) -> None:
    known = provenance(folder / "b.jpg", folder / "a.jpg")
    with pytest.raises(UserError, match=r"no photo of the name 'a\.jpg', which the scene was made from"):
        find_scene_photos([str(folder / "b.jpg"), str(folder / "c.jpg")], known, 2)
    with pytest.raises(UserError, match=r"2 photos of the name 'a\.jpg'"):
        find_scene_photos([str(folder), str(folder / "a.jpg")], known, 2)
    with pytest.raises(UserError, match="no such file or folder"):
        find_scene_photos([str(folder / "nothing")], known, 2)
    Image.new("RGB", (60, 60)).save(folder / "a.jpg")
    found, _ = find_scene_photos([str(folder)], known, 2)
    with pytest.raises(UserError, match=r"a\.jpg: 60x60 pixels, but the scene was made from 90x120; give the photo"):
        found[1].load((48, 48))
    found, _ = find_scene_photos([str(folder / "c.jpg")], {}, 1)
    with pytest.raises(UserError, match=r"c\.jpg: 120x90 pixels, but the scene's views have 48x48"):
        found[0].load((48, 48))


def test_names_that_repeat_need_all_photos_in_their_order(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "c.jpg").rename(folder / "sub" / "b.jpg")
    both = [str(folder / "b.jpg"), str(folder / "sub" / "b.jpg")]
    found, _ = find_scene_photos(both, {"photos": ["b.jpg", "b.jpg"]}, 2)
    assert [str(each.path) for each in found] == both
    with pytest.raises(UserError, match="several photos of the scene have the same name; give all of its photos"):
        find_scene_photos([str(folder)], {"photos": ["b.jpg", "b.jpg"]}, 2)
