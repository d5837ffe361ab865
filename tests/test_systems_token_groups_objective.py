"""The training objective: warm-up, supervision cameras, and terms against direct computation."""

from __future__ import annotations

import pytest
import torch

from tokengroups.geometry import invert_rigid, relative_cameras, world_points
from tokengroups.hungarian import match_groups
from tokengroups.losses.contrastive import supervised_contrastive_loss
from tokengroups.losses.masks import instance_ids, mask_costs, mask_losses
from tokengroups.render import RenderOutput
from tokengroups.systems.token_groups.decoder import TokenGroupsOutput
from tokengroups.systems.token_groups.objective import (
    TokenGroupsLosses,
    TokenGroupsLossWeights,
    anchor_instances,
    anchor_losses,
    scene_mask_losses,
    segmentation_weight,
    supervision_cameras,
    token_groups_losses,
)
from tokengroups.types import Cameras, Gaussians, Views


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


def decoded(num_scenes: int, num_groups: int) -> TokenGroupsOutput:
    """Ten anchors a scene with random keys, undecided between the groups."""
    generator = torch.Generator().manual_seed(2)
    shapes = ((3,), (4,), (3,), (), (1, 3))
    gaussians = Gaussians(*(torch.zeros(num_scenes, 10, *shape) for shape in shapes))
    return TokenGroupsOutput(
        gaussians=gaussians,
        anchor_ids=torch.arange(10),
        anchors=torch.zeros(num_scenes, 10, 3),
        anchor_pixels=torch.zeros(num_scenes, 10, 3, dtype=torch.int64),
        anchor_keys=torch.randn(num_scenes, 10, 6, generator=generator),
        assignment=torch.full((num_scenes, 10, num_groups), 1 / num_groups),
        group_tokens=torch.zeros(num_scenes, num_groups, 6),
    )


def losses_without_anchors(
    rendered: RenderOutput, targets: Views, weights=None, perceptual=None
) -> TokenGroupsLosses:
    output = decoded(len(rendered.features), rendered.features.shape[-1])
    ids = torch.zeros(len(rendered.features), 10, dtype=torch.int64)
    return token_groups_losses(
        rendered, targets, weights or TokenGroupsLossWeights(), perceptual, output, ids
    )


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
    losses = losses_without_anchors(rendered, targets, weights)
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
    losses = losses_without_anchors(
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
    first, second = losses_without_anchors(rendered, targets), losses_without_anchors(permuted, targets)
    torch.testing.assert_close(first.bce, second.bce)
    torch.testing.assert_close(first.dice, second.dice)


def test_anchor_instances_read_the_photo_pixel():
    context = random_views(2, 2)
    pixels = torch.tensor([[[0, 3, 5], [1, 7, 0]], [[1, 0, 0], [0, 2, 2]]])
    got = anchor_instances(context, pixels)
    for scene in range(2):
        for k in range(2):
            view, row, column = pixels[scene, k]
            assert got[scene, k] == context.group_ids[scene, view, row, column]


def test_anchors_decide_the_matching_where_rendered_masks_say_nothing():
    """Two instances of equal rendered masks, anchors that name them: the pairing and the loss follow the anchors."""
    ids = torch.tensor([4, 9]).repeat(32)[None, None]  # [1, 1, 64]
    probabilities = torch.full((1, 1, 64, 3), 0.3)
    anchor_ids = torch.tensor([9, 9, 4, 4, 7, -1])  # 7 is not among the rendered instances
    assignment = torch.tensor([[0.9, 0.05, 0.05]] * 2 + [[0.05, 0.05, 0.9]] * 2 + [[0.1, 0.8, 0.1]] * 2)
    weights = TokenGroupsLossWeights(anchors=1.0)
    on_views, on_anchors = scene_mask_losses(probabilities, ids, assignment, anchor_ids, weights)
    labelled = torch.tensor([9, 9, 4, 4, -1, -1])[None, :, None]
    columns = instance_ids(labelled).tolist()
    assert columns == [4, 9]
    expected = mask_losses(assignment[None, :, None], labelled, torch.tensor([0, 2]), torch.tensor([1, 0]))
    torch.testing.assert_close(on_anchors.bce, expected.bce)
    torch.testing.assert_close(on_anchors.dice, expected.dice)
    assert on_views.bce > 0
    _, without = scene_mask_losses(probabilities, ids, assignment, anchor_ids, TokenGroupsLossWeights())
    assert without.bce == 0 and without.dice == 0


def test_anchor_terms_enter_the_total_with_their_weight():
    zero = torch.zeros(())
    losses = TokenGroupsLosses(zero, zero, zero, zero, *torch.tensor([0.5, 0.25, 3.0]))
    weights = TokenGroupsLossWeights(
        segmentation=0.2, segmentation_warmup_steps=0, anchors=2.0, contrastive=0.1
    )
    torch.testing.assert_close(
        losses.total(weights, 0), torch.tensor(0.2 * (2.0 * (2 * 0.5 + 0.25) + 0.1 * 3))
    )


def test_the_contrastive_term_is_the_mean_over_scenes():
    output, ids = decoded(2, num_groups=3), torch.arange(10).repeat(2, 1) // 4
    weights = TokenGroupsLossWeights(rendering=0.0, anchors=1.0, contrastive=0.5)
    expected = [supervised_contrastive_loss(keys, ids[0]) for keys in output.anchor_keys]
    torch.testing.assert_close(anchor_losses(output, ids, weights).contrastive, sum(expected) / 2)
    off = TokenGroupsLossWeights(rendering=0.0, anchors=1.0)
    assert anchor_losses(output, ids, off).contrastive == 0
