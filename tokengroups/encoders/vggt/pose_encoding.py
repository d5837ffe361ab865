"""VGGT's nine numbers per camera and the pinhole camera they stand for (Wang et al. 2025, section 3.1).

encoding = [translation x y z | quaternion x y z w | vertical field of view | horizontal field of view] of
the camera-from-world motion, OpenCV axes; angles in radians; the principal point is the image centre.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import quaternion_from_rotation, rigid, rotation_from_quaternion

TRANSLATION, ROTATION, FIELD_OF_VIEW = slice(0, 3), slice(3, 7), slice(7, 9)
ENCODING_DIM = 9
# The network's ReLU can answer a field of view of 0, an infinite focal length; 0.02 rad is 1.1 degrees.
MIN_FIELD_OF_VIEW = 0.02
MAX_FIELD_OF_VIEW = 3.1


def encode_pose(
    cam_from_world: Float[Tensor, "*b 4 4"], intrinsics: Float[Tensor, "*b 3 3"], size_hw: tuple[int, int]
) -> Float[Tensor, "*b 9"]:
    """Pose encoding of cameras; the quaternion has unit length and w >= 0, the principal point is lost."""
    quats = quaternion_from_rotation(cam_from_world[..., :3, :3])
    focal_yx = torch.stack([intrinsics[..., 1, 1], intrinsics[..., 0, 0]], dim=-1)
    fov = 2 * torch.atan(focal_yx.new_tensor(size_hw) / 2 / focal_yx)
    return torch.cat([cam_from_world[..., :3, 3], quats.roll(-1, dims=-1), fov], dim=-1)


def decode_pose(
    encoding: Float[Tensor, "*b 9"], size_hw: tuple[int, int]
) -> tuple[Float[Tensor, "*b 4 4"], Float[Tensor, "*b 3 3"]]:
    """Cameras of pose encodings.

    Args:
        encoding: Quaternions of any non-zero length; fields of view are clamped to [0.02, 3.1] rad.
        size_hw: Height and width in pixels of the image that the intrinsics are for.

    Returns:
        cam_from_world and intrinsics (pixels, principal point at (W/2, H/2)).
    """
    quats = encoding[..., ROTATION].roll(1, dims=-1)
    cam_from_world = rigid(rotation_from_quaternion(quats), encoding[..., TRANSLATION])
    fov = encoding[..., FIELD_OF_VIEW].clamp(MIN_FIELD_OF_VIEW, MAX_FIELD_OF_VIEW)
    half_hw = encoding.new_tensor(size_hw) / 2
    fy, fx = (half_hw / torch.tan(fov / 2)).unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = [fx, zero, half_hw[1].expand_as(fx), zero, fy, half_hw[0].expand_as(fy), zero, zero, one]
    return cam_from_world, torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
