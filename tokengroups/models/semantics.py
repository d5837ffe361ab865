"""Decomposed semantics of token groups: one embedding per group, one short residual per anchor (token-groups paper).

What a teacher says about meaning must not move geometry or grouping: the head reads detached tokens, so that its own
parameters are all that distillation trains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.types import TensorFields

INITIAL_SLOPE, INITIAL_THRESHOLD = 12.0, 0.6  # of the calibration; cosines of sentence encoders


@dataclass(frozen=True)
class DecodedSemantics(TensorFields):
    """Of a batch of scenes; see `tokengroups.types.Semantics`."""

    embeddings: Float[Tensor, "*b L D"]  # unit length
    residuals: Float[Tensor, "*b K d"]
    projection: Float[Tensor, "*b D d"]  # the same for all scenes
    calibration: Float[Tensor, "*b 2"]  # the same for all scenes

    def basis(self, scene: int) -> Float[Tensor, "n D"]:
        """What the channels [group probabilities, residual] of a rendered pixel are coefficients of, for one scene."""
        return torch.cat([self.embeddings[scene], self.projection[scene].T])


class SemanticHead(nn.Module):
    """Group tokens -> s_l, anchor keys -> r_k, and W_r; and how a cosine with a text becomes a probability.

    Args:
        token_dim: Width of both.
        dim: Channels of the teacher, D.
        residual_dim: d; 0 leaves the residuals out.
        group_embeddings: False leaves the embeddings out (all zero), for ablations.
    """

    def __init__(self, token_dim: int, dim: int, residual_dim: int, group_embeddings: bool = True) -> None:
        super().__init__()
        self.dim = dim
        hidden = nn.Linear(token_dim, 2 * token_dim)
        self.embedding = (
            nn.Sequential(hidden, nn.GELU(), nn.Linear(2 * token_dim, dim)) if group_embeddings else None
        )
        self.residual = nn.Linear(token_dim, residual_dim, bias=False)
        self.projection = nn.Parameter(torch.randn(dim, residual_dim) * (0.1 / max(residual_dim, 1) ** 0.5))
        self.log_slope = nn.Parameter(torch.tensor(INITIAL_SLOPE).log())
        self.threshold = nn.Parameter(torch.tensor(INITIAL_THRESHOLD))

    def forward(
        self, group_tokens: Float[Tensor, "B L T"], anchor_keys: Float[Tensor, "B K T"]
    ) -> DecodedSemantics:
        """No gradient reaches the tokens."""
        batch, groups = group_tokens.shape[:2]
        if self.embedding is None:
            embeddings = self.projection.new_zeros(batch, groups, self.dim)
        else:
            embeddings = functional.normalize(self.embedding(group_tokens.detach()).float(), dim=-1)
        residuals = self.residual(anchor_keys.detach()).float()
        calibration = torch.stack([self.log_slope.exp(), self.threshold])
        return DecodedSemantics(
            embeddings, residuals, self.projection.expand(batch, -1, -1), calibration.expand(batch, -1)
        )
