"""The Gaussian head: offsets within their bounds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tokengroups.nn.gaussian_head import GaussianHead, init_small_cloud


def test_offsets_are_bounded_in_spacings_or_in_the_points_unit():
    torch.manual_seed(0)
    tokens, anchors, colors = torch.randn(1, 9, 8) * 50, torch.randn(1, 9, 3), torch.rand(1, 9, 3)
    spacings = torch.linspace(0.01, 2.0, 9)[None]
    for unit, sizes in (("spacing", spacings), ("points", torch.ones_like(spacings))):
        head = GaussianHead(8, 5, 0, 0.25, 0.8, unit)
        torch.nn.init.normal_(head.mlp[2].weight)
        offsets = head(tokens, anchors, spacings, colors).means.unflatten(1, (9, 5)) - anchors[:, :, None]
        reached = offsets.abs().amax(dim=(2, 3)) / (0.25 * sizes)
        assert (reached <= 1 + 1e-4).all() and (reached > 0.9).all()


def test_layers_that_will_be_loaded_draw_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """To draw on "meta", torch imports so much that every command would take most of a second longer."""
    monkeypatch.setattr(nn.init, "normal_", lambda *_, **__: pytest.fail("drawn"))
    init_small_cloud(nn.Linear(4, 22, device="meta"), per_anchor=2, offset_bound=1.0)
