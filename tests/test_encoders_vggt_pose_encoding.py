"""Pose encodings: round trips, order of the nine numbers, degenerate answers."""

from __future__ import annotations

import math

import torch
from scipy.spatial.transform import Rotation

from tokengroups.encoders.vggt.pose_encoding import MIN_FIELD_OF_VIEW, decode_pose, encode_pose
from tokengroups.geometry import rigid


def random_cameras(count):
    rotation = torch.from_numpy(Rotation.random(count, random_state=0).as_matrix())
    focal = torch.rand(count, 2, dtype=torch.float64) * 50 + 30
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = focal.unbind(-1)
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = 40.0, 24.0
    return rigid(rotation, torch.randn(count, 3, dtype=torch.float64)), intrinsics


def test_decoding_inverts_encoding():
    cam_from_world, intrinsics = random_cameras(50)
    decoded = decode_pose(encode_pose(cam_from_world, intrinsics, (48, 80)), (48, 80))
    torch.testing.assert_close(decoded[0], cam_from_world, rtol=0, atol=1e-10)
    torch.testing.assert_close(decoded[1], intrinsics, rtol=1e-10, atol=1e-10)


def test_order_is_translation_quaternion_with_w_last_vertical_then_horizontal_angle():
    cam_from_world, intrinsics = random_cameras(20)
    encoding = encode_pose(cam_from_world, intrinsics, (48, 80))
    quats = torch.from_numpy(Rotation.from_matrix(cam_from_world[:, :3, :3].numpy()).as_quat(canonical=True))
    assert torch.equal(encoding[:, :3], cam_from_world[:, :3, 3])
    torch.testing.assert_close(encoding[:, 3:7], quats, rtol=0, atol=1e-10)
    for row, matrix in zip(encoding, intrinsics, strict=True):
        assert math.isclose(row[7], 2 * math.atan2(24.0, matrix[1, 1]))
        assert math.isclose(row[8], 2 * math.atan2(40.0, matrix[0, 0]))


def test_length_and_sign_of_the_quaternion_do_not_matter():
    encoding = torch.tensor([0.1, 0.2, 0.3, 0.1, -0.5, 0.2, 0.7, 1.0, 1.2], dtype=torch.float64)
    scaled = encoding.clone()
    scaled[3:7] *= -3.0
    torch.testing.assert_close(decode_pose(scaled, (10, 10)), decode_pose(encoding, (10, 10)))


def test_a_field_of_view_of_zero_gives_a_long_but_finite_lens():
    encoding = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, 0, 4.0])
    _, intrinsics = decode_pose(encoding, (100, 100))
    assert math.isclose(intrinsics[1, 1], 50 / math.tan(MIN_FIELD_OF_VIEW / 2), rel_tol=1e-5)
    assert intrinsics.isfinite().all() and intrinsics[0, 0] > 0
