"""Geometry metrics against plain loops, and their invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from tests.tolerances import tolerance
from tokengroups.evaluation.geometry_metrics import (
    GeometryMetrics,
    direction_angle_deg,
    geometry_metrics,
    rotation_angle_deg,
)  # fmt: skip
from tokengroups.evaluation.scene_numbers import summarise
from tokengroups.types import Cameras

SIZE, VIEWS = (6, 8), 3


def scene(seed: int) -> tuple[Tensor, Cameras]:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (VIEWS, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(0.4 * rng.normal(size=(VIEWS, 3))).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(VIEWS, 3))
    intrinsics = np.tile(np.array([[9.0, 0, 4.2], [0, 8.0, 2.9], [0, 0, 1]]), (VIEWS, 1, 1))
    depth = rng.uniform(1, 3, size=(VIEWS, *SIZE))
    depth[rng.random(depth.shape) < 0.1] = 0
    cameras = Cameras(torch.from_numpy(poses), torch.from_numpy(intrinsics), SIZE)
    return torch.from_numpy(depth), cameras


def points_by_loops(depth: Tensor, cameras: Cameras) -> np.ndarray:
    """Every pixel's point in the frame of camera 0, one at a time."""
    points = np.zeros((VIEWS, *SIZE, 3))
    first = cameras.cam_from_world[0].numpy()
    for v in range(VIEWS):
        world_from_cam = np.linalg.inv(cameras.cam_from_world[v].numpy())
        k_inverse = np.linalg.inv(cameras.intrinsics[v].numpy())
        for i in range(SIZE[0]):
            for j in range(SIZE[1]):
                in_cam = k_inverse @ np.array([j + 0.5, i + 0.5, 1.0]) * float(depth[v, i, j])
                points[v, i, j] = (first @ world_from_cam @ np.append(in_cam, 1.0))[:3]
    return points


def test_metrics_equal_plain_loops() -> None:
    true_depth, true_cameras = scene(0)
    depth, cameras = scene(1)
    depth = depth.clamp(min=0.5)
    result = geometry_metrics(depth, cameras, true_depth, true_cameras)
    valid = (true_depth > 0).numpy()
    predicted, true = points_by_loops(depth, cameras)[valid], points_by_loops(true_depth, true_cameras)[valid]
    ratios = sorted(np.linalg.norm(t) / np.linalg.norm(p) for p, t in zip(predicted, true, strict=True))
    scale = ratios[(len(ratios) - 1) // 2]
    errors = [np.linalg.norm(scale * p - t) for p, t in zip(predicted, true, strict=True)]
    assert result.point_error == pytest.approx(np.mean(errors) / np.mean(np.linalg.norm(true, axis=-1)), rel=1e-9)
    relative = np.abs(scale * depth.numpy() - true_depth.numpy())[valid] / true_depth.numpy()[valid]
    assert result.depth_absrel == pytest.approx(relative.mean(), rel=1e-9)
    angles, directions, lengths = [], [], []
    for v in range(1, VIEWS):
        between, moves = [], []
        for c in (cameras.cam_from_world.numpy(), true_cameras.cam_from_world.numpy()):
            relative_pose = c[v] @ np.linalg.inv(c[0])
            between.append(Rotation.from_matrix(relative_pose[:3, :3]))
            moves.append(np.linalg.inv(relative_pose)[:3, 3])
        angles.append(np.degrees((between[0] * between[1].inv()).magnitude()))
        cosine = moves[0] @ moves[1] / np.linalg.norm(moves[0]) / np.linalg.norm(moves[1])
        directions.append(np.degrees(np.arccos(cosine)))
        lengths.append(scale * np.linalg.norm(moves[0]) / np.linalg.norm(moves[1]))
    assert result.rotation_error_deg == pytest.approx(min(angles), rel=1e-6)  # torch's median of two is the lower
    assert result.translation_error_deg == pytest.approx(min(directions), rel=1e-6)
    assert result.translation_length_ratio == pytest.approx(min(lengths), rel=1e-9)


def test_a_perfect_answer_in_another_world_and_unit_is_perfect() -> None:
    true_depth, true_cameras = scene(2)
    world_from_other = torch.eye(4, dtype=torch.float64)
    world_from_other[:3, :3] = torch.from_numpy(Rotation.from_rotvec([0.3, -1.2, 0.5]).as_matrix())
    world_from_other[:3, 3] = torch.tensor([3.0, -1.0, 2.0])
    poses = true_cameras.cam_from_world @ world_from_other
    poses[:, :3, 3] *= 0.25
    result = geometry_metrics(
        0.25 * true_depth, Cameras(poses, true_cameras.intrinsics, SIZE), true_depth, true_cameras
    )
    assert result.depth_absrel < 1e-12 and result.point_error < 1e-12
    assert result.rotation_error_deg < 1e-5 and result.translation_error_deg < 1e-5
    assert result.translation_length_ratio == pytest.approx(1)


def test_rotation_angle_is_exact_at_both_ends() -> None:
    angles = torch.tensor([0.0, 1e-7, 1e-3, 1.0, math.pi - 1e-7, math.pi], dtype=torch.float64)
    turned = torch.from_numpy(Rotation.from_rotvec(np.outer(angles.numpy(), [0.6, 0.0, 0.8])).as_matrix())
    found = torch.deg2rad(rotation_angle_deg(turned, torch.eye(3, dtype=torch.float64).expand(6, 3, 3)))
    torch.testing.assert_close(found, angles, **tolerance("float64"))


def test_no_motion_has_no_direction() -> None:
    angle = direction_angle_deg(torch.tensor([[1.0, 0, 0], [0, 2.0, 0]]), torch.tensor([[0.0, 0, 0], [3.0, 0, 0]]))
    assert angle[0].isnan() and angle[1] == pytest.approx(90)


def test_one_view_has_no_camera_errors_and_unknown_depth_no_numbers() -> None:
    depth, cameras = scene(3)
    one = Cameras(cameras.cam_from_world[:1], cameras.intrinsics[:1], SIZE)
    result = geometry_metrics(depth[:1], one, depth[:1], one)
    assert result.point_error == 0 and math.isnan(result.rotation_error_deg)
    unknown = geometry_metrics(depth, cameras, torch.zeros_like(depth), cameras)
    assert math.isnan(unknown.point_error) and math.isnan(unknown.depth_absrel)


def test_summary_takes_means_of_depth_and_medians_of_cameras() -> None:
    nan = float("nan")
    scenes = [
        GeometryMetrics(0.1, 0.2, 1, 10, 0.5),
        GeometryMetrics(0.3, nan, 2, 20, 1),
        GeometryMetrics(0.2, 0.4, 9, nan, 2),
    ]
    assert summarise([vars(scene) for scene in scenes]) == pytest.approx(
        {
            "depth_absrel": 0.2, "point_error": 0.3, "rotation_error_deg": 2,
            "translation_error_deg": 10, "translation_length_ratio": 1,
        }
    )  # fmt: skip
