"""Lens distortion, against pycolmap and against itself backwards."""

from __future__ import annotations

import numpy as np
import pytest

from tokengroups.errors import UserError
from tokengroups.io.colmap_files import MODELS
from tokengroups.io.lenses import BLANK, Lens, distort, undistort, undistort_photo, undistort_values

LENSES = {
    "SIMPLE_RADIAL 0.07": Lens((0.07,)),
    "RADIAL -0.2 0.05": Lens((-0.2, 0.05)),
    "OPENCV 0.0578 -0.0805 -0.00098 0.00016": Lens((0.0578, -0.0805), (-0.00098, 0.00016)),
    "FULL_OPENCV 0.1 0.02 0.001 -0.002 0.03 0.2 -0.01 0.004": Lens(
        (0.1, 0.02, 0.03), (0.001, -0.002), (0.2, -0.01, 0.004)
    ),
    "OPENCV_FISHEYE 0.05 -0.01 0.003 -0.001": Lens((0.05, -0.01, 0.003, -0.001), fisheye=True),
    "SIMPLE_RADIAL_FISHEYE -0.02": Lens((-0.02,), fisheye=True),
    "RADIAL_FISHEYE -0.02 0.004": Lens((-0.02, 0.004), fisheye=True),
}
RAYS = np.random.default_rng(0).uniform(-0.8, 0.8, (200, 2))
PINHOLE = np.array([[70.0, 0, 47.0], [0, 75.0, 33.0], [0, 0, 1]])
SIZE_HW = (64, 96)


@pytest.mark.parametrize("model", LENSES)
def test_distortion_is_that_of_colmap(model: str) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    name, *words = model.split()
    focal = [70.0] if MODELS[name].startswith("f ") else [70.0, 75.0]
    parameters = [*focal, 47.0, 33.0, *map(float, words)]
    camera = pycolmap.Camera(model=name, width=96, height=64, params=parameters)
    expected = camera.img_from_cam(np.column_stack([RAYS, np.ones(len(RAYS))]))
    ours = distort(RAYS, LENSES[model]) * (focal[0], focal[-1]) + (47.0, 33.0)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("lens", LENSES.values(), ids=list(LENSES))
def test_undistortion_goes_the_way_back(lens: Lens) -> None:
    rays = np.concatenate([RAYS, [[0.0, 0.0], [1e-9, 0.0]]])
    np.testing.assert_allclose(undistort(distort(rays, lens), lens), rays, rtol=0, atol=1e-8)


def test_points_that_no_ray_leads_to_are_nan() -> None:
    assert np.isnan(undistort(np.array([[0.9, 0.0], [0.0, 5.0]]), Lens((-0.3,)))).all()  # it turns at 0.70
    assert np.isnan(undistort(np.array([2.0, 0.0]), Lens(fisheye=True))).all()  # 2 radians: behind the camera


def picture(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth colours at pixel coordinates of the bent photo."""
    waves = [np.sin(u / 9), np.cos(v / 7), np.sin((u + v) / 11)]
    return np.round(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


@pytest.mark.parametrize("lens", LENSES.values(), ids=list(LENSES))
def test_a_photo_shows_at_every_pixel_the_ray_of_its_pinhole(lens: Lens) -> None:
    """The colour of a pixel is the photo's at the place where the lens shows the pixel's ray."""
    v, u = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    straight, shown = undistort_photo(picture(u, v), lens, PINHOLE)
    rays = np.stack([(u - 47) / 70, (v - 33) / 75], axis=-1)
    x, y = np.moveaxis(distort(rays, lens) * (70, 75) + (47, 33), -1, 0)
    np.testing.assert_array_equal(shown, (x >= 0) & (x < 96) & (y >= 0) & (y < 64))
    inner = (x > 0.5) & (x < 95.5) & (y > 0.5) & (y < 63.5)
    assert inner.mean() > 0.5
    assert np.abs(straight[inner].astype(int) - picture(x, y)[inner]).max() <= 3
    assert (straight[~shown] == BLANK).all()
    values = undistort_values(np.arange(64 * 96).reshape(SIZE_HW), lens, PINHOLE, -1)
    expected = np.floor(np.clip(y, 0, 63.9)).astype(int) * 96 + np.floor(np.clip(x, 0, 95.9)).astype(int)
    agree = values == np.where(shown, expected, -1)
    assert agree.mean() > 0.999  # but for places on the border of two pixels


def test_no_distortion_changes_nothing() -> None:
    v, u = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    straight, shown = undistort_photo(picture(u, v), Lens(), PINHOLE)
    assert shown.all()
    np.testing.assert_array_equal(straight, picture(u, v))


def test_rays_beyond_the_turning_point_show_nothing() -> None:
    """With k1 < 0 the polynomial folds far rays back into the photo; they are no second copy of its middle."""
    wide = np.array([[30.0, 0, 48], [0, 30.0, 32], [0, 0, 1]])
    _, shown = undistort_photo(np.zeros((64, 96, 3), np.uint8), Lens((-0.3,)), wide)
    v, u = np.mgrid[:64, :96] + 0.5
    radius = np.hypot(u - 48, v - 32) / 30
    np.testing.assert_array_equal(shown, radius <= 1.0541)  # 1 - 0.9 r^2 = 0


def test_coefficients_of_another_photo_are_refused() -> None:
    with pytest.raises(UserError, match="without its lens distortion the photo shows .*%"):
        undistort_photo(np.zeros((64, 96, 3), np.uint8), Lens((-50.0,)), PINHOLE)
