"""Mask costs and losses against float64 loops over instances and groups, and against torch's own BCE."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tokengroups.hungarian import match_groups
from tokengroups.losses.masks import EPS, MaskLossWeights, instance_ids, mask_costs, mask_losses


def _scene(seed: int, views: int = 3, size: int = 12, groups: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    alpha = torch.rand(views, size, size, 1, generator=generator)
    probabilities = torch.randn(views, size, size, groups, generator=generator).mul(3).softmax(dim=-1) * alpha
    ids = torch.randint(-1, 4, (views, size, size), generator=generator) * 5
    return probabilities, ids.clamp(min=-1)


def _loop_pair(probabilities: Tensor, ids: Tensor, group: int, instance: int) -> tuple[float, float]:
    """BCE and Dice of one group and one instance id, in float64."""
    keep = ids >= 0
    p = probabilities.double()[..., group][keep]
    y = (ids[keep] == instance).double()
    bce = torch.nn.functional.binary_cross_entropy(EPS + (1 - 2 * EPS) * p, y).item()
    dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    return bce, dice.item()


def test_costs_equal_a_loop_over_pairs() -> None:
    probabilities, ids = _scene(0)
    weights = MaskLossWeights(bce=1.7, dice=0.6)
    cost = mask_costs(probabilities, ids, weights)
    found = instance_ids(ids).tolist()
    assert cost.shape == (7, len(found)) and found == [0, 5, 10, 15]
    for group in range(7):
        for column, instance in enumerate(found):
            bce, dice = _loop_pair(probabilities, ids, group, instance)
            assert cost[group, column].item() == pytest.approx(1.7 * bce + 0.6 * dice, rel=1e-5)


def test_losses_are_the_mean_over_the_matched_pairs() -> None:
    probabilities, ids = _scene(1)
    weights = MaskLossWeights()
    cost = mask_costs(probabilities, ids, weights)
    group_idx, instance_idx = match_groups(cost)
    losses = mask_losses(probabilities, ids, group_idx, instance_idx)
    found = instance_ids(ids)
    pairs = [
        _loop_pair(probabilities, ids, int(group), int(found[instance]))
        for group, instance in zip(group_idx, instance_idx, strict=True)
    ]
    assert losses.bce.item() == pytest.approx(sum(bce for bce, _ in pairs) / len(pairs), rel=1e-5)
    assert losses.dice.item() == pytest.approx(sum(dice for _, dice in pairs) / len(pairs), rel=1e-5)
    matched_cost = cost[group_idx, instance_idx].mean().item()
    assert losses.total(weights).item() == pytest.approx(matched_cost, rel=1e-5)


def test_unlabelled_pixels_change_neither_value_nor_gradient() -> None:
    probabilities, ids = _scene(2)
    changed = torch.where(ids[..., None] < 0, torch.rand_like(probabilities), probabilities).requires_grad_()
    pairs = match_groups(mask_costs(probabilities, ids))
    assert torch.equal(mask_costs(probabilities, ids), mask_costs(changed, ids))
    before, after = mask_losses(probabilities, ids, *pairs), mask_losses(changed, ids, *pairs)
    assert torch.equal(before.bce, after.bce) and torch.equal(before.dice, after.dice)
    (gradient,) = torch.autograd.grad(after.total(MaskLossWeights()), changed)
    assert gradient[ids < 0].abs().max() == 0 and gradient[ids >= 0].abs().max() > 0


def test_one_matching_spans_all_views() -> None:
    """Groups that swap instances between the views lose, even if each view alone is perfect."""
    ids = torch.zeros(2, 4, 4, dtype=torch.int64)
    ids[:, :, 2:] = 1
    consistent = torch.nn.functional.one_hot(ids, 2).float()
    swapped = torch.stack([consistent[0], 1 - consistent[1]])
    for probabilities, perfect in [(consistent, True), (swapped, False)]:
        losses = mask_losses(probabilities, ids, *match_groups(mask_costs(probabilities, ids)))
        assert (losses.dice.item() < 0.01) == perfect
        assert (losses.bce.item() < 0.01) == perfect


@pytest.mark.parametrize("wrong", [0.0, 1.0])
def test_gradient_stays_alive_and_finite_where_the_prediction_is_most_wrong(wrong: float) -> None:
    ids = torch.zeros(1, 2, 2, dtype=torch.int64)
    ids[..., 1] = 1
    probabilities = torch.full((1, 2, 2, 2), wrong, requires_grad=True)
    losses = mask_losses(probabilities, ids, torch.tensor([0, 1]), torch.tensor([0, 1]))
    (gradient,) = torch.autograd.grad(losses.bce, probabilities)
    should_be = torch.nn.functional.one_hot(ids, 2).bool()
    at_fault = gradient[should_be] if wrong == 0 else gradient[~should_be]
    assert torch.isfinite(gradient).all() and at_fault.abs().min() > 0


def test_gradient_against_finite_differences() -> None:
    probabilities, ids = _scene(3, views=1, size=3, groups=5)
    pairs = match_groups(mask_costs(probabilities, ids))
    probabilities = probabilities.clone().requires_grad_()
    losses = mask_losses(probabilities, ids, *pairs)
    (gradient,) = torch.autograd.grad(losses.total(MaskLossWeights()), probabilities)

    def reference(values: Tensor) -> float:
        found = instance_ids(ids)
        pairs_of = [_loop_pair(values, ids, int(g), int(found[m])) for g, m in zip(*pairs, strict=True)]
        return sum(2 * bce + dice for bce, dice in pairs_of) / len(pairs_of)

    exact = probabilities.detach().double()
    step = 1e-6
    for index in range(0, exact.numel(), 4):
        nudge = torch.zeros(exact.numel(), dtype=torch.float64)
        nudge[index] = step
        nudge = nudge.view_as(exact)
        numeric = (reference(exact + nudge) - reference(exact - nudge)) / (2 * step)
        assert gradient.flatten()[index].item() == pytest.approx(numeric, rel=1e-3, abs=1e-6)


def test_scene_without_labels_gives_a_zero_that_backpropagates() -> None:
    probabilities = torch.rand(1, 3, 3, 4, requires_grad=True)
    ids = torch.full((1, 3, 3), -1)
    cost = mask_costs(probabilities, ids)
    assert cost.shape == (4, 0)
    total = mask_losses(probabilities, ids, *match_groups(cost)).total(MaskLossWeights())
    total.backward()
    assert total.item() == 0 and probabilities.grad is not None and probabilities.grad.abs().max() == 0


def test_half_precision_probabilities_are_summed_in_float32() -> None:
    probabilities, ids = _scene(4, views=2, size=64)
    half = probabilities.bfloat16()
    assert torch.equal(mask_costs(half, ids), mask_costs(half.float(), ids))
