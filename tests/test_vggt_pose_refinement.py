"""Pose refinement on exact matches recovers the true pose; with none it leaves the camera head's."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.transform import Rotation

from tokengroups.geometry import project, rigid, transform_points, unproject
from tokengroups.vggt.pose_refinement import RefinementSettings, correspondences, refine_poses

SIZE, CELLS = 64, 16  # pixels and cells a side
INTRINSICS = torch.tensor([[60.0, 0, 32], [0, 60.0, 32], [0, 0, 1]])


def pose(rotvec: list[float], translation: list[float]) -> torch.Tensor:
    return rigid(torch.tensor(Rotation.from_rotvec(rotvec).as_matrix()).float(), torch.tensor(translation))


def tilted_plane(cam_from_first: torch.Tensor) -> torch.Tensor:
    """Depth of the plane z = 2 + 0.3 x - 0.2 y of view 0, seen from another camera."""
    normal, offset = torch.tensor([-0.3, 0.2, 1.0]), 2.0
    rays = unproject(torch.ones(SIZE, SIZE), INTRINSICS).flatten(0, 1)
    rotation, translation = cam_from_first[:3, :3], cam_from_first[:3, 3]
    along = (rays @ rotation) @ normal
    start = -(rotation.T @ translation) @ normal
    return ((offset - start) / along).view(SIZE, SIZE)


def exact_match_logits(depth: torch.Tensor, cam_from_first: torch.Tensor) -> torch.Tensor:
    """Logits whose distribution around the peak has its mean at the true subcell position."""
    cell = SIZE / CELLS
    y, x = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    grid = torch.stack([x, y], -1).flatten(0, 1).float()
    pixels = (grid + 0.5) * cell
    points = unproject(depth, INTRINSICS)
    at = points.view(CELLS, int(cell), CELLS, int(cell), 3)[:, 1:3, :, 1:3].mean(dim=(1, 3)).flatten(0, 1)
    assert torch.allclose(project(at, INTRINSICS)[0], pixels, atol=0.05)
    in_first = transform_points(torch.linalg.inv(cam_from_first), at)
    target = project(in_first, INTRINSICS)[0] / cell - 0.5
    weights = (1 - (target[:, None] - grid).abs()).clamp_min(0).prod(dim=-1)  # bilinear
    seen = weights.sum(dim=-1, keepdim=True) > 0.999
    return torch.where(seen, (weights + 1e-12).log(), torch.zeros(()))


TRUE = pose([0.02, -0.15, 0.01], [0.3, -0.02, 0.05])


@pytest.fixture
def inputs():
    depth = torch.stack([tilted_plane(torch.eye(4)), tilted_plane(TRUE)])
    identity = torch.eye(CELLS**2) * 20
    logits = torch.stack([identity, exact_match_logits(depth[1], TRUE)])
    return depth[None], logits[None], INTRINSICS.expand(1, 2, 3, 3)


def test_exact_matches_recover_the_pose(inputs):
    depth, logits, intrinsics = inputs
    wrong = torch.stack([torch.eye(4), pose([0.05, -0.11, -0.01], [0.22, 0.03, 0.02])])[None]
    settings = RefinementSettings(iterations=20, evidence=10.0)
    refined = refine_poses(wrong, intrinsics, depth, logits, settings)[0]
    assert torch.equal(refined[0], torch.eye(4))
    turn = Rotation.from_matrix((refined[1, :3, :3] @ TRUE[:3, :3].T).numpy()).magnitude()
    start = Rotation.from_matrix((wrong[0, 1, :3, :3] @ TRUE[:3, :3].T).numpy()).magnitude()
    assert turn < 0.1 * start
    torch.testing.assert_close(refined[1, :3, 3], TRUE[:3, 3], rtol=0, atol=0.01)
    torch.testing.assert_close(refined[1, :3, :3].T @ refined[1, :3, :3], torch.eye(3), rtol=0, atol=1e-5)


def test_matches_that_know_nothing_leave_the_pose(inputs):
    depth, logits, intrinsics = inputs
    start = torch.stack([torch.eye(4), TRUE])[None]
    refined = refine_poses(start, intrinsics, depth, torch.zeros_like(logits))
    turn = Rotation.from_matrix((refined[0, 1, :3, :3] @ TRUE[:3, :3].T).numpy()).magnitude()
    assert turn < 0.01
    torch.testing.assert_close(refined[0, 1, :3, 3], TRUE[:3, 3], rtol=0, atol=0.02)


def test_a_single_view_and_a_batch(inputs):
    depth, logits, intrinsics = inputs
    start = torch.stack([torch.eye(4), pose([0.0, -0.1, 0.0], [0.2, 0.0, 0.0])])[None]
    assert torch.equal(
        refine_poses(start[:, :1], intrinsics[:, :1], depth[:, :1], logits[:, :1]), start[:, :1]
    )
    one = refine_poses(start, intrinsics, depth, logits)
    three = [value.expand(3, *value.shape[1:]) for value in (start, intrinsics, depth, logits)]
    torch.testing.assert_close(refine_poses(*three), one.expand(3, -1, -1, -1))


def test_correspondences_are_cell_centres_and_local_means():
    logits = torch.full((1, 16, 16), -30.0)
    logits[0, 5, 10] = 0.0  # cell (1, 1) matches cell (row 2, column 2) ...
    logits[0, 5, 11] = 0.0  # ... and its right neighbour, equally
    logits[0, 5, 0] = -1.0  # a far rival is left out of the mean
    pairs = correspondences(logits, (16, 16))
    assert pairs.pixels[0, 5].tolist() == [6.0, 6.0]
    torch.testing.assert_close(pairs.first_pixels[0, 5], torch.tensor([12.0, 10.0]))
    torch.testing.assert_close(pairs.weights[0, 5], torch.tensor(2 / (2 + 0.36788)), rtol=1e-4, atol=1e-4)
