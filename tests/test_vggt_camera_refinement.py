"""Matched pixels and camera refinement: exact matches recover the true cameras, none leave the camera head's."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.transform import Rotation

from tokengroups.geometry import project, rigid, transform_points, unproject
from tokengroups.types import Cameras
from tokengroups.vggt.camera_refinement import (
    RefinementSettings,
    _exponential,
    _Frame,
    _pair_equations,
    refine_cameras,
)
from tokengroups.vggt.correspondences import PixelMatches, cell_matches, patch_matches

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
        "depth": depth[None],
        "match_logits": torch.stack([identity, exact_match_logits(depth[1], TRUE)])[None],
    }


def refine(
    scene: dict[str, torch.Tensor], second: torch.Tensor = WRONG, zoom: float = 1.0, **settings
) -> Cameras:
    """Refine from a wrong pose of the second view and wrong focal lengths."""
    views = scene["depth"].shape[1]
    poses = torch.stack([torch.eye(4), second])[:views].expand(len(scene["depth"]), -1, -1, -1)
    intrinsics = INTRINSICS * torch.tensor([zoom, zoom, 1.0]).diag().where(torch.eye(3) > 0, torch.ones(()))
    cameras = Cameras(poses, intrinsics.expand(*poses.shape[:2], 3, 3), (SIZE, SIZE))
    return refine_cameras(cameras=cameras, settings=RefinementSettings(**settings), **scene)


def errors(refined: torch.Tensor) -> tuple[float, float]:
    """Rotation in radians and translation of the second view's pose."""
    turn = Rotation.from_matrix((refined[0, 1, :3, :3] @ TRUE[:3, :3].T).numpy()).magnitude()
    return turn, (refined[0, 1, :3, 3] - TRUE[:3, 3]).norm().item()


def start(second: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.eye(4), second])[None]


@pytest.mark.parametrize("search_px", [(), (5, 3)], ids=["cells", "cells and patches"])
def test_matches_recover_the_pose(scene, search_px):
    refined = refine(scene, iterations=10, search_px=search_px, cell_evidence=1.0, prior_focal=1e-3)
    assert torch.equal(refined.cam_from_world[0, 0], torch.eye(4))
    (turn, shift), (turn_before, shift_before) = errors(refined.cam_from_world), errors(start(WRONG))
    assert turn < 0.15 * turn_before and shift < 0.3 * shift_before, (turn, shift)
    rotation = refined.cam_from_world[0, 1, :3, :3]
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("zoom", [0.93, 1.07])
def test_matches_recover_the_focal_length(scene, zoom):
    """Also with wrong poses; both views get the same factor and keep their principal points."""
    refined = refine(scene, zoom=zoom, iterations=20, cell_evidence=1.0, patch_evidence=1.0, prior_focal=0.5)
    wrong = abs(zoom - 1) * 60
    assert (refined.intrinsics[..., 0, 0] - 60).abs().max() < 0.5 * wrong, refined.intrinsics[..., 0, 0]
    unchanged = INTRINSICS.expand(1, 2, 3, 3).clone()
    unchanged[..., [0, 1], [0, 1]] = refined.intrinsics[:, :1, :1, 0]
    torch.testing.assert_close(refined.intrinsics, unchanged)
    assert errors(refined.cam_from_world)[0] < 0.3 * errors(start(WRONG))[0]


def test_the_equations_are_the_derivatives_of_the_residuals(scene):
    """Column by column against finite differences in float64, with weights that do not depend on the residual."""
    scene = {name: value.double() for name, value in scene.items()}
    frames = [
        _Frame(image, depth, INTRINSICS.double())
        for image, depth in zip(scene["images"][0], scene["depth"][0], strict=True)
    ]
    pixels = torch.tensor([[10.0, 12.0], [40.0, 30.0], [50.0, 55.0]], dtype=torch.float64)
    matches = PixelMatches(pixels, pixels + 1, torch.ones(3, dtype=torch.float64))

    def cost(move: torch.Tensor) -> torch.Tensor:
        first, other = (frame.zoomed(move[6]) for frame in frames)
        pose = _exponential(move[:6]) @ WRONG.double()
        there = first.project(transform_points(torch.linalg.inv(pose), other.lift(pixels)))
        back = other.project(transform_points(pose, first.lift(pixels)))
        return (there - matches.target).square().sum() / 2 + (back - matches.target).square().sum() / 2

    # No depth noise and far-away Cauchy tails: the cost is a plain sum of squares divided by the noise's variance.
    noise = 1e4
    settings = RefinementSettings(depth_noise=1e-9)
    _, gradient = _pair_equations(*frames, WRONG.double(), (matches, matches), noise, 1.0, settings)
    zero, step = torch.zeros(7, dtype=torch.float64), 1e-6 * torch.eye(7, dtype=torch.float64)
    numeric = torch.stack([(cost(zero + d) - cost(zero - d)) / 2e-6 for d in step])
    torch.testing.assert_close(gradient * noise**2, numeric, rtol=1e-4, atol=1e-3)


def test_patches_correct_what_cells_that_know_nothing_leave(scene):
    scene["match_logits"] = torch.zeros_like(scene["match_logits"])
    turn, shift = errors(refine(scene, cell_evidence=0.0).cam_from_world)
    assert turn < 0.3 * errors(start(WRONG))[0] and shift < 0.6 * errors(start(WRONG))[1], (turn, shift)


