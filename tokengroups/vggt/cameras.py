"""From VGGT's pose encodings to this package's cameras (first pixel's centre at (0.5, 0.5))."""

from __future__ import annotations

from tokengroups.nn.pose_encoding import decode_pose
from tokengroups.types import Cameras, EncoderOutput


def encoder_cameras(output: EncoderOutput, size_hw: tuple[int, int]) -> Cameras:
    """Predicted cameras, batch axes B V, for images of `size_hw`; the principal point is the image centre."""
    cam_from_world, intrinsics = decode_pose(output.pose_encodings[-1].float(), size_hw)
    return Cameras(cam_from_world, intrinsics, size_hw)
