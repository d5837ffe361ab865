"""Group matching against brute force."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from tokengroups.hungarian import match_groups


@pytest.mark.parametrize(("groups", "instances"), [(6, 4), (4, 4), (3, 5), (5, 1)])
def test_least_total_cost_of_all_pairings(groups: int, instances: int) -> None:
    cost = torch.randn(groups, instances, generator=torch.Generator().manual_seed(groups))
    group_idx, instance_idx = match_groups(cost)
    assert group_idx.dtype == instance_idx.dtype == torch.int64
    assert len(set(group_idx.tolist())) == len(set(instance_idx.tolist())) == min(groups, instances)
    wide = cost if groups >= instances else cost.T
    best = min(
        sum(wide[row, column].item() for column, row in enumerate(rows))
        for rows in permutations(range(wide.shape[0]), wide.shape[1])
    )
    assert cost[group_idx, instance_idx].sum().item() == pytest.approx(best, rel=1e-6)


def test_no_instances_gives_no_pairs() -> None:
    group_idx, instance_idx = match_groups(torch.zeros(4, 0))
    assert group_idx.shape == instance_idx.shape == (0,)


def test_nan_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        match_groups(torch.tensor([[0.0, float("nan")]]))
