"""Votes of masks for the groups of anchors, against loops in float64 and cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tokengroups.postprocess.votes import anchor_shares, vote


def random_case(seed: int, anchors: int = 30, groups: int = 5, instances: int = 7) -> tuple[Tensor, Tensor]:
    """An assignment, and shares that leave pixels in no instance."""
    generator = torch.Generator().manual_seed(seed)
    assignment = (3 * torch.randn(anchors, groups, generator=generator)).softmax(dim=1)
    shares = (4 * torch.randn(anchors, instances + 1, generator=generator)).softmax(dim=1)[:, 1:]
    return assignment, shares


@pytest.mark.parametrize("weight", [0.25, 0.9, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_votes_match_loops(seed: int, weight: float):
    assignment, shares = random_case(seed)
    own, part = assignment.double().tolist(), shares.double().tolist()
    anchors, groups, instances = range(len(own)), range(len(own[0])), range(len(part[0]))
    expected = []
    for k in anchors:
        row = []
        for group in groups:
            votes = (1 - sum(part[k])) * own[k][group]
            for m in instances:
                weighed = sum(part[a][m] * own[a][group] for a in anchors)
                votes += part[k][m] * weighed / sum(part[a][m] for a in anchors)
            row.append(max(own[k][group], 1e-6) ** (1 - weight) * max(votes, 1e-6) ** weight)
        expected.append([value / sum(row) for value in row])
    torch.testing.assert_close(
        vote(assignment, shares, weight).double(), torch.tensor(expected).double(), rtol=1e-5, atol=1e-6
    )


def test_no_weight_and_no_masks_change_nothing():
    assignment, shares = random_case(2)
    assert torch.equal(vote(assignment, shares, 0.0), assignment)
    assert torch.equal(vote(assignment, torch.zeros(30, 0), 0.9), assignment)
    assert torch.equal(vote(assignment, torch.zeros(30, 3), 0.9), assignment)  # masks without a pixel


def test_masks_that_agree_keep_every_anchor_and_a_majority_wins_the_others():
    assignment = torch.tensor([[0.9, 0.1]] * 3 + [[0.2, 0.8]] * 4)
    same = torch.nn.functional.one_hot(assignment.argmax(dim=1), 2).float()
    assert torch.equal(vote(assignment, same, 0.9).argmax(dim=1), assignment.argmax(dim=1))
    shares = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]] * 3)  # the fourth anchor lies in the first mask
    found = vote(assignment, shares, 0.9)
    assert found.argmax(dim=1).tolist() == [0, 0, 0, 0, 1, 1, 1]
    first = 0.75 * 0.9 + 0.25 * 0.2  # share of group 0 in the first mask: 0.725
    odds = (0.2 / 0.8) ** 0.1 * (first / (1 - first)) ** 0.9
    assert float(found[3, 0]) == pytest.approx(odds / (1 + odds), rel=1e-5)


def test_anchors_that_are_certain_can_be_outvoted_and_empty_groups_stay_empty():
    assignment = torch.zeros(9, 4)
    assignment[:, 0] = 1
    assignment[8] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    found = vote(assignment, torch.ones(9, 1), 0.9)
    odds = 1e-6**0.1 * 8**0.9  # of group 0 for the last anchor: its own probability counts as 1e-6
    assert float(found[8, 0] / found[8, 1]) == pytest.approx(odds, rel=1e-4)
    assert float(found[:, 2:].max()) < 1e-5
    assert torch.allclose(found.sum(dim=1), torch.ones(9))


def test_shares_match_loops_over_the_squares_of_anchors():
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(-1, 4, (2, 11, 14), generator=generator)
    pixels = torch.cartesian_prod(torch.arange(2), torch.tensor([0, 2, 6, 10]), torch.tensor([1, 6, 13]))
    for stride in (1, 2, 4, 5):
        found = anchor_shares(labels, 4, pixels, stride)
        for (view, row, column), shares in zip(pixels.tolist(), found.tolist(), strict=True):
            rows = [r for r in range(row - stride // 2, row - stride // 2 + stride) if 0 <= r < 11]
            columns = [c for c in range(column - stride // 2, column - stride // 2 + stride) if 0 <= c < 14]
            square = [int(labels[view, r, c]) for r in rows for c in columns]
            assert shares == pytest.approx([square.count(key) / len(square) for key in range(4)])
            assert math.fsum(shares) == pytest.approx(1 - square.count(-1) / len(square))


def test_squares_of_neighbouring_candidates_touch():
    """Anchors lie in the middle of their cells, so that all candidates' squares cover every pixel once."""
    labels = torch.arange(8 * 8).reshape(1, 8, 8)
    places = torch.arange(2, 8, 4)
    shares = anchor_shares(labels, 64, torch.cartesian_prod(torch.zeros(1, dtype=torch.int64), places, places), 4)
    assert torch.equal(shares.sum(dim=0), torch.full((64,), 1 / 16))


def test_no_instance_at_all():
    shares = anchor_shares(torch.full((1, 4, 4), -1), 0, torch.tensor([[0, 2, 2]]), 4)
    assert shares.shape == (1, 0)
