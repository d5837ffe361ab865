"""Rigid motions and projection: round trips, scipy as oracle, hand-computed pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tokengroups import geometry


def random_rigid(*batch: int, seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    count = int(np.prod(batch))
    rotation = Rotation.random(count, rng=generator).as_matrix().reshape(*batch, 3, 3)
    translation = generator.normal(size=(*batch, 3))
    return geometry.rigid(torch.tensor(rotation), torch.tensor(translation))


def test_inverse_undoes_a_rigid_motion():
    motion = random_rigid(4, 3)
    identity = torch.eye(4, dtype=motion.dtype).expand(4, 3, 4, 4)
    torch.testing.assert_close(geometry.invert_rigid(motion) @ motion, identity)


def test_composition_maps_points_in_order():
    b_from_a, c_from_b = random_rigid(5, seed=1), random_rigid(5, seed=2)
    points = torch.randn(5, 10, 3, dtype=torch.float64)
    in_order = geometry.transform_points(c_from_b, geometry.transform_points(b_from_a, points))
    torch.testing.assert_close(geometry.transform_points(c_from_b @ b_from_a, points), in_order)


def test_quaternions_agree_with_scipy_both_ways():
    rotations = Rotation.random(200, rng=np.random.default_rng(3))
    xyzw = rotations.as_quat()
    wxyz = torch.tensor(xyzw[:, [3, 0, 1, 2]])
    matrices = torch.tensor(rotations.as_matrix())
    torch.testing.assert_close(geometry.rotation_from_quaternion(2.5 * wxyz), matrices)
    torch.testing.assert_close(geometry.quaternion_from_rotation(matrices), wxyz * wxyz[:, :1].sign())


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_half_turns_are_well_conditioned(axis):
    matrix = torch.tensor(Rotation.from_rotvec(np.pi * np.array(axis)).as_matrix())
    quat = geometry.quaternion_from_rotation(matrix)
    torch.testing.assert_close(geometry.rotation_from_quaternion(quat), matrix)


def test_quaternion_product_is_composition():
    left, right = (Rotation.random(50, rng=np.random.default_rng(4)), Rotation.random(50, rng=np.random.default_rng(5)))
    product = geometry.multiply_quaternions(*(torch.tensor(r.as_quat()[:, [3, 0, 1, 2]]) for r in (left, right)))
    torch.testing.assert_close(geometry.rotation_from_quaternion(product), torch.tensor((left * right).as_matrix()))


def test_first_pixel_centre_is_at_one_half():
    centres = geometry.pixel_centres((2, 3), torch.zeros(1))
    assert centres.shape == (2, 3, 2)
    assert centres[0, 0].tolist() == [0.5, 0.5]
    assert centres[1, 2].tolist() == [2.5, 1.5]


def test_projection_inverts_unprojection():
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(2, 5, 7, generator=generator, dtype=torch.float64) + 0.5
    intrinsics = torch.tensor([[4.0, 0, 3.2], [0, 5.0, 2.1], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    cam_from_world = random_rigid(2)
    points = geometry.world_points(depth, cam_from_world, intrinsics).flatten(1, 2)
    pixels, z = geometry.project(geometry.transform_points(cam_from_world, points), intrinsics)
    torch.testing.assert_close(z.view_as(depth), depth)
    expected = geometry.pixel_centres((5, 7), depth).expand(2, -1, -1, -1)
    torch.testing.assert_close(pixels.view(2, 5, 7, 2), expected)


def test_mean_distance_counts_valid_points_only():
    points = torch.tensor([[[3.0, 4, 0], [0, 0, 1], [100, 0, 0]]])
    valid = torch.tensor([[True, True, False]])
    torch.testing.assert_close(geometry.mean_distance(points, valid), torch.tensor([6.0 / 2.001]))


def test_median_distance_ratio_recovers_a_scale_among_outliers():
    reference = torch.randn(3, 101, 3, generator=torch.Generator().manual_seed(1))
    points = reference * torch.tensor([0.5, 2.0, 7.0])[:, None, None]
    points[:, :20] *= 50
    valid = torch.ones(3, 101, dtype=torch.bool)
    torch.testing.assert_close(geometry.median_distance_ratio(points, reference, valid), torch.tensor([0.5, 2.0, 7.0]))
    assert geometry.median_distance_ratio(points, reference, ~valid).tolist() == [1, 1, 1]


def test_relative_cameras_put_the_first_at_the_origin():
    cameras = random_rigid(2, 4)
    scale = torch.tensor([1.0, 3.0], dtype=torch.float64)
    relative = geometry.relative_cameras(cameras, cameras[:, 0], scale)
    torch.testing.assert_close(relative[:, 0], torch.eye(4, dtype=torch.float64).expand(2, 4, 4))
    true_motion = cameras @ geometry.invert_rigid(cameras[:, :1])
    torch.testing.assert_close(relative[..., :3, :3], true_motion[..., :3, :3])
    torch.testing.assert_close(relative[..., :3, 3], true_motion[..., :3, 3] * scale[:, None, None])


def test_rotation_vectors_are_those_of_scipy():
    vectors = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    vectors[0, 0] = 0
    expected = Rotation.from_rotvec(vectors.reshape(-1, 3).numpy()).as_matrix().reshape(3, 4, 3, 3)
    torch.testing.assert_close(geometry.rotation_from_vector(vectors), torch.from_numpy(expected))
    along = torch.tensor([0.3, -0.2, 0.5]), torch.tensor([1.0, 2.0, -1.0])
    torch.testing.assert_close(geometry.cross_matrix(along[0]) @ along[1], torch.linalg.cross(*along))
