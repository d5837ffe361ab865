"""Decomposed semantics of token groups: one embedding per group, one short residual per anchor (token-groups paper).

Distillation must not change geometry or grouping: the head reads detached tokens, so that only its own parameters are
trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.types import TensorFields

EPS = 1e-6  # least weight of a group
INITIAL_SLOPE, INITIAL_THRESHOLD = 12.0, 0.6  # of the calibration; cosines of sentence encoders


@dataclass(frozen=True)
class DecodedSemantics(TensorFields):
    """Decoded semantics of a batch of scenes; see `tokengroups.types.Semantics`."""

    embeddings: Float[Tensor, "*b L D"]  # unit length
    residuals: Float[Tensor, "*b K d"]
    projection: Float[Tensor, "*b D d"]  # the same for all scenes
    calibration: Float[Tensor, "*b 2"]  # the same for all scenes

    def basis(self, scene: int) -> Float[Tensor, "n D"]:
        """Basis vectors of one scene, for the channels [group probabilities, residual] of a rendered pixel."""
        return torch.cat([self.embeddings[scene], self.projection[scene].T])


class SemanticHead(nn.Module):
    """Groups -> s_l, anchors -> r_k, and W_r, with the calibration of cosines to probabilities.

    A group's embedding is predicted from its token and from the mean and standard deviation of its anchors' tokens:
    these describe appearance better than the token, which only has to tell groups apart.

    Args:
        token_dim: Width of group and anchor tokens.
        dim: Channels of the teacher, D.
        residual_dim: d; 0 leaves the residuals out.
        group_embeddings: False leaves the embeddings out (all zero), for ablations.
    """

    def __init__(self, token_dim: int, dim: int, residual_dim: int, group_embeddings: bool = True) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = (
            nn.Sequential(
                nn.LayerNorm(3 * token_dim),
                nn.Linear(3 * token_dim, 2 * token_dim),
                nn.GELU(),
                nn.Linear(2 * token_dim, dim),
            )
            if group_embeddings
            else None
        )
        self.residual = nn.Linear(token_dim, residual_dim, bias=False) if residual_dim else None
        self.projection = nn.Parameter(torch.randn(dim, residual_dim) * (0.1 / max(residual_dim, 1) ** 0.5))
        self.log_slope = nn.Parameter(torch.tensor(INITIAL_SLOPE).log())
        self.threshold = nn.Parameter(torch.tensor(INITIAL_THRESHOLD))

    def forward(
        self,
        group_tokens: Float[Tensor, "B L T"],
        anchor_tokens: Float[Tensor, "B K T"],
        assignment: Float[Tensor, "B K L"],
    ) -> DecodedSemantics:
        """Decode semantics; no gradient reaches the inputs."""
        group_tokens, anchor_tokens = group_tokens.detach().float(), anchor_tokens.detach().float()
        batch, groups = group_tokens.shape[:2]
        if self.embedding is None:
            embeddings = self.projection.new_zeros(batch, groups, self.dim)
        else:
            seen = torch.cat([group_tokens, *pooled(anchor_tokens, assignment.detach().float())], dim=-1)
            embeddings = functional.normalize(self.embedding(seen).float(), dim=-1)
        if self.residual is None:
            residuals = anchor_tokens.new_zeros(batch, anchor_tokens.shape[1], 0)
        else:
            residuals = self.residual(anchor_tokens).float()
        calibration = torch.stack([self.log_slope.exp(), self.threshold])
        return DecodedSemantics(
            embeddings, residuals, self.projection.expand(batch, -1, -1), calibration.expand(batch, -1)
        )


def pooled(
    anchor_tokens: Float[Tensor, "B K T"], assignment: Float[Tensor, "B K L"]
) -> tuple[Float[Tensor, "B L T"], Float[Tensor, "B L T"]]:
    """Mean and standard deviation of the anchors' tokens in every group, weighted by the assignment."""
    with torch.autocast(anchor_tokens.device.type, enabled=False):  # a difference of squares
        weights = assignment / assignment.sum(dim=1, keepdim=True).clamp_min(EPS)
        mean = weights.mT @ anchor_tokens
        variance = weights.mT @ anchor_tokens.square() - mean.square()
    return mean, variance.clamp_min(0).sqrt()
