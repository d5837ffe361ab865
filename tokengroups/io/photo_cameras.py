"""Given cameras of loaded photos: for the model's images, and for the photos as their EXIF tag turns them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.images import Photo, Photos
from tokengroups.io.orientation import upright_from_stored
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.io.posed_photos import same_aspect
from tokengroups.reading import shown


def cameras_of_photos(
    photos: Photos, cameras: Mapping[Path, PosedCamera]
) -> tuple[Float[Tensor, "V 4 4"], Float[Tensor, "V 3 3"]]:
    """Poses, float64, in the cameras' world, and intrinsics, float32, in pixels of the model's images.

    Most camera files ignore EXIF tags. A camera is for the stored photo, unless it says otherwise or its shape is
    that of the upright photo alone; it is turned with its photo.

    Args:
        photos: Photos as `load_photos` gives them.
        cameras: By the files of the photos, one for each.

    Raises:
        UserError: A photo of another shape than its camera's, or one that its tag mirrors.
    """
    poses, matrices = zip(*(_camera(photo, cameras[photo.path]) for photo in photos.photos), strict=True)
    return torch.from_numpy(np.stack(poses)), torch.from_numpy(np.stack(matrices)).float()


def _camera(photo: Photo, camera: PosedCamera) -> tuple[np.ndarray, np.ndarray]:
    """Pose and intrinsics of one photo."""
    height, width = photo.size_hw
    sideways = photo.exif_orientation >= 5
    stored_hw = (width, height) if sideways else (height, width)
    wanted = camera.size_hw
    upright = camera.upright or (wanted is not None and not same_aspect(wanted, stored_hw))
    own_hw = photo.size_hw if upright else stored_hw
    if wanted is not None and not same_aspect(wanted, own_hw):
        expected = f"its camera is for {wanted[1]}x{wanted[0]}"
        cure = "give the photo that it belongs to"
        raise UserError(f"{shown(photo.path)}: {width}x{height} pixels, but {expected}; {cure}")
    pinhole, pose = camera.pinhole(own_hw), camera.cam_from_world
    if not upright and photo.exif_orientation > 1:
        pixels = upright_from_stored(photo.exif_orientation, stored_hw)
        turn = np.eye(4)
        turn[:2, :2] = pixels[:2, :2]
        if np.linalg.det(turn) < 0:
            mirrored = f"EXIF orientation {photo.exif_orientation} mirrors it, and its camera is for the stored photo"
            raise UserError(f"{shown(photo.path)}: {mirrored}; save it upright")
        pinhole, pose = pixels @ pinhole @ turn[:3, :3].T, turn @ pose
    return pose, np.linalg.inv(photo.photo_from_model) @ pinhole
