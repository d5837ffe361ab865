"""The contrastive loss against a float64 loop and its edge cases."""

from __future__ import annotations

import math

import pytest
import torch

from tokengroups.losses.contrastive import supervised_contrastive_loss


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(30, 5, generator=generator)
    ids = torch.randint(-1, 6, (30,), generator=generator)
    ids[0] = 99  # alone
    vectors = [e / e.norm() for e in embeddings.double()]
    labelled = [k for k in range(30) if ids[k] >= 0]
    terms = []
    for k in labelled:
        others = {j: math.exp(float(vectors[k] @ vectors[j]) / 0.1) for j in labelled if j != k}
        partners = [j for j in others if ids[j] == ids[k]]
        if partners:
            terms.append(-sum(math.log(others[j] / sum(others.values())) for j in partners) / len(partners))
    expected = torch.tensor(sum(terms) / len(terms), dtype=torch.float32)
    torch.testing.assert_close(supervised_contrastive_loss(embeddings, ids), expected)


def test_embeddings_that_tell_the_instances_apart_cost_least():
    ids = torch.arange(4).repeat_interleave(5)
    apart = torch.eye(4)[ids].requires_grad_()
    together = torch.ones(20, 4)
    loss = supervised_contrastive_loss(apart, ids)
    assert loss < supervised_contrastive_loss(together, ids)
    loss.backward()
    assert torch.isfinite(apart.grad).all()


def test_nothing_to_compare_costs_nothing():
    embeddings = torch.randn(3, 4, requires_grad=True)
    for ids in (torch.tensor([0, 1, 2]), torch.full((3,), -1)):
        loss = supervised_contrastive_loss(embeddings, ids)
        loss.backward()
        assert loss == 0
    assert (embeddings.grad == 0).all()
