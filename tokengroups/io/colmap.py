"""Reader of COLMAP models through pycolmap, an optional library.

COLMAP has our camera axes and pixel centres, so nothing is converted.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tokengroups.errors import UserError
from tokengroups.io.points import PointCloud
from tokengroups.io.posed_cameras import CameraSet, PosedCamera, check_pinhole, check_pose

_FILES = ("cameras.bin", "cameras.txt")
_PLACES = (".", "sparse/0", "sparse", "0", "colmap/sparse/0")
_NO_DISTORTION = 1e-4  # of coefficients: well under a tenth of a pixel


def find_model(folder: str | os.PathLike[str]) -> Path | None:
    """Find the folder with ``cameras.bin`` or ``.txt``: this one or one where COLMAP puts it; None if there is none."""
    places = [Path(folder) / place for place in _PLACES]
    return next((place for place in places if any((place / name).is_file() for name in _FILES)), None)


def load_colmap(folder: str | os.PathLike[str]) -> CameraSet:
    """Read the registered images' cameras, and the points with their colours.

    Raises:
        UserError: No model there, a damaged one, lens distortion, or pycolmap is not installed.
    """
    model = find_model(folder)
    if model is None:
        raise UserError(f"{folder}: no COLMAP model (cameras.bin or cameras.txt, also below sparse/0)")
    if importlib.util.find_spec("pycolmap") is None:
        raise UserError(f'{folder}: reading COLMAP models needs `pip install "tokengroups[colmap]"`')
    import pycolmap

    try:
        reconstruction = pycolmap.Reconstruction(str(model))
    except Exception as error:  # pycolmap passes on whatever its C++ raises
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{model}: not a COLMAP model that can be read ({reason})") from error
    images = [image for _, image in sorted(reconstruction.images.items()) if image.has_pose]
    if not images:
        raise UserError(f"{model}: a COLMAP model without a registered image; run COLMAP's mapper again")
    cameras = tuple(_camera(model, image, reconstruction.cameras[image.camera_id]) for image in images)
    points = [point for _, point in sorted(reconstruction.points3D.items())]
    if not points:
        return CameraSet(cameras)
    positions = np.array([point.xyz for point in points], np.float32)
    colors = np.array([point.color for point in points], np.float32) / 255
    return CameraSet(cameras, PointCloud(torch.from_numpy(positions), torch.from_numpy(colors)))


def _camera(model: Path, image: Any, camera: Any) -> PosedCamera:
    where = f"{model}: image {image.name}"
    extra = [float(camera.params[index]) for index in camera.extra_params_idxs()]
    if any(abs(value) > _NO_DISTORTION for value in extra) or "FISHEYE" in camera.model.name:
        raise UserError(
            f"{where}: its camera model {camera.model.name} has lens distortion;"
            " run `colmap image_undistorter` and use its photos and model"
        )
    pose: Any = image.cam_from_world
    if callable(pose):  # a property in older versions
        pose = pose()
    cam_from_world = np.eye(4)
    cam_from_world[:3] = pose.matrix()
    intrinsics = np.asarray(camera.calibration_matrix(), np.float64)
    size_hw = (int(camera.height), int(camera.width))
    check_pinhole(where, intrinsics, size_hw)
    return PosedCamera(image.name, check_pose(where, cam_from_world), intrinsics, size_hw)
