"""Densify: depth with the edges of photos, flat Gaussians on surfaces, groups that end where colours do, its budget."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.geometry import invert_rigid, project, rotation_from_quaternion, transform_points
from tokengroups.losses.photometric import psnr
from tokengroups.postprocess import Draft
from tokengroups.postprocess.densify import Densify, anchors_of, choose_pixels, rendering_errors
from tokengroups.postprocess.densify.surface_gaussians import (
    FLATNESS,
    OPACITY,
    SPREAD_PX,
    pixel_gaussians,
    surface_normals,
)
from tokengroups.postprocess.densify.upsampling import COLOR_STD, LEAST_WEIGHT, SPREAD_CELLS, upsample_depth
from tokengroups.postprocess.full_photos import finest_photos
from tokengroups.render import render
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.systems import SceneSystem, load_model
from tokengroups.types import Cameras

PHOTO = 64
FULL = 128


@pytest.fixture(scope="module")
def model() -> SceneSystem:
    return load_model("token_groups_tiny")


@pytest.fixture(scope="module")
def decoded(model) -> Draft:
    room = generate_room(5, 0, "test", num_views=7, size=FULL)
    photos, full = (to_views(room, (1, 3, 5), size).images for size in (PHOTO, FULL))
    with torch.no_grad():
        return model.decode(model.begin(photos, None, (), full_photos=full))


# --- the step -------------------------------------------------------------------------------------------------------


def test_photos_are_rendered_more_sharply(decoded: Draft) -> None:
    made = Densify()(decoded)
    before, after = decoded.predicted(), made.predicted()
    photos, cameras, mask = finest_photos(decoded, 256)
    assert photos.shape[-1] == FULL and mask is None
    poses = cameras.cam_from_world, cameras.intrinsics, cameras.size_hw
    shown = [render(each.gaussians, *poses).colors.movedim(-1, 1) for each in (before, after)]
    worse, better = (float(psnr(each.clamp(0, 1), photos).mean()) for each in shown)
    assert better > worse + 2
    assert len(after.gaussians.means) > len(before.gaussians.means) + 500
    assert len(after.anchor_ids) == len(after.gaussians.means)
    assert torch.equal(after.anchor_ids[: len(before.anchor_ids)], before.anchor_ids)
    assert torch.equal(after.assignment, before.assignment) and made.geometry is decoded.geometry
    assert all(bool(getattr(after.gaussians, name).isfinite().all()) for name in ("means", "quats", "scales", "sh"))


@pytest.mark.parametrize("more", [0, 1, 300])
def test_a_budget_is_kept_by_the_pixels_that_differ_most(decoded: Draft, more: int) -> None:
    own = len(decoded.predicted().gaussians.means)
    made = Densify(max_gaussians=own + more, steps=0)(decoded).predicted().gaussians
    assert own + (0.9 * more if more > 1 else 0) <= len(made.means) <= own + more
    assert len(Densify(max_gaussians=5, steps=0)(decoded).predicted().gaussians.means) == own
    if more == 300:
        photos, cameras, _ = finest_photos(decoded, 256)
        depth = upsample_depth(decoded.geometry.depth, decoded.photos, photos)
        errors = rendering_errors(decoded.predicted().gaussians, photos, cameras)
        depth, chosen = choose_pixels(depth, cameras, errors, 0.02)
        chosen &= errors >= errors[chosen].sort(descending=True).values[300 - 1]
        expected = pixel_gaussians(photos, depth, cameras, chosen).means
        torch.testing.assert_close(made.means[own:], expected[: len(made.means) - own])


def test_without_more_pixels_it_works_on_the_photos(decoded: Draft) -> None:
    made = Densify(steps=0)(replace(decoded, full_photos=None)).predicted()
    added = len(made.gaussians.means) - len(decoded.predicted().gaussians.means)
    assert 100 < added <= 3 * PHOTO**2


def test_nothing_comes_from_pixels_that_do_not_count(decoded: Draft) -> None:
    mask = torch.ones(3, PHOTO, PHOTO, dtype=torch.bool)
    mask[:, :, : PHOTO // 2] = False
    masked = replace(decoded, geometry=replace(decoded.geometry, mask=mask))
    own = len(decoded.predicted().gaussians.means)
    added = Densify(steps=0)(masked).predicted().gaussians.means[own:]
    cameras = decoded.geometry.cameras
    seen = [
        project(transform_points(pose, added), pinhole)[0]
        for pose, pinhole in zip(cameras.cam_from_world, cameras.intrinsics, strict=True)
    ]
    inside = torch.stack([(place[:, 0] >= PHOTO / 2 - 0.01) & (place[:, 0] <= PHOTO) for place in seen])
    assert len(added) > 100 and bool(inside.any(dim=0).all())
    none = replace(decoded, geometry=replace(decoded.geometry, mask=torch.zeros_like(mask)))
    assert len(Densify(steps=0)(none).predicted().gaussians.means) == own


def test_errors_are_those_of_pixels_that_count(decoded: Draft) -> None:
    gaussians, cameras = decoded.predicted().gaussians, decoded.geometry.cameras
    mask = torch.rand(decoded.photos[:, 0].shape, generator=torch.Generator().manual_seed(0)) > 0.4
    padded = torch.where(mask[:, None], decoded.photos, 1.0)
    errors = rendering_errors(gaussians, padded, cameras, mask)
    assert torch.equal(errors, rendering_errors(gaussians, decoded.photos, cameras, mask)) and bool((errors >= 0).all())
    shown = render(gaussians, cameras.cam_from_world, cameras.intrinsics, cameras.size_hw).colors.movedim(-1, 1)
    apart = (shown - decoded.photos).abs().mean(dim=1)
    for view, row, column in ((0, 0, 0), (1, 20, 31), (2, 63, 40)):
        near = view, slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
        assert float(errors[view, row, column]) == pytest.approx(float(apart[near][mask[near]].mean()), rel=1e-4)


def test_one_photo_is_enough(model: SceneSystem) -> None:
    photos = to_views(generate_room(5, 1, "test", num_views=3, size=PHOTO), (1,)).images
    steps: Any = [Densify(steps=2)]
    made = model.predict(photos, postprocess=steps)
    plain = model.predict(photos, postprocess="none")
    assert len(made.scene.gaussians.means) > len(plain.scene.gaussians.means)
    assert made.scene.provenance["postprocess"][0]["name"] == "densify"


def test_the_parts_of_higher_degrees_are_zero(decoded: Draft) -> None:
    prediction = decoded.predicted()
    sh = torch.cat([prediction.gaussians.sh, torch.zeros(len(prediction.anchor_ids), 3, 3)], dim=1)
    higher = replace(decoded, prediction=replace(prediction, gaussians=replace(prediction.gaussians, sh=sh)))
    made = Densify(steps=0)(higher).predicted().gaussians
    assert made.sh.shape[1] == 4 and not made.sh[len(sh) :, 1:].any()


# --- choice of pixels -----------------------------------------------------------------------------------------------


def test_true_depth_covers_a_room_once() -> None:
    views = to_views(generate_room(7, 0, "test", num_views=7, size=48), (1, 3, 5))
    fused, chosen = choose_pixels(views.depth, views.cameras, torch.ones_like(views.depth), 0.5)
    assert bool(chosen[0].float().mean() > 0.95)  # the first photo keeps nearly all it sees
    assert 0.02 < float(chosen[1:].float().mean()) < 0.7  # the others what it does not see
    assert float((fused / views.depth).log().abs().median()) < 0.01


def test_pixels_that_others_see_through_are_dropped() -> None:
    views = to_views(generate_room(7, 0, "test", num_views=7, size=48), (1, 3, 5))
    depth = views.depth.clone()
    depth[1, 10:20, 10:20] *= 0.4  # floats in the air
    _, chosen = choose_pixels(depth, views.cameras, torch.ones_like(depth), 0.5)
    assert float(chosen[1, 11:19, 11:19].float().mean()) < 0.05
    same = torch.zeros_like(depth)
    assert not choose_pixels(depth, views.cameras, same, 0.0)[1].any()  # rendered well already


# --- upsampling -----------------------------------------------------------------------------------------------------


def two_surfaces(side: int) -> tuple[Tensor, Tensor]:
    """Depth of a near and a far surface, slanted, and a photo whose colours part them at 60 % of the width."""
    x = (torch.arange(side) + 0.5) / side
    far = (x > 0.6).float()[None].expand(side, side)
    depth = torch.where(far > 0, 4 * torch.exp(0.2 * x), 2 * torch.exp(-0.1 * x))
    photo = torch.stack([far, 1 - far, torch.full_like(far, 0.3)])
    return depth[None], photo[None]


def test_edges_of_depth_are_those_of_the_photos() -> None:
    depth, photo = two_surfaces(20)
    true, fine = two_surfaces(80)
    found = upsample_depth(depth, photo, fine)
    assert float((found / true).log().abs()[:, 4:-4, 4:-4].max()) < 0.02
    plain = torch.nn.functional.interpolate(depth[:, None], (80, 80), mode="bilinear")[:, 0]
    assert float((plain / true).log().abs()[:, 4:-4, 4:-4].max()) > 0.2


def test_upsampling_is_that_of_a_loop() -> None:
    depth, photo, fine = torch.rand(1, 5, 6) + 1, torch.rand(1, 3, 5, 6), torch.rand(1, 3, 15, 12)
    found, logs = upsample_depth(depth, photo, fine), depth[0].double().log().numpy()

    def slope(row: int, column: int, down: int, right: int) -> float:
        before, after = (row - down, column - right), (row + down, column + right)
        if min(before) < 0 or after[0] > 4 or after[1] > 5:
            return 0.0
        first, second = logs[row, column] - logs[before], logs[after] - logs[row, column]
        return 0.0 if first * second <= 0 else min(first, second, key=abs)

    for row, column in itertools.product(range(15), range(12)):
        y, x = (row + 0.5) * 5 / 15, (column + 0.5) * 6 / 12
        total, weights = 0.0, 0.0
        for down, right in itertools.product((-1, 0, 1), (-1, 0, 1)):
            raw_r, raw_c = int(y) + down, int(x) + right
            r, c = min(max(raw_r, 0), 4), min(max(raw_c, 0), 5)
            apart_y, apart_x = y - raw_r - 0.5, x - raw_c - 0.5
            near = math.exp(-0.5 * (apart_y**2 + apart_x**2) / SPREAD_CELLS**2)
            difference = (photo[0, :, r, c] - fine[0, :, row, column]).double().square().sum()
            weight = near * (math.exp(-0.5 * float(difference) / COLOR_STD**2) + LEAST_WEIGHT)
            total += weight * (logs[r, c] + slope(r, c, 0, 1) * apart_x + slope(r, c, 1, 0) * apart_y)
            weights += weight
        assert float(found[0, row, column]) == pytest.approx(math.exp(total / weights), rel=1e-4)


# --- Gaussians of pixels --------------------------------------------------------------------------------------------


def slanted(side: int, slope: float) -> tuple[Tensor, Cameras, Tensor]:
    """Depth, camera and unit normal of the plane z = 2 + slope * x."""
    focal = 1.2 * side
    pinhole = torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1.0]])
    x = (torch.arange(side) + 0.5 - side / 2) / focal
    depth = (2 / (1 - slope * x))[None].expand(side, side)
    pose = torch.eye(4)
    pose[:3, :3] = rotation_from_quaternion(torch.tensor([0.9, 0.1, -0.3, 0.2]))
    pose[:3, 3] = torch.tensor([0.3, -0.2, 1.0])
    normal = torch.tensor([slope, 0.0, -1.0]) / math.hypot(slope, 1)
    return depth[None], Cameras(pose[None], pinhole[None], (side, side)), normal


@pytest.mark.parametrize("slope", [0.0, 0.8, -1.5])
def test_gaussians_lie_flat_on_the_surface_and_fill_their_pixels(slope: float) -> None:
    depth, cameras, normal = slanted(24, slope)
    photo = torch.rand(1, 3, 24, 24)
    chosen = torch.zeros(1, 24, 24, dtype=torch.bool)
    chosen[:, 4:20, 4:20] = True
    made = pixel_gaussians(photo, depth, cameras, chosen, 4)
    pose = cameras.cam_from_world[0]
    axes = pose[:3, :3] @ rotation_from_quaternion(made.quats)  # of the Gaussians, in the camera's frame
    assert float((axes[:, :, 2] @ normal).abs().min()) > 0.999
    points = transform_points(pose, made.means)
    pixels, z = project(points, cameras.intrinsics[0])
    rows, columns = torch.meshgrid(torch.arange(4, 20), torch.arange(4, 20), indexing="ij")
    expected = torch.stack([columns, rows], dim=-1).flatten(0, 1) + 0.5
    torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(made.sh[:, 0] * SH_C0 + 0.5, photo[0].movedim(0, -1)[4:20, 4:20].flatten(0, 1))
    assert made.sh.shape[1] == 4 and not made.sh[:, 1:].any() and bool((made.opacities == OPACITY).all())
    size = SPREAD_PX * z / cameras.intrinsics[0, 0, 0]
    torch.testing.assert_close(made.scales[:, 1:], torch.stack([size, FLATNESS * size], dim=1))
    # Seen from the camera, both axes in the surface are as long as `SPREAD_PX`, or nearly, off the photo's middle.
    for axis in (0, 1):
        moved = points + 1e-3 * made.scales[:, axis, None] * axes[:, :, axis]
        length = (project(moved, cameras.intrinsics[0])[0] - pixels).norm(dim=-1) / 1e-3
        assert float(length.min()) > 0.9 * SPREAD_PX and float(length.max()) < 1.35 * SPREAD_PX


def test_normals_face_the_camera_also_at_borders_and_degenerate_points() -> None:
    depth, cameras, normal = slanted(16, 0.5)
    points = torch.stack(
        [
            depth[0] * (torch.arange(16) + 0.5 - 8) / cameras.intrinsics[0, 0, 0],
            depth[0] * (torch.arange(16)[:, None] + 0.5 - 8) / cameras.intrinsics[0, 0, 0],
            depth[0],
        ],
        dim=-1,
    )
    normals = surface_normals(points)
    torch.testing.assert_close(normals, normal.expand(16, 16, 3), atol=1e-4, rtol=0)
    same = torch.tensor([0.0, 0.0, 3.0]).expand(4, 4, 3)
    torch.testing.assert_close(surface_normals(same), torch.tensor([0.0, 0.0, -1.0]).expand(4, 4, 3))


def test_groups_end_where_colours_do() -> None:
    anchors = torch.tensor([[0.0, 0, 2], [1, 0, 2], [2, 0, 2]])
    own = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 0]])
    points = torch.tensor([[0.4, 0, 2], [0.6, 0, 2], [0.4, 0, 2], [1.6, 0, 2]])
    colors = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert anchors_of(points, colors, anchors, own).tolist() == [0, 0, 1, 2]
    assert anchors_of(points, colors, anchors[:1], own[:1]).tolist() == [0, 0, 0, 0]
    assert anchors_of(points[:0], colors[:0], anchors, own).tolist() == []


def test_densified_scenes_lie_in_the_world_of_given_poses(model: SceneSystem) -> None:
    views = to_views(generate_room(5, 2, "test", num_views=5, size=PHOTO), (1, 3))
    world = torch.eye(4)
    world[:3, :3] = rotation_from_quaternion(torch.tensor([0.5, 0.5, -0.5, 0.5]))
    world[:3, 3] = torch.tensor([10.0, -20.0, 5.0])
    poses = views.cameras.cam_from_world @ invert_rigid(world)
    options: dict[str, Any] = {"intrinsics": views.cameras.intrinsics, "postprocess": [Densify(steps=0)]}
    made = model.predict(views.images, cam_from_world=poses, **options).scene
    plain = model.predict(views.images, cam_from_world=poses, intrinsics=views.cameras.intrinsics, postprocess="none")
    own = len(plain.scene.gaussians.means)
    assert len(made.gaussians.means) > own
    centre, spread = plain.scene.gaussians.means.mean(dim=0), plain.scene.gaussians.means.std()
    assert float((made.gaussians.means[own:].mean(dim=0) - centre).norm()) < 2 * float(spread)
