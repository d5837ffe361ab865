"""Mask and contrastive losses on the anchors, and how they enter the objective."""

from __future__ import annotations

import pytest
import torch
from test_systems_token_groups_objective import decoded, random_rendering, random_views

from tokengroups.data.example import Example
from tokengroups.hungarian import match_groups
from tokengroups.losses.contrastive import supervised_contrastive_loss
from tokengroups.losses.masks import instance_ids, mask_costs, mask_losses
from tokengroups.losses.terms import LossTerms
from tokengroups.systems.token_groups_tiny import TokenGroupsTinyLossWeights
from tokengroups.systems.token_groups_tiny import objective as module
from tokengroups.systems.token_groups_tiny.objective import (
    TokenGroupsTinyObjective,
    anchor_instances,
    contrastive_loss,
    joint_mask_losses,
)


@pytest.fixture
def example() -> Example:
    return Example(random_views(2, 2, seed=4), random_views(2, 3))


@pytest.fixture
def losses(example, monkeypatch):
    """The objective on a rendering that is given."""

    def of(weights: TokenGroupsTinyLossWeights) -> LossTerms:
        monkeypatch.setattr(module, "render_groups", lambda *_: random_rendering(2, 3, num_groups=5))
        return TokenGroupsTinyObjective(weights)(decoded(2, 5), example, example.targets.cameras, 50)

    return of


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
    weights = TokenGroupsTinyLossWeights(anchors=1.0)
    on_views, on_anchors = joint_mask_losses(probabilities, ids, assignment, anchor_ids, weights)
    labelled = torch.tensor([9, 9, 4, 4, -1, -1])[None, :, None]
    columns = instance_ids(labelled).tolist()
    assert columns == [4, 9]
    expected = mask_losses(assignment[None, :, None], labelled, torch.tensor([0, 2]), torch.tensor([1, 0]))
    torch.testing.assert_close(on_anchors.bce, expected.bce)
    torch.testing.assert_close(on_anchors.dice, expected.dice)
    assert on_views.bce > 0
    _, without = joint_mask_losses(probabilities, ids, assignment, anchor_ids, TokenGroupsTinyLossWeights())
    assert without.bce == 0 and without.dice == 0


def test_anchor_terms_enter_the_total_with_their_weight(losses):
    weights = TokenGroupsTinyLossWeights(
        lpips=0.0, rendering=0.3, segmentation=0.2, segmentation_warmup_steps=100, anchors=2.0, contrastive=0.1
    )
    found = losses(weights)
    terms = found.terms
    assert set(terms) == {
        "mse", "lpips", "bce", "dice", "anchor_bce", "anchor_dice", "contrastive", "segmentation_weight",
    }  # fmt: skip
    assert all(terms[name] > 0 for name in set(terms) - {"lpips"}) and terms["segmentation_weight"] == 0.1
    on_views, on_anchors = (2 * terms[f"{kind}bce"] + terms[f"{kind}dice"] for kind in ("", "anchor_"))
    segmentation = on_views + 2.0 * on_anchors + 0.1 * terms["contrastive"]
    torch.testing.assert_close(found.total, 0.3 * terms["mse"] + 0.1 * segmentation)


def test_terms_are_means_over_scenes(losses, example):
    weights = TokenGroupsTinyLossWeights(anchors=1.0, contrastive=0.5)
    terms, rendered, output = losses(weights).terms, random_rendering(2, 3, num_groups=5), decoded(2, 5)
    ids = anchor_instances(example.context, output.anchor_pixels)
    pairs = [
        joint_mask_losses(rendered.features[i], example.targets.group_ids[i], output.assignment[i], ids[i], weights)
        for i in range(2)
    ]  # fmt: skip
    for name in ("bce", "dice"):
        means = [sum(getattr(pair[which], name) for pair in pairs) / 2 for which in range(2)]
        torch.testing.assert_close(terms[name], means[0])
        torch.testing.assert_close(terms[f"anchor_{name}"], means[1])
    torch.testing.assert_close(terms["contrastive"], contrastive_loss(output.anchor_keys, ids, 0.5))


def test_the_contrastive_term_is_the_mean_over_scenes():
    output, ids = decoded(2, num_groups=3), torch.arange(10).repeat(2, 1) // 4
    expected = [supervised_contrastive_loss(keys, ids[0]) for keys in output.anchor_keys]
    torch.testing.assert_close(contrastive_loss(output.anchor_keys, ids, 0.5), sum(expected) / 2)
    assert contrastive_loss(output.anchor_keys, ids, 0.0) == 0


def test_without_rendering_the_masks_on_the_anchors_are_the_loss(example, monkeypatch):
    weights = TokenGroupsTinyLossWeights(rendering=0.0, segmentation=0.5, segmentation_warmup_steps=0, anchors=1.0)
    monkeypatch.setattr(module, "render_groups", None)  # calling it would fail
    output = decoded(2, num_groups=5)
    found = TokenGroupsTinyObjective(weights)(output, example, example.targets.cameras, 0)
    expected = torch.zeros(())
    for scene in range(2):
        view, row, column = output.anchor_pixels[scene].unbind(-1)
        ids = example.context.group_ids[scene, view, row, column]
        probabilities = output.assignment[scene][None, :, None]
        pairs = match_groups(mask_costs(probabilities, ids[None, :, None]))
        losses = mask_losses(probabilities, ids[None, :, None], *pairs)
        expected = expected + 0.5 * (2 * losses.bce + losses.dice) / 2
    torch.testing.assert_close(found.total, expected, rtol=1e-4, atol=1e-5)
    assert all(found.terms[name] == 0 for name in ("mse", "lpips", "bce", "dice", "contrastive"))
    with pytest.raises(ValueError, match="nothing is learned"):
        TokenGroupsTinyLossWeights(rendering=0.0)
