"""The training objective: warm-up, supervision cameras, and terms against direct computation."""

from __future__ import annotations

import pytest
import torch

from tokengroups.geometry import invert_rigid, relative_cameras, world_points
from tokengroups.losses.masks import mask_costs, mask_losses
from tokengroups.matching import match_groups
from tokengroups.models.objective import (
    TokenGroupsLossWeights,
    segmentation_weight,
    supervision_cameras,
    token_groups_losses,
)
from tokengroups.render import RenderOutput
from tokengroups.types import Cameras, Views


def random_views(num_scenes: int, num_views: int, seed: int = 0) -> Views:
    generator = torch.Generator().manual_seed(seed)
    cam_from_world = torch.eye(4).repeat(num_scenes, num_views, 1, 1)
    cam_from_world[..., :3, 3] = torch.randn(num_scenes, num_views, 3, generator=generator)
    intrinsics = torch.tensor([[9.0, 0, 4], [0, 9, 4], [0, 0, 1]]).expand(num_scenes, num_views, 3, 3)
    return Views(
        torch.rand(num_scenes, num_views, 3, 8, 8, generator=generator),
        Cameras(cam_from_world, intrinsics, (8, 8)),
        torch.rand(num_scenes, num_views, 8, 8, generator=generator) + 1,
        torch.randint(-1, 3, (num_scenes, num_views, 8, 8), generator=generator),
    )


def random_rendering(num_scenes: int, num_views: int, num_groups: int, seed: int = 1) -> RenderOutput:
    generator = torch.Generator().manual_seed(seed)
    size = (num_scenes, num_views, 8, 8)
    alphas = torch.rand(size, generator=generator)
    probabilities = torch.rand(*size, num_groups, generator=generator).softmax(-1) * alphas[..., None]
    return RenderOutput(torch.rand(*size, 3, generator=generator), alphas, alphas + 1, probabilities)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (750, 0.1), (1500, 0.2), (9000, 0.2)])
def test_segmentation_weight_rises_linearly_and_stays(step, expected):
    weights = TokenGroupsLossWeights(segmentation=0.2, segmentation_warmup_steps=1500)
    assert segmentation_weight(weights, step) == pytest.approx(expected)
    assert (
        segmentation_weight(TokenGroupsLossWeights(segmentation=0.2, segmentation_warmup_steps=0), step)
        == 0.2
    )


def test_supervision_cameras_undo_the_predictions_scale():
    context, targets = random_views(2, 2), random_views(2, 3, seed=5)
    scale = torch.tensor([0.25, 3.0])
    cameras = context.cameras
    relative = relative_cameras(cameras.cam_from_world, cameras.cam_from_world[:, 0], scale)
    predicted = world_points(context.depth * scale[:, None, None, None], relative, cameras.intrinsics)
    got = supervision_cameras(targets, context, predicted)
    expected = relative_cameras(targets.cameras.cam_from_world, cameras.cam_from_world[:, 0], scale)
    torch.testing.assert_close(got.cam_from_world, expected, rtol=1e-4, atol=1e-4)
    centre = invert_rigid(got.cam_from_world)[..., :3, 3]
    true_centre = invert_rigid(targets.cameras.cam_from_world)[..., :3, 3]
    first_centre = invert_rigid(cameras.cam_from_world[:, :1])[..., :3, 3]
    torch.testing.assert_close(
        centre.norm(dim=-1), (true_centre - first_centre).norm(dim=-1) * scale[:, None], rtol=1e-4, atol=1e-4
    )


def test_terms_are_means_over_scenes_of_their_definitions():
    targets, rendered = random_views(2, 3), random_rendering(2, 3, num_groups=5)
    weights = TokenGroupsLossWeights()
    losses = token_groups_losses(rendered, targets, weights, perceptual=None)
    error = rendered.colors - targets.images.permute(0, 1, 3, 4, 2)
    torch.testing.assert_close(losses.mse, error.double().square().mean().float())
    assert losses.lpips == 0
    bce, dice = [], []
    for probabilities, ids in zip(rendered.features, targets.group_ids, strict=True):
        pairs = match_groups(mask_costs(probabilities, ids, weights.masks))
        scene = mask_losses(probabilities, ids, *pairs)
        bce.append(scene.bce)
        dice.append(scene.dice)
    torch.testing.assert_close(losses.bce, sum(bce) / 2)
    torch.testing.assert_close(losses.dice, sum(dice) / 2)


def test_total_weighs_the_terms_and_calls_the_perceptual_loss_per_image():
    targets, rendered = random_views(2, 3), random_rendering(2, 3, num_groups=5)
    weights = TokenGroupsLossWeights(lpips=0.5, segmentation=0.2, segmentation_warmup_steps=100)
    losses = token_groups_losses(
        rendered, targets, weights, perceptual=lambda photos, real: (photos - real).abs().mean(dim=(1, 2, 3))
    )
    torch.testing.assert_close(
        losses.lpips, (rendered.colors - targets.images.permute(0, 1, 3, 4, 2)).abs().mean()
    )
    expected = losses.mse + 0.5 * losses.lpips + 0.1 * (2 * losses.bce + losses.dice)
    torch.testing.assert_close(losses.total(weights, step=50), expected)


def test_permuting_the_groups_changes_nothing():
    targets, rendered = random_views(1, 3), random_rendering(1, 3, num_groups=5)
    permuted = RenderOutput(
        rendered.colors, rendered.alphas, rendered.depths, rendered.features[..., [4, 2, 0, 1, 3]]
    )
    weights = TokenGroupsLossWeights()
    first = token_groups_losses(rendered, targets, weights, None)
    second = token_groups_losses(permuted, targets, weights, None)
    torch.testing.assert_close(first.bce, second.bce)
    torch.testing.assert_close(first.dice, second.dice)
