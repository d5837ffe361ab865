"""Cameras of loaded photos: pixels of the model's image see the same points as those of the stored photo."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.images import load_photos
from tokengroups.io.lenses import Lens, undistort_photo
from tokengroups.io.orientation import turn, upright_from_stored
from tokengroups.io.photo_cameras import pose_photos
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.io.scene_photos import ScenePhoto, recorded_photos

ORIENTATION = 0x0112
STORED_HW = (90, 120)
POSE = np.array([[0.36, 0.48, -0.8, 1.0], [-0.8, 0.6, 0.0, 2.0], [0.48, 0.64, 0.6, 3.0], [0, 0, 0, 1]])
PINHOLE = np.array([[100.0, 0, 55], [0, 110, 47], [0, 0, 1]])


def saved(path: Path, orientation: int, size_hw: tuple[int, int] = STORED_HW) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.new("RGB", size_hw[::-1], "teal").save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_of_upright_photos_are_those_that_pillow_turns(orientation: int) -> None:
    height, width = 3, 5
    stored = Image.fromarray(np.arange(height * width, dtype=np.uint8).reshape(height, width))
    upright = np.asarray(turn(stored, orientation))
    to_upright = upright_from_stored(orientation, (height, width))
    for row in range(height):
        for column in range(width):
            x, y, one = to_upright @ [column + 0.5, row + 0.5, 1]
            assert one == 1 and upright[int(y), int(x)] == row * width + column
            assert (x % 1, y % 1) == (0.5, 0.5)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_point_falls_on_the_same_pixel_however_the_photo_was_held(
    orientation: int, square: bool, tmp_path: Path
) -> None:
    path = saved(tmp_path / "a.jpg", orientation)
    photos = load_photos(path, 60, patch_size=4, square=square)
    _, poses, pinholes = pose_photos(photos, {path: PosedCamera("a.jpg", POSE, PINHOLE, STORED_HW)})
    assert np.linalg.det(poses[0, :3, :3].numpy()) == pytest.approx(1)
    for point in ((0.3, -0.2, 4.0), (-1.0, 0.4, 5.0)):  # in the frame of the given camera
        x, y, z = PINHOLE @ point
        stored = np.array([x / z, y / z, 1.0])
        upright = upright_from_stored(orientation, STORED_HW) @ stored
        world = np.linalg.inv(POSE) @ [*point, 1.0]
        seen = pinholes[0].double().numpy() @ (poses[0].numpy() @ world)[:3]
        found = photos.photos[0].photo_from_model @ (seen / seen[2])
        np.testing.assert_allclose(found, upright, atol=1e-3)


def test_cameras_for_upright_photos_stay_as_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", 6)
    photos = load_photos(path, 60)
    by_mark = PosedCamera("a", POSE, PINHOLE, None, upright=True)
    by_shape = PosedCamera("a", POSE, PINHOLE, STORED_HW[::-1])
    for camera in (by_mark, by_shape):
        _, poses, _ = pose_photos(photos, {path: camera})
        np.testing.assert_array_equal(poses[0].numpy(), POSE)


def test_sizes_are_scaled_and_other_shapes_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", 1)
    photos = load_photos(path, 60)
    twice = PosedCamera("a", POSE, PINHOLE * [[2], [2], [1]], (2 * STORED_HW[0], 2 * STORED_HW[1]))
    _, _, pinholes = pose_photos(photos, {path: twice})
    np.testing.assert_allclose(pinholes[0].numpy(), PINHOLE * [[0.5], [0.5], [1]], rtol=1e-6)
    with pytest.raises(UserError, match=r"a\.jpg: 120x90 pixels, but its camera is for 64x64; give the photo"):
        pose_photos(photos, {path: PosedCamera("a", POSE, PINHOLE, (64, 64))})
    mirrored = saved(tmp_path / "b.jpg", 2)
    with pytest.raises(UserError, match="EXIF orientation 2 mirrors it"):
        pose_photos(load_photos(mirrored, 60), {mirrored: PosedCamera("b", POSE, PINHOLE, STORED_HW)})


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_lens_distortion_is_undone_and_recorded(orientation: int, tmp_path: Path) -> None:
    """Against the photo as stored, undistorted and only then turned."""
    lens = Lens((0.2, -0.05), (0.01, -0.02))
    y, x = np.mgrid[: STORED_HW[0], : STORED_HW[1]]
    pixels = np.stack([2 * x, 2 * y, x + y], axis=-1).astype(np.uint8)
    straight, seen = undistort_photo(pixels, lens, PINHOLE)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    path = tmp_path / "a.png"
    loaded = load_photos(path, max(STORED_HW))
    photos, _, _ = pose_photos(loaded, {path: PosedCamera("a", POSE, PINHOLE, STORED_HW, lens=lens)})
    expected, counted = (np.asarray(turn(Image.fromarray(each), orientation)) for each in (straight, seen))
    found = (photos.images[0] * 255).round().permute(1, 2, 0).numpy().astype(int)
    assert photos.mask is not None and (photos.mask[0].numpy() == counted).mean() > 0.999
    assert np.abs(found - expected)[counted].max() <= 1
    record = {
        "name": "a.png", "size_hw": photos.photos[0].size_hw, "crop_box": photos.photos[0].crop_box,
        "lens": asdict(photos.photos[0].lens), "pinhole": photos.photos[0].pinhole,
    }  # fmt: skip
    (recorded,) = recorded_photos([json.loads(json.dumps(record))], 1) or ()
    again = ScenePhoto(path, recorded).load(found.shape[:2])
    torch.testing.assert_close(again[:, photos.mask[0]], photos.images[0][:, photos.mask[0]], rtol=0, atol=0.01)


def test_a_lens_that_cannot_be_that_of_the_photo_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", 1)
    camera = PosedCamera("a", POSE, PINHOLE, STORED_HW, lens=Lens((80.0,)))
    with pytest.raises(UserError, match=r"a\.jpg: .* are the coefficients right\?"):
        pose_photos(load_photos(path, 60), {path: camera})
