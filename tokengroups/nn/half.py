"""Large weights held in half precision and widened where they are used: same numbers, half the memory.

float16 and bfloat16 values are float32 values, so a layer gives bit for bit what it gives with widened weights. A
processor without instructions for half precision computes in it some three times slower than in float32.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_WORTHWHILE = 2**19  # values of a weight; widening takes no time beside their products, and smaller ones no memory


class HalfLinear(nn.Linear):
    """`nn.Linear` with a weight in half precision."""

    def forward(self, input: Float[Tensor, "*b C"]) -> Float[Tensor, "*b D"]:  # noqa: A002 - torch's name
        """Apply to the last axis."""
        return functional.linear(input, _widened(self.weight, input), self.bias)


class HalfConv2d(nn.Conv2d):
    """`nn.Conv2d` with a weight in half precision and zeros around the maps."""

    def forward(self, input: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:  # noqa: A002
        """Convolve."""
        weight = _widened(self.weight, input)
        return functional.conv2d(input, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class HalfConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` with a weight in half precision."""

    def forward(
        self,
        input: Float[Tensor, "N C H W"],  # noqa: A002
        output_size: list[int] | None = None,
    ) -> Float[Tensor, "N D h w"]:
        """Convolve; the output's size follows from the input's."""
        assert output_size is None, "not supported"
        sizes = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return functional.conv_transpose2d(input, _widened(self.weight, input), self.bias, *sizes)  # pyright: ignore[reportArgumentType]


_HALF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: HalfLinear, nn.Conv2d: HalfConv2d, nn.ConvTranspose2d: HalfConvTranspose2d,
}  # fmt: skip


def halved_weights(module: nn.Module) -> set[str]:
    """Names of the parameters that may be in half precision."""
    return {f"{name}.weight" if name else "weight" for name, layer in module.named_modules() if _may_halve(layer)}


def hold_half(module: nn.Module) -> None:
    """Let all layers whose weights are in half precision widen them; state dicts and `isinstance` stay as they are."""
    for layer in module.modules():
        if _may_halve(layer) and layer.weight.dtype in (torch.float16, torch.bfloat16):
            layer.__class__ = _HALF[type(layer)]


def widen(module: nn.Module) -> None:
    """Put float32 in the place of half precision: gradients want it."""
    for parameter in module.parameters():
        if parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()


def _may_halve(layer: nn.Module) -> bool:
    if type(layer) not in _HALF or getattr(layer, "padding_mode", "zeros") != "zeros":
        return False
    weight = layer.weight
    return isinstance(weight, Tensor) and weight.numel() >= _WORTHWHILE


def _widened(weight: Tensor, like: Tensor) -> Tensor:
    """The weight in the input's precision; autocast chooses one by itself."""
    return weight if torch.is_autocast_enabled(like.device.type) else weight.to(like.dtype)
