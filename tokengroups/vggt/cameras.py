"""From VGGT's answers to this package's cameras and points (first pixel's centre at (0.5, 0.5))."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import world_points
from tokengroups.nn.pose_encoding import decode_pose
from tokengroups.types import Cameras, EncoderOutput


def encoder_cameras(output: EncoderOutput, size_hw: tuple[int, int]) -> Cameras:
    """Predicted cameras, batch axes B V, for images of `size_hw`; the principal point is the image centre."""
    cam_from_world, intrinsics = decode_pose(output.pose_encodings[-1].float(), size_hw)
    return Cameras(cam_from_world, intrinsics, size_hw)


def points_from_depth(output: EncoderOutput) -> Float[Tensor, "B V H W 3"]:
    """World points of the predicted depth and cameras: usually better than the point head's."""
    if output.depth is None:
        raise ValueError("points_from_depth needs a VGGT with enable_depth")
    cameras = encoder_cameras(output, (output.depth.shape[-2], output.depth.shape[-1]))
    return world_points(output.depth, cameras.cam_from_world, cameras.intrinsics)
