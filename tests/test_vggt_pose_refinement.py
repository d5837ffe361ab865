"""Matched pixels and pose refinement: exact matches recover the true pose, none leave the camera head's."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.transform import Rotation

from tokengroups.geometry import project, rigid, transform_points, unproject
from tokengroups.vggt.correspondences import cell_matches, patch_matches
from tokengroups.vggt.pose_refinement import RefinementSettings, _information, refine_poses

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
WRONG = pose([0.03, -0.13, 0.0], [0.27, 0.0, 0.03])


def photo(depth: torch.Tensor, cam_from_first: torch.Tensor) -> torch.Tensor:
    """A texture that is a function of the surface point, so that both views show the same."""
    points = transform_points(torch.linalg.inv(cam_from_first), unproject(depth, INTRINSICS).flatten(0, 1))
    x, y = points[:, 0], points[:, 1]
    grey = 0.5 + 0.2 * (9 * x + 2 * y).sin() + 0.2 * (3 * x - 11 * y).sin() + 0.1 * (17 * x * y).sin()
    return grey.view(1, SIZE, SIZE).expand(3, -1, -1)


@pytest.fixture
def scene() -> dict[str, torch.Tensor]:
    poses = [torch.eye(4), TRUE]
    depth = torch.stack([tilted_plane(pose) for pose in poses])
    identity = torch.eye(CELLS**2) * 20
    return {
        "images": torch.stack([photo(d, pose) for d, pose in zip(depth, poses, strict=True)])[None],
        "intrinsics": INTRINSICS.expand(1, 2, 3, 3),
        "depth": depth[None],
        "match_logits": torch.stack([identity, exact_match_logits(depth[1], TRUE)])[None],
    }


def errors(refined: torch.Tensor) -> tuple[float, float]:
    """Rotation in radians and translation of the second view's pose."""
    turn = Rotation.from_matrix((refined[0, 1, :3, :3] @ TRUE[:3, :3].T).numpy()).magnitude()
    return turn, (refined[0, 1, :3, 3] - TRUE[:3, 3]).norm().item()


def start(second: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.eye(4), second])[None]


@pytest.mark.parametrize("search_px", [(), (5, 3)], ids=["cells", "cells and patches"])
def test_matches_recover_the_pose(scene, search_px):
    settings = RefinementSettings(iterations=10, search_px=search_px, cell_evidence=1.0)
    refined = refine_poses(cam_from_first=start(WRONG), settings=settings, **scene)
    assert torch.equal(refined[0, 0], torch.eye(4))
    (turn, shift), (turn_before, shift_before) = errors(refined), errors(start(WRONG))
    assert turn < 0.15 * turn_before and shift < 0.3 * shift_before, (turn, shift)
    rotation = refined[0, 1, :3, :3]
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(3), rtol=0, atol=1e-5)


def test_patches_correct_what_cells_that_know_nothing_leave(scene):
    scene["match_logits"] = torch.zeros_like(scene["match_logits"])
    settings = RefinementSettings(cell_evidence=0.0)
    turn, shift = errors(refine_poses(cam_from_first=start(WRONG), settings=settings, **scene))
    assert turn < 0.3 * errors(start(WRONG))[0] and shift < 0.6 * errors(start(WRONG))[1], (turn, shift)


def test_a_wrong_depth_moves_the_pose_little(scene):
    """Depth errors act along the epipolar lines only, and the noise model expects them."""
    wobble = 1 + 0.08 * torch.sin(torch.arange(SIZE) / 5.0)
    wrong = {**scene, "depth": scene["depth"] * wobble}
    turn, shift = errors(refine_poses(cam_from_first=start(WRONG), **wrong))
    assert turn < 0.7 * errors(start(WRONG))[0], (turn, shift)


def test_without_evidence_the_pose_stays(scene):
    scene["images"] = torch.full_like(scene["images"], 0.5)  # flat patches weigh nothing
    settings = RefinementSettings(cell_evidence=0.0)
    refined = refine_poses(cam_from_first=start(WRONG), settings=settings, **scene)
    torch.testing.assert_close(refined, start(WRONG), rtol=0, atol=1e-5)


def test_a_single_view_and_a_batch(scene):
    single = {name: value[:, :1] for name, value in scene.items()}
    assert torch.equal(refine_poses(cam_from_first=torch.eye(4)[None, None], **single)[0, 0], torch.eye(4))
    one = refine_poses(cam_from_first=start(WRONG), **scene)
    three = {name: value.expand(3, *value.shape[1:]) for name, value in scene.items()}
    many = refine_poses(cam_from_first=start(WRONG).expand(3, -1, -1, -1), **three)
    torch.testing.assert_close(many, one.expand(3, -1, -1, -1))


def test_cell_matches_are_cell_centres_and_local_means():
    logits = torch.full((16, 16), -30.0)
    logits[5, 10] = 0.0  # cell (1, 1) matches cell (row 2, column 2) ...
    logits[5, 11] = 0.0  # ... and its right neighbour, equally
    logits[5, 0] = -1.0  # a far rival is left out of the mean
    matches = cell_matches(logits, (16, 16))
    assert matches.target[5].tolist() == [6.0, 6.0]
    torch.testing.assert_close(matches.source[5], torch.tensor([12.0, 10.0]))
    torch.testing.assert_close(matches.weight[5], torch.tensor(2 / (2 + 0.36788)), rtol=1e-4, atol=1e-4)


def test_patches_are_found_at_a_subpixel_shift():
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")

    def image(dx: float, dy: float) -> torch.Tensor:
        u, v = x - dx, y - dy
        return (0.5 + 0.25 * (0.9 * u + 0.3 * v).sin() + 0.2 * (0.4 * u - 0.8 * v).cos()).expand(3, -1, -1)

    pixels = torch.tensor([[20.0, 20.0], [25.0, 30.0]])
    matches = patch_matches(image(0, 0), image(1.4, -0.7), pixels, pixels, radius=3)
    torch.testing.assert_close(
        matches.target - pixels, torch.tensor([[1.4, -0.7]]).expand(2, 2), rtol=0, atol=0.1
    )
    assert (matches.weight > 0.8).all()
    far = patch_matches(image(0, 0), image(1.4, -0.7), pixels, pixels + 40, radius=3)
    assert (far.weight == 0).all()  # outside the photo


def test_autocast_and_points_behind_the_camera_do_no_harm(scene):
    scene["depth"] = scene["depth"].clone()
    scene["depth"][..., :8, :] = 1e-6  # lifts to the camera centre: behind the other camera
    plain = refine_poses(cam_from_first=start(WRONG), **scene)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = refine_poses(cam_from_first=start(WRONG), **scene)
    assert torch.equal(plain, under_autocast)
    assert errors(plain)[0] < errors(start(WRONG))[0]


def test_information_is_the_inverse_covariance():
    along = torch.tensor([[3.0, -4.0], [0.0, 0.0], [1e8, 1e8]], dtype=torch.float64)
    information = _information(along, 2.0, 0.1)
    covariance = 4 * torch.eye(2) + 0.01 * along[:, :, None] * along[:, None, :]
    torch.testing.assert_close(information[:2], torch.linalg.inv(covariance[:2]))
    across = torch.tensor([1.0, -1.0], dtype=torch.float64) / 2**0.5
    torch.testing.assert_close(across @ information[2] @ across, torch.tensor(0.25, dtype=torch.float64))
