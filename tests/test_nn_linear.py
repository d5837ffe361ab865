"""Large products on oneDNN are those of float64, and nothing else is touched."""

from __future__ import annotations

import pytest
import torch
from tolerances import tolerance
from torch import nn

from tokengroups.nn import linear as module
from tokengroups.nn.linear import Linear, linear


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 20, 6), (33, 6)])
def test_large_products_are_those_of_float64(monkeypatch, shape, bias):
    monkeypatch.setattr(module, "_LARGE", 10)
    layer, x = Linear(6, 9, bias=bias), torch.randn(*shape)
    expected = nn.functional.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected.float(), **tolerance("float32"))
        part = x[..., ::2, :]  # rows apart in memory
        torch.testing.assert_close(layer(part), expected[..., ::2, :].float(), **tolerance("float32"))


def test_small_products_and_gradients_are_torchs(monkeypatch):
    x, layer = torch.randn(40, 6), Linear(6, 9)
    with torch.no_grad():
        assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    monkeypatch.setattr(module, "_LARGE", 10)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad():
        assert linear(x.double(), layer.weight.double(), layer.bias.double()).dtype == torch.float64
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
