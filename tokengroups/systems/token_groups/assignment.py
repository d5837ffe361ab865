"""Assignment of anchors to groups: pi[k, l] = softmax over groups of <A_k, G_l> (the paper, "anchor ownership")."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class GroupAssignment(nn.Module):
    """Softmax over groups of scaled dot products of normalised keys: groups compete for every anchor.

    Args:
        dim: Width of the tokens.
        temperature: Initial factor of the scaled dot products; learned.
    """

    def __init__(self, dim: int, temperature: float) -> None:
        super().__init__()
        self.anchor_key = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim, elementwise_affine=False))
        self.group_key = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim, elementwise_affine=False))
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log())

    def forward(
        self, anchor_tokens: Float[Tensor, "B K D"], group_tokens: Float[Tensor, "B L D"]
    ) -> tuple[Float[Tensor, "B K L"], Float[Tensor, "B K D"]]:
        """Probabilities of anchors over groups, and the anchors' keys; in float32."""
        anchor_keys, group_keys = self.anchor_key(anchor_tokens).float(), self.group_key(group_tokens).float()
        logits = torch.einsum("bkd,bld->bkl", anchor_keys, group_keys) / anchor_keys.shape[-1] ** 0.5
        return (self.log_temperature.exp() * logits).softmax(dim=-1), anchor_keys
