"""Nearest points against comparing all."""

from __future__ import annotations

import pytest
import torch

from tokengroups.nearest import nearest


@pytest.mark.parametrize(("dim", "count"), [(3, 1), (3, 4), (4, 3), (2, 99)])
def test_nearest_matches_comparing_all(dim, count):
    generator = torch.Generator().manual_seed(dim)
    points = torch.randn(30, dim, generator=generator)
    others = torch.randn(17, dim, generator=generator, requires_grad=True)
    distances, index = nearest(points, others, count)
    expected = torch.cdist(points.double(), others.detach().double()).sort(dim=1)
    assert index.dtype == torch.int64 and distances.dtype == torch.float32
    assert torch.equal(index, expected.indices[:, :count])
    torch.testing.assert_close(distances, expected.values[:, :count].float())
