"""Token-group decoders: structure, laws of the assignment, gradients, and invariances."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tokengroups.geometry import world_points
from tokengroups.nn.gaussian_head import GaussianHead
from tokengroups.systems.token_groups.context import FrozenGeometry, anchor_candidates, candidate_stride
from tokengroups.systems.token_groups.decoder import TokenGroupDecoder, TokenGroupsConfig
from tokengroups.types import Cameras

CONFIG = TokenGroupsConfig(
    context_patch=8, anchor_stride=4, num_anchors=40, num_groups=6, gaussians_per_anchor=5, dim=32, num_heads=4,
    anchor_layers=2, group_layers=2, sh_degree=1,
)  # fmt: skip
FEATURE_DIM = 12


def random_input(
    num_scenes: int = 2, num_views: int = 2, seed: int = 0
) -> tuple[torch.Tensor, FrozenGeometry]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(num_scenes, num_views, 3, 32, 32, generator=generator)
    depth = torch.rand(num_scenes, num_views, 32, 32, generator=generator) + 1.0
    intrinsics = torch.tensor([[30.0, 0, 16], [0, 30, 16], [0, 0, 1]]).expand(num_scenes, num_views, 3, 3)
    cam_from_world = torch.eye(4).repeat(num_scenes, num_views, 1, 1)
    cam_from_world[..., :3, 3] = torch.randn(num_scenes, num_views, 3, generator=generator) * 0.2
    cameras = Cameras(cam_from_world, intrinsics, (32, 32))
    features = torch.randn(num_scenes, num_views, FEATURE_DIM, 2, 2, generator=generator)
    points = world_points(depth, cam_from_world, intrinsics)
    return images, FrozenGeometry(features, points, depth, 1.0 + depth, cameras)


@pytest.fixture(scope="module")
def decoder() -> TokenGroupDecoder:
    torch.manual_seed(0)
    return TokenGroupDecoder(CONFIG, FEATURE_DIM)


def test_output_shapes_and_ranges(decoder):
    output = decoder(*random_input())
    assert output.gaussians.means.shape == (2, 200, 3)
    assert output.gaussians.sh.shape == (2, 200, 4, 3)
    assert output.assignment.shape == (2, 40, 6)
    assert output.anchor_ids.tolist() == [k for k in range(40) for _ in range(5)]
    torch.testing.assert_close(output.assignment.sum(-1), torch.ones(2, 40))
    assert (output.gaussians.scales > 0).all()
    assert ((output.gaussians.opacities > 0) & (output.gaussians.opacities < 1)).all()


def test_anchors_are_points_of_the_point_map_at_their_pixels(decoder):
    images, geometry = random_input()
    output = decoder(images, geometry)
    for scene in range(2):
        view, row, column = output.anchor_pixels[scene].unbind(-1)
        assert torch.equal(output.anchors[scene], geometry.points[scene, view, row, column])
        assert len({tuple(p) for p in output.anchor_pixels[scene].tolist()}) == CONFIG.num_anchors


def test_offsets_and_scales_stay_within_their_bounds_of_the_footprint(decoder):
    images, geometry = random_input()
    with torch.no_grad():
        output = decoder(images, geometry)
    offset = output.gaussians.means.unflatten(1, (40, 5)) - output.anchors[:, :, None]
    for scene in range(2):
        view, row, column = output.anchor_pixels[scene].unbind(-1)
        footprint = geometry.depth[scene, view, row, column] / 30.0 * (2 * 32 * 32 / 40) ** 0.5
        assert (offset[scene].abs() <= CONFIG.offset_bound * footprint[:, None, None] + 1e-6).all()
        scales = output.gaussians.scales[scene].unflatten(0, (40, 5))
        assert (scales <= CONFIG.scale_bound * footprint[:, None, None]).all()


def test_a_batch_of_two_equals_two_of_one(decoder):
    images, geometry = random_input()
    both = decoder(images, geometry)
    for i in range(2):
        one = geometry.map(lambda tensor, i=i: tensor[i : i + 1])
        single = decoder(images[i : i + 1], one)
        torch.testing.assert_close(single.gaussians.means[0], both.gaussians.means[i], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(single.assignment[0], both.assignment[i], rtol=1e-5, atol=1e-5)


def test_scaling_the_world_scales_the_scene(decoder):
    images, geometry = random_input(1)
    scaled = dataclasses.replace(geometry, points=geometry.points * 4, depth=geometry.depth * 4)
    plain, large = decoder(images, geometry), decoder(images, scaled)
    torch.testing.assert_close(large.gaussians.means, plain.gaussians.means * 4, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(large.gaussians.scales, plain.gaussians.scales * 4, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(large.assignment, plain.assignment, rtol=1e-4, atol=1e-5)


def test_permuting_the_group_tokens_permutes_the_groups():
    torch.manual_seed(0)
    decoder = TokenGroupDecoder(CONFIG, FEATURE_DIM)
    images, geometry = random_input(1)
    before = decoder(images, geometry)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        decoder.group_tokens.copy_(decoder.group_tokens[order].clone())
    after = decoder(images, geometry)
    torch.testing.assert_close(after.assignment, before.assignment[..., order])
    torch.testing.assert_close(after.group_tokens, before.group_tokens[:, order])


def test_every_parameter_gets_a_gradient(decoder):
    output = decoder(*random_input())
    total = sum((g.square().sum() for g in vars(output.gaussians).values()), output.assignment.square().sum())
    decoder.zero_grad()
    total.backward()
    without = [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_candidates_take_the_cell_centres_and_name_their_context_token():
    images, geometry = random_input()
    candidates = anchor_candidates(images, geometry, stride=4, context_patch=8)
    assert len(candidates.pixels) == 2 * 8 * 8
    for (view, row, column), token in zip(
        candidates.pixels.tolist(), candidates.context_index.tolist(), strict=True
    ):
        assert row % 4 == 2 and column % 4 == 2
        assert token == view * 16 + (row // 8) * 4 + column // 8
    m = 77
    view, row, column = candidates.pixels[m].tolist()
    cell = images[0, view, :, row - 2 : row + 2, column - 2 : column + 2]
    assert torch.equal(candidates.patches[0, m], cell.flatten())


@pytest.mark.parametrize(
    ("views", "anchors", "stride"), [(2, 64, 16), (2, 129, 8), (2, 513, 4), (1, 1024, 4), (8, 1024, 8)]
)
def test_the_candidate_grid_is_refined_only_as_far_as_needed(views, anchors, stride):
    assert candidate_stride(views, (128, 128), 16, anchors) == stride


def test_more_anchors_than_pixels_is_refused():
    with pytest.raises(ValueError, match="fewer pixels"):
        candidate_stride(1, (4, 4), 4, 17)


def test_offsets_are_bounded_in_footprints_or_in_the_points_unit():
    torch.manual_seed(0)
    tokens, anchors, colors = torch.randn(1, 9, 8) * 50, torch.randn(1, 9, 3), torch.rand(1, 9, 3)
    footprints = torch.linspace(0.01, 2.0, 9)[None]
    for unit, sizes in (("footprints", footprints), ("points", torch.ones_like(footprints))):
        head = GaussianHead(8, 5, 0, 0.25, 0.8, unit)
        torch.nn.init.normal_(head.mlp[2].weight)
        offsets = head(tokens, anchors, footprints, colors).means.unflatten(1, (9, 5)) - anchors[:, :, None]
        reached = offsets.abs().amax(dim=(2, 3)) / (0.25 * sizes)
        assert (reached <= 1 + 1e-4).all() and (reached > 0.9).all()
