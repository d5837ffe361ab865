"""Matched pixels and refinement: exact matches recover true cameras and depth, none leave what the heads predicted."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from tokengroups.geometry import project, rigid, transform_points, unproject
from tokengroups.postprocess.bundle_adjustment.frames import Frame, node_weights
from tokengroups.postprocess.bundle_adjustment.gauss_newton import (
    BundleAdjustmentSettings,
    Estimate,
    ViewMatches,
    _unknowns,
)
from tokengroups.postprocess.bundle_adjustment.patch_matching import (
    PixelMatches,
    SearchedPhoto,
    cell_matches,
    patch_matches,
)
from tokengroups.postprocess.bundle_adjustment.refine import refine_geometry
from tokengroups.postprocess.bundle_adjustment.residuals import Noise, match_equations
from tokengroups.types import Cameras

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


def exact_descriptors(depth: torch.Tensor, cam_from_first: torch.Tensor) -> torch.Tensor:
    """Logits whose distribution around the peak has its mean at the true subcell position: where view 0's are I."""
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
    return torch.where(seen, (weights + 1e-12).log() - math.log(1e-12), torch.zeros(()))


TRUE = pose([0.02, -0.15, 0.01], [0.3, -0.02, 0.05])
WRONG = pose([0.03, -0.13, 0.0], [0.27, 0.0, 0.03])
SO_FAR_OFF = {"rotation_prior_std": 0.05, "translation_prior_std": 0.1}  # what WRONG's error is


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
    return {
        "images": torch.stack([photo(d, pose) for d, pose in zip(depth, poses, strict=True)])[None],
        "depth": depth[None],
        "descriptors": torch.stack([torch.eye(CELLS**2), exact_descriptors(depth[1], TRUE)])[None],
    }


def refine(scene: dict[str, torch.Tensor], second: torch.Tensor = WRONG, zoom: float = 1.0, **settings) -> Cameras:
    """Cameras refined from a wrong pose of the second view and wrong focal lengths."""
    return refine_both(scene, second, zoom, **settings)[0]


def refine_both(
    scene: dict[str, torch.Tensor], second: torch.Tensor = WRONG, zoom: float = 1.0, **settings
) -> tuple[Cameras, torch.Tensor]:
    """The same with the depth."""
    views = scene["depth"].shape[1]
    poses = torch.stack([torch.eye(4), second])[:views].expand(len(scene["depth"]), -1, -1, -1)
    intrinsics = INTRINSICS * torch.tensor([zoom, zoom, 1.0]).diag().where(torch.eye(3) > 0, torch.ones(()))
    cameras = Cameras(poses, intrinsics.expand(*poses.shape[:2], 3, 3), (SIZE, SIZE))
    return refine_geometry(cameras=cameras, settings=BundleAdjustmentSettings(**settings), **scene)


def errors(refined: torch.Tensor) -> tuple[float, float]:
    """Rotation in radians and translation of the second view's pose."""
    turn = Rotation.from_matrix((refined[0, 1, :3, :3] @ TRUE[:3, :3].T).numpy()).magnitude()
    return turn, (refined[0, 1, :3, 3] - TRUE[:3, 3]).norm().item()


def start(second: torch.Tensor) -> torch.Tensor:
    return torch.stack([torch.eye(4), second])[None]


