"""Cameras of loaded photos: pixels of the model's image see the same points as those of the stored photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokengroups.errors import UserError
from tokengroups.io.images import load_photos
from tokengroups.io.orientation import turn, upright_from_stored
from tokengroups.io.photo_cameras import cameras_of_photos
from tokengroups.io.posed_cameras import PosedCamera

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
    poses, pinholes = cameras_of_photos(photos, {path: PosedCamera("a.jpg", POSE, PINHOLE, STORED_HW)})
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
        poses, _ = cameras_of_photos(photos, {path: camera})
        np.testing.assert_array_equal(poses[0].numpy(), POSE)


def test_sizes_are_scaled_and_other_shapes_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", 1)
    photos = load_photos(path, 60)
    twice = PosedCamera("a", POSE, PINHOLE * [[2], [2], [1]], (2 * STORED_HW[0], 2 * STORED_HW[1]))
    _, pinholes = cameras_of_photos(photos, {path: twice})
    np.testing.assert_allclose(pinholes[0].numpy(), PINHOLE * [[0.5], [0.5], [1]], rtol=1e-6)
    with pytest.raises(UserError, match=r"a\.jpg: 120x90 pixels, but its camera is for 64x64; give the photo"):
        cameras_of_photos(photos, {path: PosedCamera("a", POSE, PINHOLE, (64, 64))})
    mirrored = saved(tmp_path / "b.jpg", 2)
    with pytest.raises(UserError, match="EXIF orientation 2 mirrors it"):
        cameras_of_photos(load_photos(mirrored, 60), {mirrored: PosedCamera("b", POSE, PINHOLE, STORED_HW)})
