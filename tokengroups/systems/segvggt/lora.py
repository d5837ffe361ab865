"""Low-rank adaptation of linear layers (LoRA, Hu et al. 2022); parameters have SegVGGT's names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders.vggt.aggregator import Aggregator


class LowRankUpdate(nn.Module):
    """B A x, zero at the start."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        dtype = torch.promote_types(linear.weight.dtype, torch.float32)  # half precision is for frozen weights alone
        self.lora_A = nn.Linear(linear.in_features, rank, bias=False, device=linear.weight.device, dtype=dtype)
        self.lora_B = nn.Linear(rank, linear.out_features, bias=False, device=linear.weight.device, dtype=dtype)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Float[Tensor, "*b C"]) -> Float[Tensor, "*b D"]:
        """Apply to the last axis."""
        return self.lora_B(self.lora_A(x))


class LoRALinear(nn.Module):
    """W x + b + (alpha / rank) B A x; W and b are frozen."""

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.lora = LowRankUpdate(linear, rank)
        self.factor = alpha / rank

    def forward(self, x: Float[Tensor, "*b C"]) -> Float[Tensor, "*b D"]:
        """Apply to the last axis."""
        return self.linear(x) + self.factor * self.lora(x)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The wrapped layer, changed in place to W + (alpha / rank) B A: equal but for rounding."""
        up, down = self.lora.lora_B.weight, self.lora.lora_A.weight
        self.linear.to(up.dtype).weight += self.factor * up @ down
        return self.linear


def add_lora(trunk: Aggregator, rank: int, alpha: float) -> None:
    """Adapt qkv and proj of every frame and global block."""
    for attention, name in _places(trunk):
        setattr(attention, name, LoRALinear(getattr(attention, name), rank, alpha))


def merge_lora(trunk: Aggregator) -> None:
    """Put plain layers back: faster inference, and the names of VGGT."""
    for attention, name in _places(trunk):
        if isinstance(layer := getattr(attention, name), LoRALinear):
            setattr(attention, name, layer.merged())


def merged_state(state: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """State of the adapted modules as that of plain layers, by their names: W + factor B A."""
    plain = {name: tensor for name, tensor in state.items() if ".lora." not in name}
    for name, tensor in state.items():
        if name.endswith(".lora.lora_A.weight"):
            path = name.removesuffix(".lora.lora_A.weight")
            update = state[f"{path}.lora.lora_B.weight"] @ tensor
            plain[f"{path}.linear.weight"] = plain[f"{path}.linear.weight"] + factor * update
    return {name.replace(".linear.", "."): tensor for name, tensor in plain.items()}


def _places(trunk: Aggregator) -> list[tuple[object, str]]:
    return [(block.attn, name) for block in [*trunk.frame_blocks, *trunk.global_blocks] for name in ("qkv", "proj")]
