"""Lens distortion by the equations of OpenCV, which COLMAP and nerfstudio share, and its removal from pictures.

A ray is the point (x / z, y / z) where it meets the plane of depth 1. The lens bends it to another point of that plane,
which the pinhole's matrix maps to pixels:

    q = x^2 + y^2,   s = (1 + k1 q + k2 q^2 + ...) / (1 + d1 q + d2 q^2 + ...)
    x' = s x + 2 p1 x y + p2 (q + 2 x^2),   y' = s y + p1 (q + 2 y^2) + 2 p2 x y

(docs.opencv.org, "Camera Calibration and 3D Reconstruction"). A fisheye first shortens the ray to its angle from the
axis (Kannala and Brandt 2006, IEEE TPAMI 28(8)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from tokengroups.errors import UserError

COEFFICIENTS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
NO_DISTORTION = 1e-4  # of coefficients: well under a tenth of a pixel
BLANK = 255  # pixels that the photo has nothing for: white, as padding is
_PROFILE_SAMPLES = 4096
_MOST_PIXELS = 2**20  # that are computed at once
_NEWTON_STEPS, _EXACT = 30, 1e-9
_LEAST_SHOWN = 0.25  # of a picture


@dataclass(frozen=True)
class Lens:
    """Coefficients of a distortion; all zero and no fisheye is none."""

    radial: tuple[float, ...] = ()  # k1, k2, ...
    tangential: tuple[float, float] = (0.0, 0.0)  # p1, p2
    denominator: tuple[float, ...] = ()  # d1, d2, ...: OpenCV's k4, k5, k6
    fisheye: bool = False


def lens_of(coefficients: Mapping[str, float], fisheye: bool = False, rational: bool = False) -> Lens | None:
    """A lens by the names of its coefficients, k1 to k6, p1 and p2; None if it bends nothing.

    Args:
        coefficients: Those that are lacking are 0.
        fisheye: k1 to k4 are of the angle.
        rational: k4 to k6 are of the denominator, as in OpenCV and in COLMAP's FULL_OPENCV; else k4 is of the eighth
            power, as in nerfstudio.
    """
    if not fisheye and all(abs(value) <= NO_DISTORTION for value in coefficients.values()):
        return None
    k1, k2, k3, k4, k5, k6, p1, p2 = (coefficients.get(name, 0.0) for name in COEFFICIENTS)
    if rational:
        return Lens((k1, k2, k3), (p1, p2), (k4, k5, k6), fisheye)
    return Lens((k1, k2, k3, k4), (p1, p2), fisheye=fisheye)


def distort(rays: Float[np.ndarray, "*n 2"], lens: Lens) -> Float[np.ndarray, "*n 2"]:
    """Where the lens shows rays.

    Example:
        >>> import numpy as np
        >>> distort(np.array([0.5, 0.0]), Lens(radial=(-0.2,)))
        array([0.475, 0.   ])
    """
    points = _to_angles(rays) if lens.fisheye else rays
    scale, _ = _scale(_squares(points), lens)
    return scale * points + _shift(points, lens)


def undistort(points: Float[np.ndarray, "*n 2"], lens: Lens) -> Float[np.ndarray, "*n 2"]:
    """The rays that the lens shows at points: `distort` inverted by Newton's method.

    NaN where no ray in front of the camera leads, or none is found.

    Example:
        >>> import numpy as np
        >>> undistort(np.array([0.475, 0.0]), Lens(radial=(-0.2,)))
        array([0.5, 0. ])
    """
    found = points.copy()
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            scale, slope = _scale(_squares(found), lens)
            missed = scale * found + _shift(found, lens) - points
            (a, b), (c, d) = np.moveaxis(_jacobian(found, scale, slope, lens), (-2, -1), (0, 1))
            step = [d * missed[..., 0] - b * missed[..., 1], a * missed[..., 1] - c * missed[..., 0]]
            found = found - np.stack(step, axis=-1) / (a * d - b * c)[..., None]
        scale, _ = _scale(_squares(found), lens)
        missed = np.abs(scale * found + _shift(found, lens) - points).max(axis=-1, keepdims=True)
        found = np.where(missed < _EXACT, found, np.nan)
        rays = _from_angles(found) if lens.fisheye else found
        lengths = np.nan_to_num(np.sqrt(_squares(rays)), nan=0.0, posinf=0.0)
        return np.where(lengths <= _reach(lens, float(lengths.max(initial=0))), rays, np.nan)


def undistort_photo(
    photo: UInt8[np.ndarray, "H W 3"], lens: Lens, intrinsics: Float[np.ndarray, "3 3"]
) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"]]:
    """The photo of a pinhole of the same intrinsics and size, interpolated bilinearly, and which pixels it shows.

    Args:
        photo: As the lens made it.
        lens: Its distortion.
        intrinsics: In pixels of the photo.

    Raises:
        UserError: The photo shows less than a quarter of the new picture, so the coefficients are not its own.
    """
    places, shown = _sources(photo.shape[:2], lens, intrinsics)
    straight = np.full_like(photo, BLANK)
    for rows in _bands(photo.shape[:2]):
        straight[rows] = np.where(shown[rows, :, None], _bilinear(photo, places[rows]), BLANK)
    return straight, shown


def undistort_values(
    values: Shaped[np.ndarray, "H W"], lens: Lens, intrinsics: Float[np.ndarray, "3 3"], fill: int
) -> Shaped[np.ndarray, "H W"]:
    """As `undistort_photo` for values that are never mixed: the nearest pixels, `fill` where there is none."""
    places, shown = _sources(values.shape[:2], lens, intrinsics)
    columns, rows = np.moveaxis(places, -1, 0).astype(np.int64)
    return np.where(shown, values[rows, columns], np.asarray(fill, values.dtype))


@lru_cache(maxsize=1)  # the photos of a set have one lens, as a rule
def _known_sources(
    size_hw: tuple[int, int], lens: Lens, pinhole: tuple[float, ...]
) -> tuple[Float[np.ndarray, "H W 2"], Bool[np.ndarray, "H W"]]:
    """Where in the photo the pixels of the new picture lie, and whether it shows them; read only."""
    (height, width), (fx, _, cx, _, fy, cy, *_) = size_hw, pinhole
    places, shown = np.empty((height, width, 2), np.float32), np.empty((height, width), bool)
    corners = np.array([[x, y] for x in (0, width) for y in (0, height)], np.float64)
    limit = _reach(lens, float(np.abs((corners - (cx, cy)) / (fx, fy)).max()) * np.sqrt(2))
    for rows in _bands(size_hw):
        v, u = np.mgrid[rows, :width] + 0.5
        rays = np.stack([(u - cx) / fx, (v - cy) / fy], axis=-1)
        with np.errstate(all="ignore"):
            place = distort(rays, lens) * (fx, fy) + (cx, cy)
        inside = ((place >= 0) & (place < (width, height))).all(axis=-1, keepdims=True)
        inside &= _squares(rays) <= limit**2
        places[rows], shown[rows] = np.where(inside, place, 0), inside[..., 0]
    for array in (places, shown):
        array.setflags(write=False)
    return places, shown


def _sources(
    size_hw: tuple[int, ...], lens: Lens, intrinsics: np.ndarray
) -> tuple[Float[np.ndarray, "H W 2"], Bool[np.ndarray, "H W"]]:
    """As `_known_sources`, after a check that the lens can be that of the photo."""
    places, shown = _known_sources((size_hw[0], size_hw[1]), lens, tuple(intrinsics.ravel().tolist()))
    if shown.mean() < _LEAST_SHOWN:
        raise UserError(f"without its lens distortion the photo shows {shown.mean():.0%} of the picture")
    return places, shown


def _reach(lens: Lens, farthest: float) -> float:
    """Longest ray, up to the farthest one, before the lens shows longer ones nearer to the middle again."""
    radii = np.linspace(0, np.arctan(farthest) if lens.fisheye else farthest, _PROFILE_SAMPLES)
    with np.errstate(all="ignore"):
        grows = np.diff(radii * _scale(radii[:, None] ** 2, lens)[0][:, 0]) > 0
    last = radii[-1] if grows.all() else radii[int(grows.argmin())]
    return float(np.tan(last) if lens.fisheye else last)


def _squares(points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 1"]:
    return (points**2).sum(axis=-1, keepdims=True)


def _scale(
    squares: Float[np.ndarray, "*n 1"], lens: Lens
) -> tuple[Float[np.ndarray, "*n 1"], Float[np.ndarray, "*n 1"]]:
    """The factor s and its derivative by the square q."""
    above, below = (np.polynomial.Polynomial([1.0, *terms]) for terms in (lens.radial, lens.denominator))
    scale = above(squares) / below(squares)
    return scale, (above.deriv()(squares) - scale * below.deriv()(squares)) / below(squares)


def _shift(points: Float[np.ndarray, "*n 2"], lens: Lens) -> Float[np.ndarray, "*n 2"]:
    """The tangential part."""
    p1, p2 = lens.tangential
    product = 2 * points[..., :1] * points[..., 1:]
    return product * (p1, p2) + (_squares(points) + 2 * points**2) * (p2, p1)


def _jacobian(
    points: Float[np.ndarray, "*n 2"], scale: np.ndarray, slope: np.ndarray, lens: Lens
) -> Float[np.ndarray, "*n 2 2"]:
    """Derivatives of the bent points (rows) by the points (columns)."""
    (p1, p2), (x, y) = lens.tangential, (points[..., 0, None, None], points[..., 1, None, None])
    outer = points[..., :, None] * points[..., None, :]
    shift = np.array([[6 * p2, 2 * p1], [2 * p1, 2 * p2]]) * x + np.array([[2 * p1, 2 * p2], [2 * p2, 6 * p1]]) * y
    return scale[..., None] * np.eye(2) + 2 * slope[..., None] * outer + shift


def _to_angles(rays: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """Rays, as long as their angles from the axis."""
    lengths = np.sqrt(_squares(rays))
    return rays * np.divide(np.arctan(lengths), lengths, out=np.ones_like(lengths), where=lengths > 0)


def _from_angles(points: Float[np.ndarray, "*n 2"]) -> Float[np.ndarray, "*n 2"]:
    """Inverse of `_to_angles`; NaN for rays that do not lead forward."""
    angles = np.sqrt(_squares(points))
    longer = np.divide(np.tan(angles), angles, out=np.ones_like(angles), where=angles > 0)
    return np.where(angles < np.pi / 2, points * longer, np.nan)


def _bands(size_hw: tuple[int, ...]) -> list[slice]:
    """Rows of a picture, in parts of bounded size."""
    step = max(_MOST_PIXELS // size_hw[1], 1)
    return [slice(top, min(top + step, size_hw[0])) for top in range(0, size_hw[0], step)]


def _bilinear(photo: UInt8[np.ndarray, "H W 3"], places: Float[np.ndarray, "h w 2"]) -> UInt8[np.ndarray, "h w 3"]:
    """Colours between the centres of four pixels; beyond the outer centres those of the nearest pixels."""
    height, width = photo.shape[:2]
    at = np.clip(places - 0.5, 0, (width - 1, height - 1))
    corner = np.minimum(at.astype(np.int64), np.maximum((width - 2, height - 2), 0))
    right, down = np.moveaxis((at - corner)[..., None], -2, 0)
    x, y = np.moveaxis(corner, -1, 0)
    upper = photo[y, x] * (1 - right) + photo[y, x + 1] * right
    lower = photo[y + 1, x] * (1 - right) + photo[y + 1, x + 1] * right
    return np.round(upper * (1 - down) + lower * down).astype(np.uint8)
