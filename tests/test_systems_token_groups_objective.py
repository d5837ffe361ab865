"""The training objective: warm-up, and terms against direct computation."""

from __future__ import annotations

import pytest
import torch

from tokengroups.data.example import Example
from tokengroups.hungarian import match_groups
from tokengroups.losses.masks import mask_costs, mask_losses
from tokengroups.losses.terms import LossTerms
from tokengroups.render import RenderOutput
from tokengroups.systems.token_groups import TokenGroupsLossWeights, TokenGroupsOutput
from tokengroups.systems.token_groups import objective as module
from tokengroups.systems.token_groups.objective import TokenGroupsObjective, render_groups
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
    """Ten anchors a scene with random keys and pixels, nearly undecided between the groups."""
    generator = torch.Generator().manual_seed(2)
    shapes = ((3,), (4,), (3,), (), (1, 3))
    gaussians = Gaussians(*(torch.zeros(num_scenes, 10, *shape) for shape in shapes))
    return TokenGroupsOutput(
        gaussians=gaussians,
        anchor_ids=torch.arange(10),
        anchors=torch.zeros(num_scenes, 10, 3),
        anchor_pixels=torch.randint(0, 2, (num_scenes, 10, 3), generator=generator),
        anchor_keys=torch.randn(num_scenes, 10, 6, generator=generator),
        assignment=torch.rand(num_scenes, 10, num_groups, generator=generator).softmax(-1),
        group_tokens=torch.zeros(num_scenes, num_groups, 6),
    )


@pytest.fixture
def example() -> Example:
    return Example(random_views(2, 2, seed=4), random_views(2, 3))


@pytest.fixture
def losses(example, monkeypatch):
    """The objective on a rendering that is given."""

    def of(rendered: RenderOutput, weights=None, perceptual=None, step: int = 50) -> LossTerms:
        monkeypatch.setattr(module, "render_groups", lambda *_: rendered)
        objective = TokenGroupsObjective(weights or TokenGroupsLossWeights(), perceptual)
        output = decoded(len(rendered.colors), rendered.features.shape[-1])
        return objective(output, example, example.targets.cameras, step)

    return of


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (750, 0.1), (1500, 0.2), (9000, 0.2)])
def test_segmentation_weight_rises_linearly_and_stays(step, expected):
    weights = TokenGroupsLossWeights(segmentation=0.2, segmentation_warmup_steps=1500)
    assert weights.segmentation_at(step) == pytest.approx(expected)
    without = TokenGroupsLossWeights(segmentation=0.2, segmentation_warmup_steps=0)
    assert without.segmentation_at(step) == 0.2


def test_terms_are_means_over_scenes_of_their_definitions(losses, example):
    rendered, weights = random_rendering(2, 3, num_groups=5), TokenGroupsLossWeights()
    terms = losses(rendered).terms
    assert set(terms) == {"mse", "lpips", "bce", "dice", "segmentation_weight"}
    error = rendered.colors - example.targets.images.permute(0, 1, 3, 4, 2)
    torch.testing.assert_close(terms["mse"], error.double().square().mean().float())
    assert terms["lpips"] == 0
    bce, dice = [], []
    for probabilities, ids in zip(rendered.features, example.targets.group_ids, strict=True):
        pairs = match_groups(mask_costs(probabilities, ids, weights.masks))
        scene = mask_losses(probabilities, ids, *pairs)
        bce.append(scene.bce)
        dice.append(scene.dice)
    torch.testing.assert_close(terms["bce"], sum(bce) / 2)
    torch.testing.assert_close(terms["dice"], sum(dice) / 2)


def test_total_weighs_the_terms_and_calls_the_perceptual_loss_per_image(losses, example):
    rendered = random_rendering(2, 3, num_groups=5)
    weights = TokenGroupsLossWeights(lpips=0.5, segmentation=0.2, segmentation_warmup_steps=100)
    found = losses(rendered, weights, lambda photos, real: (photos - real).abs().mean(dim=(1, 2, 3)))
    terms = found.terms
    torch.testing.assert_close(
        terms["lpips"], (rendered.colors - example.targets.images.permute(0, 1, 3, 4, 2)).abs().mean()
    )
    assert terms["segmentation_weight"] == pytest.approx(0.1)
    expected = terms["mse"] + 0.5 * terms["lpips"] + 0.1 * (2 * terms["bce"] + terms["dice"])
    torch.testing.assert_close(found.total, expected)


def test_lpips_without_a_weight_is_not_computed(losses):
    found = losses(random_rendering(2, 3, 5), TokenGroupsLossWeights(lpips=0.0), lambda *_: pytest.fail("called"))
    assert found.terms["lpips"] == 0


def test_permuting_the_groups_changes_nothing(losses):
    rendered = random_rendering(2, 3, num_groups=5)
    permuted = RenderOutput(rendered.colors, rendered.alphas, rendered.depths, rendered.features[..., [4, 2, 0, 1, 3]])
    first, second = losses(rendered).terms, losses(permuted).terms
    torch.testing.assert_close(first["bce"], second["bce"])
    torch.testing.assert_close(first["dice"], second["dice"])


def test_what_is_rendered_are_colours_and_the_anchors_groups():
    output = decoded(2, num_groups=5)
    cameras = random_views(2, 3).cameras
    in_front = torch.tensor([0.0, 0.0, 4.0]).expand(2, 10, 3)
    gaussians = Gaussians(
        in_front, torch.ones(2, 10, 4), torch.full((2, 10, 3), 2.0), torch.full((2, 10), 0.9), torch.zeros(2, 10, 1, 3)
    )  # fmt: skip
    output = TokenGroupsOutput(**{**vars(output), "gaussians": gaussians})
    rendered = render_groups(output, cameras)
    assert rendered.colors.shape == (2, 3, 8, 8, 3) and rendered.features.shape == (2, 3, 8, 8, 5)
    assert rendered.alphas.max() > 0.9
    torch.testing.assert_close(rendered.features.sum(dim=-1), rendered.alphas)