def test_a_wrong_depth_moves_the_pose_little(scene):
    """Depth errors act along the epipolar lines only, and the noise model expects them."""
    wobble = 1 + 0.08 * torch.sin(torch.arange(SIZE) / 5.0)
    turn, shift = errors(refine({**scene, "depth": scene["depth"] * wobble}).cam_from_world)
    assert turn < 0.7 * errors(start(WRONG))[0], (turn, shift)


def test_without_evidence_the_cameras_stay(scene):
    scene["images"] = torch.full_like(scene["images"], 0.5)  # flat patches weigh nothing
    refined = refine(scene, cell_evidence=0.0)
    torch.testing.assert_close(refined.cam_from_world, start(WRONG), rtol=0, atol=1e-5)
    torch.testing.assert_close(refined.intrinsics, INTRINSICS.expand(1, 2, 3, 3))


def test_a_single_view_and_a_batch(scene):
    single = refine({name: value[:, :1] for name, value in scene.items()}, zoom=1.1)
    assert torch.equal(single.cam_from_world[0, 0], torch.eye(4))
    torch.testing.assert_close(single.intrinsics[0, 0, 0, 0], torch.tensor(66.0))
    one = refine(scene)
    many = refine({name: value.expand(3, *value.shape[1:]) for name, value in scene.items()})
    torch.testing.assert_close(many.cam_from_world, one.cam_from_world.expand(3, -1, -1, -1))
    torch.testing.assert_close(many.intrinsics, one.intrinsics.expand(3, -1, -1, -1))


def test_views_share_one_focal_length_and_keep_their_own_poses(scene):
    """The same second view twice: the same pose twice, and more evidence for the focal length."""
    twice = {name: value[:, [0, 1, 1]] for name, value in scene.items()}
    poses = torch.stack([torch.eye(4), WRONG, WRONG])[None]
    intrinsics = INTRINSICS * torch.tensor([[1.07, 1, 1], [1, 1.07, 1], [1, 1, 1]])
    cameras = Cameras(poses, intrinsics.expand(1, 3, 3, 3), (SIZE, SIZE))
    refined, pair = refine_cameras(cameras=cameras, **twice), refine(scene, zoom=1.07)
    torch.testing.assert_close(refined.cam_from_world[0, 1], refined.cam_from_world[0, 2])
    assert (refined.intrinsics[0, :, 0, 0] == refined.intrinsics[0, 0, 0, 0]).all()
    assert abs(refined.intrinsics[0, 0, 0, 0] - 60) < abs(pair.intrinsics[0, 0, 0, 0] - 60)


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
    plain = refine(scene)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = refine(scene)
    assert torch.equal(plain.cam_from_world, under_autocast.cam_from_world)
    assert torch.equal(plain.intrinsics, under_autocast.intrinsics)
    assert errors(plain.cam_from_world)[0] < errors(start(WRONG))[0]


def test_normal_equations_are_those_of_the_explicit_covariances():
    """Match by match: cost r^T C^-1 r with C = noise^2 I + depth_noise^2 a a^T, weighted by Cauchy."""
    generator = torch.Generator().manual_seed(1)
    depth = torch.stack([tilted_plane(torch.eye(4)), tilted_plane(TRUE)]).double()
    first, other = (_Frame(torch.zeros(3, SIZE, SIZE), d, INTRINSICS.double()) for d in depth)
    pixels = [8 + 48 * torch.rand(30, 2, generator=generator, dtype=torch.float64) for _ in range(4)]
    weights = torch.rand(2, 30, generator=generator, dtype=torch.float64)
    matches = tuple(PixelMatches(*pixels[2 * k : 2 * k + 2], weights[k]) for k in range(2))
    cam_pose, settings = WRONG.double(), RefinementSettings(depth_noise=0.1)
    normal, gradient = _pair_equations(first, other, cam_pose, matches, 2.0, 0.3, settings)

    def residuals(move: torch.Tensor) -> torch.Tensor:
        """Of both directions; move = pose, logarithm of the focal length, and of all depths."""
        a, b = first.zoomed(move[6]), other.zoomed(move[6])
        moved = _exponential(move[:6]) @ cam_pose
        to_first, to_other = matches
        in_first = transform_points(torch.linalg.inv(moved), b.lift(to_first.source) * move[7].exp())
        in_other = transform_points(moved, a.lift(to_other.source) * move[7].exp())
        return torch.cat([b.project(in_other) - to_other.target, a.project(in_first) - to_first.target])

    zero = torch.zeros(8, dtype=torch.float64)
    residual, jacobian = residuals(zero), torch.autograd.functional.jacobian(residuals, zero)
    along, evidence = jacobian[..., 7], torch.cat([weights[1], weights[0]])
    covariance = 4 * torch.eye(2) + 0.01 * along[:, :, None] * along[:, None, :]
    expected, slope = torch.zeros_like(normal), torch.zeros_like(gradient)
    for r, j, c, w in zip(residual, jacobian[..., :7], covariance, evidence, strict=True):
        information = torch.linalg.inv(c)
        information = information * 0.3 * w / (1 + r @ information @ r)
        expected, slope = expected + j.T @ information @ j, slope + j.T @ information @ r
    torch.testing.assert_close(
        normal, expected, rtol=1e-5, atol=1e-6
    )  # WRONG is a rotation to single precision
    torch.testing.assert_close(gradient, slope, rtol=1e-5, atol=1e-6)
