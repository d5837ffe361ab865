"""Attention against the definition in float64, in every branch."""

from __future__ import annotations

import pytest
import torch

from tokengroups.nn.blocks import attend


def by_definition(q, k, v):
    logits = torch.einsum("bhqd,bhmd->bhqm", q, k) / q.shape[-1] ** 0.5
    weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
    return torch.einsum("bhqm,bhmd->bhqd", weights, v)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_matches_the_definition_forward_and_backward(dtype, tolerance, grad):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=generator, dtype=torch.float64) for n in (5, 7, 7))
    inputs = [x.to(dtype).requires_grad_(grad) for x in (q, k, v)]
    reference = [x.detach().double().requires_grad_(grad) for x in inputs]
    with torch.set_grad_enabled(grad):
        out, expected = attend(*inputs), by_definition(*reference)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)
    if grad:
        out.sum().backward()
        expected.sum().backward()
        for x, y in zip(inputs, reference, strict=True):
            torch.testing.assert_close(x.grad.double(), y.grad, rtol=tolerance, atol=tolerance)
