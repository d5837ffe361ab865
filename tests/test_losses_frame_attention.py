"""Divergence of attention and visibility against scipy's, float64 loops and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from tests.tolerances import tolerance
from tokengroups.losses.frame_attention import attention_costs, attention_loss, frame_masses, jensen_shannon


def some_attention(seed: int = 0, layers: int = 3, queries: int = 5, frames: int = 4) -> Tensor:
    """Means over the 11 tokens of each frame of softmax weights over all tokens of all frames."""
    rng = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(layers, queries, frames, 11, generator=rng, dtype=torch.float64)
    return logits.flatten(2).softmax(dim=-1).unflatten(2, (frames, 11)).mean(dim=-1)


def some_shares(seed: int = 1, instances: int = 6, frames: int = 4) -> Tensor:
    """Shares with exact zeros."""
    rng = torch.Generator().manual_seed(seed)
    counts = torch.randint(-20, 40, (instances, frames), generator=rng).clamp(min=0).double()
    counts[:, 0] += counts.sum(dim=1) == 0
    return counts / counts.sum(dim=1, keepdim=True)


def test_divergences_are_scipy_s() -> None:
    shares, attention = some_shares(), frame_masses(some_attention())
    assert (shares == 0).any()
    for layer in attention:
        found = jensen_shannon(shares, layer[:, None])
        for query in range(5):
            for instance in range(6):
                expected = jensenshannon(shares[instance].numpy(), layer[query].numpy()) ** 2
                assert found[query, instance].item() == pytest.approx(expected, abs=1e-12)


def test_divergence_is_0_of_equals_and_log_2_of_disjoint_distributions() -> None:
    one, other = torch.tensor([0.3, 0.7, 0.0, 0.0]), torch.tensor([0.0, 0.0, 0.9, 0.1])
    assert jensen_shannon(one, one).item() == pytest.approx(0, abs=1e-7)
    assert jensen_shannon(one, other).item() == pytest.approx(math.log(2), rel=1e-6)


def test_masses_are_sums_over_tokens_and_neither_means_nor_their_number_matter() -> None:
    attention = some_attention()
    torch.testing.assert_close(frame_masses(attention), 11 * attention, **tolerance("float64"))
    torch.testing.assert_close(frame_masses(0.01 * attention), 11 * attention, **tolerance("float64"))


def test_costs_and_loss_are_sums_over_the_layers() -> None:
    attention, shares = some_attention(), some_shares()
    costs = attention_costs(attention, shares)
    for query in range(5):
        for instance in range(6):
            layers = [(11 * attention[layer, query]).numpy() for layer in range(3)]
            expected = sum(jensenshannon(shares[instance].numpy(), layer) ** 2 for layer in layers)
            assert costs[query, instance].item() == pytest.approx(expected, rel=1e-10)
    query, instance = torch.tensor([0, 3, 4]), torch.tensor([5, 0, 2])
    loss = attention_loss(attention[:, query], shares[instance])
    torch.testing.assert_close(loss, costs[query, instance].mean(), **tolerance("float64"))


def test_gradient_is_that_of_finite_differences() -> None:
    attention = some_attention(layers=2, queries=2).requires_grad_()
    shares = some_shares(instances=2)
    assert torch.autograd.gradcheck(lambda values: attention_loss(values, shares), (attention,))


def test_gradient_is_finite_where_a_frame_gets_no_attention_at_all() -> None:
    logits = torch.tensor([[[200.0, 0.0, 90.0]]], requires_grad=True)  # the softmax of the second underflows
    probabilities = logits.softmax(dim=-1)
    assert probabilities[0, 0, 1] == 0
    loss = attention_loss(probabilities, torch.tensor([[0.0, 0.5, 0.5]]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    assert logits.grad is not None and bool(logits.grad.isfinite().all())


def test_no_pairs_give_a_zero_in_the_graph() -> None:
    attention = some_attention().requires_grad_()
    loss = attention_loss(attention[:, :0], some_shares()[:0])
    loss.backward()
    assert loss.item() == 0 and attention.grad is not None and bool((attention.grad == 0).all())
