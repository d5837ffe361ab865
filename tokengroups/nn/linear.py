"""Linear layers that run on oneDNN where it is faster than MKL."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_LARGE = 2**20  # numbers of a matrix; the results of small networks stay as they are, bit by bit
_ROWS = 16
_OPERATOR = "_linear_pointwise"  # torch.compile uses it too


class Linear(nn.Linear):
    """torch's linear layer; large products in float32 run on oneDNN on a CPU where no gradient is wanted.

    torch takes MKL for them, which is half as fast on AMD's CPUs. Results differ by rounding alone.
    """

    def forward(self, x: Float[Tensor, "*b C"]) -> Float[Tensor, "*b D"]:
        """Apply to the last axis."""
        return linear(x, self.weight, self.bias)


def linear(
    x: Float[Tensor, "*b C"], weight: Float[Tensor, "D C"], bias: Float[Tensor, " D"] | None
) -> Float[Tensor, "*b D"]:
    """Compute x weight^T + bias as `Linear` does."""
    if weight.numel() < _LARGE or x.numel() < _ROWS * x.shape[-1] or not _suits(x, weight):
        return functional.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _suits(x: Tensor, weight: Tensor) -> bool:
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == weight.device.type == "cpu"
    tracked = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
    return plain and not tracked and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, _OPERATOR)
