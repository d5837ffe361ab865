"""Data URLs of small pictures: decoded again, they are what was given, and together they keep to their limit."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.io import data_urls
from tokengroups.io.data_urls import cutout_url, jpeg_url, photo_urls
from tokengroups.io.images import load_photos
from tokengroups.io.scene_photos import ScenePhoto, find_scene_photos


def decoded(url: str) -> Image.Image:
    kind, content = url.split(",", 1)
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert kind == f"data:image/{str(image.format).lower()};base64"
    return image


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Pixels without fine detail, which JPEG keeps."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def made_of(folder: Path, shapes: list[tuple[int, int]], size: int) -> tuple[list[ScenePhoto], torch.Tensor]:
    """Photos as a reconstruction records them, and the pixels that its model saw."""
    for number, shape in enumerate(shapes):
        Image.fromarray(smooth(*shape, number)).save(folder / f"{number}.png")
    loaded = load_photos(folder, size)
    rows = [
        {"name": each.path.name, "size_hw": list(each.size_hw), "crop_box": list(each.crop_box)}
        for each in loaded.photos
    ]
    record = json.loads(json.dumps({"photos": rows}))
    return find_scene_photos([str(folder)], record, len(shapes))[0], loaded.images


def test_photos_are_what_the_model_saw(tmp_path: Path) -> None:
    """A wide and a tall photo: the model's images of both are padded to a square."""
    photos, images = made_of(tmp_path, [(96, 128), (128, 96)], size=128)
    size_hw = (images.shape[-2], images.shape[-1])
    assert size_hw == (128, 128)
    for url, photo, seen in zip(photo_urls(photos, size_hw, 100_000), photos, images, strict=True):
        assert url is not None
        picture = torch.from_numpy(np.array(decoded(url))).permute(2, 0, 1) / 255
        assert picture.shape == seen.shape
        assert (picture - seen).abs().mean() < 2 / 255
        padding = ~photo.shown_in(size_hw)
        assert 0.2 < padding.float().mean() < 0.3 and picture[:, padding].mean() > 0.98  # white


def test_larger_photos_show_the_same_as_the_view(tmp_path: Path) -> None:
    photos, images = made_of(tmp_path, [(300, 400)], size=64)
    (url,) = photo_urls(photos, (48, 64), 100_000)
    assert url is not None and decoded(url).size == (400, 300)
    small = np.asarray(decoded(url).resize((64, 48), Image.Resampling.BICUBIC)).astype(np.float32) / 255
    assert np.abs(small - images[0].permute(1, 2, 0).numpy()).mean() < 2 / 255


@pytest.mark.parametrize("most", [60_000, 12_000, 3_000])
def test_many_photos_become_small_and_keep_to_the_limit(tmp_path: Path, most: int) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (300, 400, 3), np.uint8)).save(tmp_path / "noise.png")
    photos = [ScenePhoto(tmp_path / "noise.png", None)] * 6
    urls = photo_urls(photos, (48, 64), most)
    pictures = [decoded(url) for url in urls if url is not None]
    assert sum(len(base64.b64decode(url.split(",")[1])) for url in urls if url is not None) <= most
    assert len({picture.size for picture in pictures}) == 1 and 64 <= pictures[0].width < 400
    assert [url is not None for url in urls] == [most > 3_000 or view % 2 == 0 for view in range(6)]
    assert photo_urls([], (48, 64), most) == ()


def test_cutouts_keep_colour_and_alpha(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = torch.zeros(64, 64)
    alpha[16:48, 16:48] = 1
    picture = torch.cat([torch.tensor([0.8, 0.3, 0.1]).expand(64, 64, 3), alpha[..., None]], dim=-1)
    for kind in ("WEBP", "PNG"):
        monkeypatch.setattr(data_urls.features, "check", lambda _, kind=kind: kind == "WEBP")
        image = decoded(cutout_url(picture))
        assert image.format == kind and image.mode == "RGBA"
        found = np.asarray(image) / 255
        assert np.abs(found[..., 3] - alpha.numpy()).max() < 0.02
        assert np.abs(found[20:44, 20:44, :3] - [0.8, 0.3, 0.1]).max() < 0.05


def test_jpegs_of_high_quality() -> None:
    pixels = smooth(40, 60)
    assert np.abs(np.asarray(decoded(jpeg_url(pixels))).astype(int) - pixels).mean() < 2
