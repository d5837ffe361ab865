"""Given cameras of loaded photos, for the model's images, which lose their lens distortion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.io.images import Photo, Photos
from tokengroups.io.lenses import Lens, undistort_photo
from tokengroups.io.orientation import upright_from_stored
from tokengroups.io.pixels import same_aspect
from tokengroups.io.posed_cameras import PosedCamera
from tokengroups.reading import shown


def pose_photos(
    photos: Photos, cameras: Mapping[Path, PosedCamera]
) -> tuple[Photos, Float[Tensor, "V 4 4"], Float[Tensor, "V 3 3"]]:
    """Photos without lens distortion, poses, float64, in the cameras' world, and intrinsics of the model's images.

    Most camera files ignore EXIF tags. A camera is for the stored photo, unless it says otherwise or its shape is
    that of the upright photo alone; it is turned with its photo. Pixels that a lens shows nothing for do not count.

    Args:
        photos: Photos as `load_photos` gives them.
        cameras: By the files of the photos, one for each.

    Raises:
        UserError: A photo of another shape than its camera's, one that its tag mirrors, or whose lens it cannot be.
    """
    images, poses, pinholes, kept = photos.images.clone(), [], [], []
    full = None if photos.full_images is None else photos.full_images.clone()
    mask = torch.ones_like(images[:, 0], dtype=torch.bool) if photos.mask is None else photos.mask.clone()
    for view, photo in enumerate(photos.photos):
        pose, pinhole, lens = _upright_camera(photo, cameras[photo.path])
        intrinsics = np.linalg.inv(photo.photo_from_model) @ pinhole
        if lens is not None:
            images[view], seen = _straight(photo, images[view], lens, intrinsics)
            mask[view] &= seen
            if full is not None:
                finer = np.diag([full.shape[-1] / images.shape[-1], full.shape[-2] / images.shape[-2], 1.0])
                full[view], _ = _straight(photo, full[view], lens, finer @ intrinsics)
            (height, width), ((fx, _, cx), (_, fy, cy), _) = photo.size_hw, pinhole.tolist()
            photo = replace(photo, lens=lens, pinhole=(fx / width, fy / height, cx / width, cy / height))
        poses.append(pose)
        pinholes.append(intrinsics)
        kept.append(photo)
    some = None if bool(mask.all()) else mask
    straight = replace(photos, images=images, photos=tuple(kept), mask=some, full_images=full)
    return straight, torch.from_numpy(np.stack(poses)), torch.from_numpy(np.stack(pinholes)).float()


def _straight(
    photo: Photo, image: Float[Tensor, "3 H W"], lens: Lens, intrinsics: Float[np.ndarray, "3 3"]
) -> tuple[Float[Tensor, "3 H W"], Bool[Tensor, "H W"]]:
    """The model's image without lens distortion, and the pixels that it has something for."""
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    try:
        straight, seen = undistort_photo(pixels, lens, intrinsics)
    except UserError as error:
        raise UserError(f"{shown(photo.path)}: {error}; are the coefficients right?") from None
    return torch.from_numpy(straight).permute(2, 0, 1).float() / 255, torch.from_numpy(seen.copy())


def _upright_camera(photo: Photo, camera: PosedCamera) -> tuple[np.ndarray, np.ndarray, Lens | None]:
    """Pose, intrinsics and lens for one upright photo."""
    height, width = photo.size_hw
    stored_hw = (width, height) if photo.exif_orientation >= 5 else (height, width)
    wanted = camera.size_hw
    upright = camera.upright or (wanted is not None and not same_aspect(wanted, stored_hw))
    own_hw = photo.size_hw if upright else stored_hw
    if wanted is not None and not same_aspect(wanted, own_hw):
        expected = f"its camera is for {wanted[1]}x{wanted[0]}"
        cure = "give the photo that it belongs to"
        raise UserError(f"{shown(photo.path)}: {width}x{height} pixels, but {expected}; {cure}")
    pinhole, pose, lens = camera.pinhole(own_hw), camera.cam_from_world, camera.lens
    if upright or photo.exif_orientation == 1:
        return pose, pinhole, lens
    pixels = upright_from_stored(photo.exif_orientation, stored_hw)
    turn = np.eye(4)
    turn[:2, :2] = pixels[:2, :2]
    if np.linalg.det(turn) < 0:
        mirrored = f"EXIF orientation {photo.exif_orientation} mirrors it, and its camera is for the stored photo"
        raise UserError(f"{shown(photo.path)}: {mirrored}; save it upright")
    if lens is not None:  # the tangential part is along (p2, p1)
        p2, p1 = pixels[:2, :2] @ lens.tangential[::-1]
        lens = replace(lens, tangential=(float(p1), float(p2)))
    return turn @ pose, pixels @ pinhole @ turn[:3, :3].T, lens
