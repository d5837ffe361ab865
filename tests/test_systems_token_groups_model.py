"""The token-group model: structure, laws of the assignment, gradients, and invariances."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toy_systems import DEEPER, FEATURE_DIM, random_input

from tokengroups.systems.token_groups import TokenGroupModel


@pytest.fixture(scope="module")
def model() -> TokenGroupModel:
    torch.manual_seed(0)
    return TokenGroupModel(DEEPER, FEATURE_DIM)


def test_output_shapes_and_ranges(model):
    output = model(*random_input())
    assert output.gaussians.means.shape == (2, 200, 3)
    assert output.gaussians.sh.shape == (2, 200, 4, 3)
    assert output.assignment.shape == (2, 40, 6)
    assert output.anchor_ids.tolist() == [k for k in range(40) for _ in range(5)]
    torch.testing.assert_close(output.assignment.sum(-1), torch.ones(2, 40))
    assert (output.gaussians.scales > 0).all()
    assert ((output.gaussians.opacities > 0) & (output.gaussians.opacities < 1)).all()


def test_anchors_are_points_of_the_point_map_at_their_pixels(model):
    images, geometry = random_input()
    output = model(images, geometry)
    for scene in range(2):
        view, row, column = output.anchor_pixels[scene].unbind(-1)
        assert torch.equal(output.anchors[scene], geometry.points[scene, view, row, column])
        assert len({tuple(p) for p in output.anchor_pixels[scene].tolist()}) == DEEPER.num_anchors


def test_offsets_and_scales_stay_within_their_bounds_of_the_spacing(model):
    images, geometry = random_input()
    with torch.no_grad():
        output = model(images, geometry)
    offset = output.gaussians.means.unflatten(1, (40, 5)) - output.anchors[:, :, None]
    for scene in range(2):
        view, row, column = output.anchor_pixels[scene].unbind(-1)
        spacing = geometry.depth[scene, view, row, column] / 30.0 * (2 * 32 * 32 / 40) ** 0.5
        assert (offset[scene].abs() <= DEEPER.offset_bound * spacing[:, None, None] + 1e-6).all()
        scales = output.gaussians.scales[scene].unflatten(0, (40, 5))
        assert (scales <= DEEPER.scale_bound * spacing[:, None, None]).all()


def test_a_batch_of_two_equals_two_of_one(model):
    images, geometry = random_input()
    both = model(images, geometry)
    for i in range(2):
        one = geometry.map(lambda tensor, i=i: tensor[i : i + 1])
        single = model(images[i : i + 1], one)
        torch.testing.assert_close(single.gaussians.means[0], both.gaussians.means[i], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(single.assignment[0], both.assignment[i], rtol=1e-5, atol=1e-5)


def test_scaling_the_world_scales_the_scene(model):
    images, geometry = random_input(1)
    scaled = dataclasses.replace(geometry, points=geometry.points * 4, depth=geometry.depth * 4)
    plain, large = model(images, geometry), model(images, scaled)
    torch.testing.assert_close(large.gaussians.means, plain.gaussians.means * 4, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(large.gaussians.scales, plain.gaussians.scales * 4, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(large.assignment, plain.assignment, rtol=1e-4, atol=1e-5)


def test_permuting_the_group_tokens_permutes_the_groups():
    torch.manual_seed(0)
    model = TokenGroupModel(DEEPER, FEATURE_DIM)
    images, geometry = random_input(1)
    before = model(images, geometry)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        model.group_tokens.copy_(model.group_tokens[order].clone())
    after = model(images, geometry)
    torch.testing.assert_close(after.assignment, before.assignment[..., order])
    torch.testing.assert_close(after.group_tokens, before.group_tokens[:, order])


def test_every_parameter_gets_a_gradient(model):
    output = model(*random_input())
    total = sum((g.square().sum() for g in vars(output.gaussians).values()), output.assignment.square().sum())
    model.zero_grad()
    total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
