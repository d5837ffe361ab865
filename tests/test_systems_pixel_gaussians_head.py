"""The auxiliary pixel-aligned head: where its Gaussians lie, what they depend on, and what learns from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.tolerances import tolerance
from tokengroups.encoders import Geometry
from tokengroups.geometry import world_points
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.systems.pixel_gaussians import PixelGaussianHead, PixelGaussiansConfig
from tokengroups.types import Cameras

FEATURE_DIM, SIZE = 12, 16


def random_input(num_scenes: int = 2, num_views: int = 2) -> tuple[torch.Tensor, Geometry]:
    generator = torch.Generator().manual_seed(0)
    lead = (num_scenes, num_views)
    images = torch.rand(*lead, 3, SIZE, SIZE, generator=generator)
    depth = torch.rand(*lead, SIZE, SIZE, generator=generator) + 1.0
    intrinsics = torch.tensor([[15.0, 0, 8], [0, 13, 7], [0, 0, 1]]).repeat(*lead, 1, 1)
    turn = torch.linalg.qr(torch.randn(*lead, 3, 3, generator=generator)).Q
    turn = turn * torch.linalg.det(turn)[..., None, None]  # no reflections
    cam_from_world = torch.eye(4).repeat(*lead, 1, 1)
    cam_from_world[..., :3, :3] = turn
    cam_from_world[..., :3, 3] = torch.randn(*lead, 3, generator=generator)
    features = torch.randn(*lead, FEATURE_DIM, 2, 2, generator=generator)
    return images, geometry_of(features, depth, Cameras(cam_from_world, intrinsics, (SIZE, SIZE)))


def geometry_of(features: torch.Tensor, depth: torch.Tensor, cameras: Cameras) -> Geometry:
    points = world_points(depth, cameras.cam_from_world, cameras.intrinsics)
    return Geometry(features, points, depth, 1 + depth, cameras)


def head(stride: int, excited: bool = False, **changes: float) -> PixelGaussianHead:
    """A new head; an excited one has outputs far in the tails of all activations."""
    torch.manual_seed(0)
    module = PixelGaussianHead(PixelGaussiansConfig(stride=stride, dim=8, **changes), FEATURE_DIM)
    if excited:
        with torch.no_grad():
            module.gaussians.mlp[-1].weight *= 1e3
    return module


@pytest.mark.parametrize("stride", [1, 2])
def test_shapes_and_ranges(stride: int) -> None:
    images, geometry = random_input()
    gaussians = head(stride, sh_degree=1)(images, geometry)
    count = 2 * (SIZE // stride) ** 2
    shapes = [tuple(value.shape) for value in vars(gaussians).values()]
    assert shapes == [(2, count, 3), (2, count, 4), (2, count, 3), (2, count), (2, count, 4, 3)]
    new = vars(head(stride)(images, geometry))
    pixel = geometry.depth[:, :, stride // 2 :: stride, stride // 2 :: stride].flatten(1) / 15.0
    assert (new["scales"] / (0.7 * stride * pixel[..., None]) - 1).abs().max() < 0.05
    assert (new["opacities"] - 0.8).abs().max() < 0.05
    assert (gaussians.scales > 0).all()
    assert ((gaussians.opacities > 0) & (gaussians.opacities < 1)).all()
    assert (gaussians.quats.norm(dim=-1) > 0.5).all()


@pytest.mark.parametrize("stride", [1, 2])
def test_gaussians_lie_on_the_unprojected_points_within_their_bounds(stride: int) -> None:
    """Against a float64 loop over the pixels; the excited head shows that the bounds are tight."""
    images, geometry = random_input(num_scenes=1)
    bounds = {"offset_bound": 0.7, "scale_bound": 1.2}
    plain, excited = (head(stride, wild, **bounds)(images, geometry).detach() for wild in (False, True))
    camera, n, reached = geometry.cameras, 0, 0.0
    for view in range(2):
        world_from_cam = torch.linalg.inv(camera.cam_from_world[0, view].double())
        intrinsics = camera.intrinsics[0, view].double()
        for row in range(stride // 2, SIZE, stride):
            for column in range(stride // 2, SIZE, stride):
                z = float(geometry.depth[0, view, row, column])
                pixel = torch.tensor([column + 0.5, row + 0.5, 1.0], dtype=torch.float64)
                ray = torch.linalg.solve(intrinsics, pixel)
                point = (world_from_cam @ torch.cat([z * ray, torch.ones(1, dtype=torch.float64)]))[:3]
                footprint = stride * z / float(intrinsics[0, 0])
                assert (plain.means[0, n] - point).abs().max() <= 0.1 * footprint  # a new head hardly moves them
                offset = (excited.means[0, n] - point).abs().max() / footprint
                reached = max(reached, float(offset))
                assert offset <= 0.7 * 1.001
                assert excited.scales[0, n].max() <= 1.2 * footprint * 1.001
                top, left = row - stride // 2, column - stride // 2
                colour = images[0, view, :, top : top + stride, left : left + stride].mean(dim=(1, 2))
                shown = 0.5 + SH_C0 * plain.sh[0, n, 0]
                assert (shown - colour).abs().max() < 0.05
                n += 1
    assert n == plain.means.shape[1] and reached > 0.69


@pytest.mark.parametrize("stride", [1, 2])
def test_a_scene_k_times_as_large_has_gaussians_k_times_as_large(stride: int) -> None:
    images, geometry = random_input()
    cam_from_world = geometry.cameras.cam_from_world.clone()
    cam_from_world[..., :3, 3] *= 3.0
    larger = geometry_of(
        geometry.features, 3.0 * geometry.depth, replace(geometry.cameras, cam_from_world=cam_from_world)
    )
    module = head(stride, excited=True)
    one, three = module(images, geometry), module(images, larger)
    torch.testing.assert_close(three.means, 3 * one.means, **tolerance("float32_chain"))
    torch.testing.assert_close(three.scales, 3 * one.scales, **tolerance("float32_chain"))
    for name in ("quats", "opacities", "sh"):
        assert torch.equal(getattr(three, name), getattr(one, name))


def test_scenes_and_views_do_not_mix() -> None:
    images, geometry = random_input()
    module = head(2)
    both = module(images, geometry)
    flipped = module(images.flip(1), geometry.map(lambda tensor: tensor.flip(1)))
    for name, value in vars(both).items():
        for scene in range(2):
            alone = module(images[scene][None], geometry.map(lambda tensor, i=scene: tensor[i : i + 1]))
            torch.testing.assert_close(value[scene], getattr(alone, name)[0], **tolerance("float32"))
        swapped = torch.cat(list(getattr(flipped, name).chunk(2, dim=1))[::-1], dim=1)
        torch.testing.assert_close(value, swapped, **tolerance("float32"))


def test_gradients_reach_depth_cameras_and_features() -> None:
    images, given = random_input()
    leaves = {
        "features": given.features, "depth": given.depth, "cam_from_world": given.cameras.cam_from_world,
        "intrinsics": given.cameras.intrinsics,
    }  # fmt: skip
    leaves = {name: value.clone().requires_grad_() for name, value in leaves.items()}
    cameras = Cameras(leaves["cam_from_world"], leaves["intrinsics"], (SIZE, SIZE))
    gaussians = head(1)(images, geometry_of(leaves["features"], leaves["depth"], cameras))
    sum(value.square().sum() for value in vars(gaussians).values()).backward()
    for name, leaf in leaves.items():
        assert leaf.grad is not None and leaf.grad.isfinite().all(), name
        assert leaf.grad.flatten(2).abs().amax(dim=-1).min() > 0, name  # of every scene and view


def test_settings_and_photos_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="stride must be a whole number from 1 to 2, got 3"):
        PixelGaussiansConfig(stride=3)
    with pytest.raises(ValueError, match=r"scale_bound must be a finite number above 0\.7 .*, got 0\.3"):
        PixelGaussiansConfig(scale_bound=0.3)
    images, geometry = random_input()
    with pytest.raises(ValueError, match=r"multiples of 2, got \(15, 16\)"):
        head(2)(images[..., :15, :], geometry)
