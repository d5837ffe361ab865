"""Reader of COLMAP models. COLMAP has our camera axes and pixel centres, so nothing is converted."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from tokengroups.errors import UserError
from tokengroups.io.colmap_files import (
    MODELS,
    ColmapCamera,
    ColmapImage,
    parse_cameras,
    parse_images,
    parse_points,
    read_file,
)
from tokengroups.io.lenses import lens_of
from tokengroups.io.points import PointCloud, make_cloud
from tokengroups.io.posed_cameras import (
    CameraSet,
    PosedCamera,
    check_count,
    check_pinhole,
    check_pose,
    number,
    other_lens,
)
from tokengroups.reading import malformed, path_kind, shown

_FILES = ("cameras.bin", "cameras.txt")
_PLACES = (".", "sparse/0", "sparse", "0", "colmap/sparse/0")
_PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV")
_FISHEYES = ("SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "OPENCV_FISHEYE")
_ADVICE = "give the folder of a COLMAP model (cameras, images and points3D, .bin or .txt)"


def find_model(folder: str | os.PathLike[str]) -> Path | None:
    """Find the folder with ``cameras.bin`` or ``.txt``: this one or one where COLMAP puts it; None if there is none."""
    places = [Path(folder) / place for place in _PLACES]
    return next((place for place in places if any(path_kind(place / name) == "file" for name in _FILES)), None)


def load_colmap(folder: str | os.PathLike[str]) -> CameraSet:
    """Read the registered images' cameras, and the points with their colours.

    Raises:
        UserError: No model there, a damaged one, or a camera model that is not read.
    """
    model = find_model(folder)
    if model is None:
        raise UserError(f"{shown(folder)}: no COLMAP model (cameras.bin or cameras.txt, also below sparse/0)")
    cameras, images = read_file(model, "cameras"), read_file(model, "images")
    with malformed(model / "cameras", _ADVICE):
        lenses = parse_cameras(*cameras)
    with malformed(model / "images", _ADVICE):
        listed = [image for _, image in sorted(parse_images(*images).items())]
    if not listed:
        raise UserError(f"{shown(model)}: a COLMAP model without a registered image; run COLMAP's mapper again")
    check_count(model, listed)
    points = _points(model)
    return CameraSet(tuple(_camera(model, image, lenses) for image in listed), points)


def _points(model: Path) -> PointCloud | None:
    """The model's points; None if it has none."""
    if all(path_kind(model / f"points3D.{suffix}") == "missing" for suffix in ("bin", "txt")):
        return None
    content = read_file(model, "points3D")
    with malformed(model / "points3D", _ADVICE):
        positions, colors = parse_points(*content)
    return make_cloud(model / "points3D", positions, colors) if len(positions) else None


def _camera(model: Path, image: ColmapImage, lenses: dict[int, ColmapCamera]) -> PosedCamera:
    where = f"{shown(model)}: image {shown(image.name)}"
    with malformed(where, _ADVICE):
        if image.camera_id not in lenses:
            raise ValueError(f"its camera {image.camera_id} is not in the file of cameras")
        camera = lenses[image.camera_id]
        if camera.model not in (*_PERSPECTIVE, *_FISHEYES):
            raise other_lens(where, camera.model)
        values = dict(zip(MODELS[camera.model].split(), map(number, camera.parameters), strict=True))
        fx, fy = (values.pop(name, values.get("f", 0.0)) for name in ("fx", "fy"))
        values.pop("f", None)
        intrinsics = np.array([[fx, 0, values.pop("cx")], [0, fy, values.pop("cy")], [0, 0, 1]])
        coefficients = {"k1" if name == "k" else name: value for name, value in values.items()}
        lens = lens_of(coefficients, camera.model in _FISHEYES, rational=camera.model == "FULL_OPENCV")
        pose = np.column_stack([_rotation(image.quaternion), image.translation])
    size_hw = (camera.height, camera.width)
    check_pinhole(where, intrinsics, size_hw)
    return PosedCamera(image.name, check_pose(where, pose), intrinsics, size_hw, lens=lens)


def _rotation(quaternion: tuple[float, ...]) -> np.ndarray:
    """Rotation matrix of a quaternion wxyz of any length."""
    length = math.hypot(*map(number, quaternion))
    if not 0 < length < math.inf:
        raise ValueError("its quaternion has no length")
    w, x, y, z = np.array(quaternion) / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