@pytest.mark.parametrize("radii", [(), (5, 3)], ids=["cells", "cells and patches"])
def test_matches_recover_the_pose(scene, radii):
    stds_px = (0.5,) * len(radii)
    refined = refine(
        scene,
        max_iterations=10,
        search_radii_px=radii,
        patch_stds_px=stds_px,
        cell_weight=1.0,
        focal_prior_std=1e-3,
        **SO_FAR_OFF,
    )
    assert torch.equal(refined.cam_from_world[0, 0], torch.eye(4))
    (turn, shift), (turn_before, shift_before) = errors(refined.cam_from_world), errors(start(WRONG))
    assert turn < 0.15 * turn_before and shift < 0.3 * shift_before, (turn, shift)
    rotation = refined.cam_from_world[0, 1, :3, :3]
    torch.testing.assert_close(rotation.T @ rotation, torch.eye(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("zoom", [0.93, 1.07])
def test_matches_recover_the_focal_length(scene, zoom):
    """Also with wrong poses; both views get the same factor and keep their principal points."""
    refined = refine(
        scene, zoom=zoom, max_iterations=20, cell_weight=1.0, patch_weight=1.0, focal_prior_std=0.5, **SO_FAR_OFF
    )
    wrong = abs(zoom - 1) * 60
    assert (refined.intrinsics[..., 0, 0] - 60).abs().max() < 0.5 * wrong, refined.intrinsics[..., 0, 0]
    unchanged = INTRINSICS.expand(1, 2, 3, 3).clone()
    unchanged[..., [0, 1], [0, 1]] = refined.intrinsics[:, :1, :1, 0]
    torch.testing.assert_close(refined.intrinsics, unchanged)
    assert errors(refined.cam_from_world)[0] < 0.3 * errors(start(WRONG))[0]


def test_patches_correct_what_cells_that_know_nothing_leave(scene):
    scene["descriptors"] = torch.zeros_like(scene["descriptors"])
    turn, shift = errors(refine(scene, cell_weight=0.0).cam_from_world)
    assert turn < 0.3 * errors(start(WRONG))[0] and shift < 0.6 * errors(start(WRONG))[1], (turn, shift)


def test_a_wrong_depth_moves_the_pose_little(scene):
    """Depth errors act along the epipolar lines only, and the noise model expects them."""
    wobble = 1 + 0.08 * torch.sin(torch.arange(SIZE) / 5.0)
    turn, shift = errors(refine({**scene, "depth": scene["depth"] * wobble}).cam_from_world)
    assert turn < 0.7 * errors(start(WRONG))[0], (turn, shift)


def test_without_evidence_the_cameras_stay(scene):
    scene["images"] = torch.full_like(scene["images"], 0.5)  # flat patches weigh nothing
    refined = refine(scene, cell_weight=0.0)
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


def test_a_pose_beyond_the_first_search_is_found(scene):
    """Few patches lie within the first search; without the wide stage their wrong matches win."""
    off = pose([0.02, 0.0, 0.01], [0.3, -0.02, 0.05])  # 0.15 radians, 9 pixels
    blind = {"cell_weight": 0.0, "rotation_prior_std": 0.5}
    assert errors(refine(scene, off, wide_search_below=0.0, **blind).cam_from_world)[0] > 0.05
    assert errors(refine(scene, off, **blind).cam_from_world)[0] < 0.01


def test_views_share_one_focal_length_and_keep_their_own_poses(scene):
    """The same second view twice: the same pose twice, and more evidence for the focal length."""
    twice = {name: value[:, [0, 1, 1]] for name, value in scene.items()}
    poses = torch.stack([torch.eye(4), WRONG, WRONG])[None]
    intrinsics = INTRINSICS * torch.tensor([[1.07, 1, 1], [1, 1.07, 1], [1, 1, 1]])
    cameras = Cameras(poses, intrinsics.expand(1, 3, 3, 3), (SIZE, SIZE))
    (refined, _), pair = refine_geometry(cameras=cameras, **twice), refine(scene, zoom=1.07)
    torch.testing.assert_close(refined.cam_from_world[0, 1], refined.cam_from_world[0, 2])
    assert (refined.intrinsics[0, :, 0, 0] == refined.intrinsics[0, 0, 0, 0]).all()
    assert abs(refined.intrinsics[0, 0, 0, 0] - 60) < abs(pair.intrinsics[0, 0, 0, 0] - 60)


def test_many_views_are_refined_like_few(scene):
    """From four views on, patches are looked for one way only while the depth is left alone."""
    many = {name: value[:, [0, 1, 1, 1, 1]] for name, value in scene.items()}
    poses = torch.stack([torch.eye(4), *[WRONG] * 4])[None]
    cameras = Cameras(poses, INTRINSICS.expand(1, 5, 3, 3), (SIZE, SIZE))
    refined, depth = refine_geometry(cameras=cameras, **many)
    assert errors(refined.cam_from_world)[0] < errors(start(WRONG))[0] / 3
    for view in range(2, 5):
        torch.testing.assert_close(refined.cam_from_world[0, 1], refined.cam_from_world[0, view], rtol=0, atol=1e-4)
    assert (depth / scene["depth"][:, [0, 1, 1, 1, 1]]).log().abs().mean() < 0.03


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
    photos = SearchedPhoto.of(image(0, 0)), SearchedPhoto.of(image(1.4, -0.7))
    matches = patch_matches(*photos, pixels, pixels, radius=3)
    torch.testing.assert_close(matches.target - pixels, torch.tensor([[1.4, -0.7]]).expand(2, 2), rtol=0, atol=0.1)
    assert (matches.weight > 0.8).all()
    far = patch_matches(*photos, pixels, pixels + 40, radius=3)
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


def test_rows_are_those_of_the_explicit_covariances():
    """Match by match: r^T C^-1 r with C = noise^2 I + depth_noise^2 a a^T, and the depths' difference, by autograd."""
    generator = torch.Generator().manual_seed(1)
    poses = torch.stack([torch.eye(4), WRONG, TRUE @ TRUE]).double()
    depths = [tilted_plane(pose) for pose in (torch.eye(4), TRUE, TRUE @ TRUE)]
    blank = torch.zeros(3, SIZE, SIZE).double()
    frames = [Frame(blank, depth.double(), INTRINSICS.double()) for depth in depths]
    nodes = 0.1 * torch.randn(3, 9, generator=generator, dtype=torch.float64)
    estimate = Estimate(poses, torch.tensor(0.03, dtype=torch.float64), nodes)
    source, target = (torch.randint(8, 56, (30, 2), generator=generator).double() + 0.5 for _ in range(2))
    weight = torch.rand(30, generator=generator, dtype=torch.float64)
    match = ViewMatches(1, 2, PixelMatches(source, target, weight))
    noise, (_, one, other) = Noise(2.0, 0.3, 0.1, 0.7, 0.05), estimate.frames(frames)
    equations = match_equations(one, other, estimate.relative(1, 2), match.pixels, 3, noise)

    def outcome(step: torch.Tensor, deeper: torch.Tensor) -> torch.Tensor:
        """Pixel residual and difference of depths, [Q, 3], after a step and with all source depths scaled."""
        moved = estimate.moved(step)
        one, other = (moved.frames(frames)[view] for view in (1, 2))
        seen = transform_points(moved.relative(1, 2), one.lift(source) * deeper.exp())
        apart = seen[:, 2].log() - other.depth_at(target).log()
        return torch.cat([other.project(seen) - target, apart[:, None]], dim=1)

    zero, same = torch.zeros(3 * 6 + 1 + 27, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    at = outcome(zero, same)
    by_step = torch.autograd.functional.jacobian(lambda step: outcome(step, same), zero)
    along = torch.autograd.functional.jacobian(lambda deeper: outcome(zero, deeper), same)
    normal, gradient = torch.zeros(len(zero), len(zero)).double(), torch.zeros(len(zero)).double()
    for r, j, a, w in zip(at, by_step, along, weight, strict=True):
        information = torch.linalg.inv(4 * torch.eye(2) + 0.01 * a[:2, None] * a[:2])
        information = information * 0.3 * w / (1 + r[:2] @ information @ r[:2])
        agreement = 0.7 * w / (1 + (r[2] / 0.05) ** 2) / 0.05**2
        normal += j[:2].T @ information @ j[:2] + agreement * j[2, :, None] * j[2]
        gradient += j[:2].T @ information @ r[:2] + agreement * j[2] * r[2]
    mine, slope, index = torch.zeros_like(normal), torch.zeros_like(gradient), _unknowns(match, 3, 9)
    for part in equations:
        own = index[: part.rows.shape[1]]
        mine[own[:, None], own] += part.rows.T @ part.rows
        slope[own] += part.rows.T @ part.residuals
    torch.testing.assert_close(mine, normal, rtol=1e-5, atol=1e-5)  # TRUE is a rotation to single precision
    torch.testing.assert_close(slope, gradient, rtol=1e-5, atol=1e-5)


def test_matches_straighten_a_bent_depth(scene):
    """The pose known, both depths bent smoothly: triangulation finds most of what is wrong."""
    x = torch.linspace(-1, 1, SIZE)
    bent = scene["depth"] * torch.exp(0.15 * x * x[:, None] + torch.tensor([0.08, -0.05])[:, None, None])
    tight = {"rotation_prior_std": 1e-3, "translation_prior_std": 1e-3, "focal_prior_std": 1e-3}
    refined, depth = refine_both({**scene, "depth": bent}, TRUE, **tight)
    inner = (..., slice(12, -12), slice(12, -12))
    before, after = (((d / scene["depth"]).log().abs()[inner]).mean().item() for d in (bent, depth))
    assert after < 0.35 * before, (before, after)
    assert errors(refined.cam_from_world)[0] < 5e-3


def test_rigid_stages_leave_the_depth(scene):
    _, depth = refine_both(scene, rigid_stages=4)
    assert torch.equal(depth, scene["depth"])


def test_neighbours_help_where_view_0_cannot(scene):
    """A third view that shows nothing of view 0 hangs on the second one."""
    third = pose([0.0, -0.3, 0.0], [0.55, -0.02, 0.12])
    depth = tilted_plane(third)
    images = torch.cat([scene["images"], photo(depth, third)[None, None]], dim=1)
    images[:, 0] = 0.5  # view 0 is blank
    off = pose([0.012, 0.01, 0.0], [0.02, 0.015, -0.01])
    poses = torch.stack([torch.eye(4), TRUE, off @ third])[None]
    cameras = Cameras(poses, INTRINSICS.expand(1, 3, 3, 3), (SIZE, SIZE))
    descriptors = torch.zeros(1, 3, CELLS**2, 8)
    depths = torch.cat([scene["depth"], depth[None, None]], dim=1)
    refined, _ = refine_geometry(images, cameras, depths, descriptors, BundleAdjustmentSettings(cell_weight=0.0))
    known = refined.cam_from_world[0, 2] @ torch.linalg.inv(refined.cam_from_world[0, 1])
    true = third @ torch.linalg.inv(TRUE)
    turn = Rotation.from_matrix((known[:3, :3] @ true[:3, :3].T).numpy()).magnitude()
    assert turn < 0.4 * Rotation.from_matrix(off[:3, :3].numpy()).magnitude()


def test_node_weights_interpolate_planes():
    """Sum to one, and give back any function that is linear in x and y."""
    pixels = torch.tensor([[0.0, 0.0], [13.7, 50.2], [80.0, 60.0], [41.0, 3.0]])
    weights = node_weights(pixels, 4, (60, 80))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4))
    y, x = torch.meshgrid(torch.linspace(0, 60, 4), torch.linspace(0, 80, 4), indexing="ij")
    plane = (2 * x - 3 * y + 1).flatten()
    torch.testing.assert_close(weights @ plane, 2 * pixels[:, 0] - 3 * pixels[:, 1] + 1, rtol=1e-4, atol=1e-3)
