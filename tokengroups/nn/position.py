"""Position embedding of 3D coordinates: Fourier features and a two-layer MLP (phi_pos of the token-groups paper)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

NUM_FREQUENCIES = 6


class PositionEmbedding(nn.Module):
    """Embedding of points of about unit size; frequencies double from half a turn per unit."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        frequencies = math.pi * 2.0 ** torch.arange(NUM_FREQUENCIES)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(3 + 6 * NUM_FREQUENCIES, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, points: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b D"]:
        """Embed each point."""
        angles = (points[..., None, :] * self.frequencies[:, None]).flatten(-2)
        return self.mlp(torch.cat([points, angles.sin(), angles.cos()], dim=-1))
