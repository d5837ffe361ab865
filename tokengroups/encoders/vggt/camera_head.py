"""VGGT's camera head: camera tokens to pose encodings by iterative refinement."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.encoders.vggt.pose_encoding import ENCODING_DIM, FIELD_OF_VIEW
from tokengroups.nn.blocks import Mlp, TransformerBlock

MODULATION_EPS = 1e-6
QUATERNION_W = 6


class CameraHead(nn.Module):
    """Four rounds: modulate the camera tokens by the last estimate, mix them over the frames, correct it.

    The modulation is adaptive layer norm (Peebles and Xie 2023).
    """

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim = 2 * config.embed_dim
        self.iterations = config.camera_iterations
        self.trunk = nn.ModuleList(
            TransformerBlock(dim, config.camera_heads, mlp_ratio=config.mlp_ratio, layer_scale=config.layer_scale)
            for _ in range(config.camera_depth)
        )
        self.token_norm = nn.LayerNorm(dim)
        self.trunk_norm = nn.LayerNorm(dim)
        self.empty_pose_tokens = nn.Parameter(torch.zeros(1, 1, ENCODING_DIM))
        self.embed_pose = nn.Linear(ENCODING_DIM, dim)
        self.poseLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.pose_branch = Mlp(dim, dim // 2, ENCODING_DIM)

    def init_weights(self) -> None:
        """Start at the identity rotation and a field of view of 1 rad, where the final ReLU is alive."""
        with torch.no_grad():
            self.pose_branch.fc2.bias[QUATERNION_W] = 1 / self.iterations
            self.pose_branch.fc2.bias[FIELD_OF_VIEW] = 1 / self.iterations

    def forward(self, camera_tokens: Float[Tensor, "B V C2"]) -> tuple[Float[Tensor, "B V 9"], ...]:
        """Pose encodings after each iteration; the last one counts, training looks at all of them."""
        tokens = self.token_norm(camera_tokens)
        normalised = functional.layer_norm(tokens, tokens.shape[-1:], eps=MODULATION_EPS)
        raw = None
        encodings = []
        for _ in range(self.iterations):
            condition = self.empty_pose_tokens.expand(*tokens.shape[:2], -1) if raw is None else raw.detach()
            shift, scale, gate = self.poseLN_modulation(self.embed_pose(condition)).chunk(3, dim=-1)
            mixed = gate * (normalised * (1 + scale) + shift) + tokens
            for block in self.trunk:
                mixed = block(mixed)
            delta = self.pose_branch(self.trunk_norm(mixed))
            raw = delta if raw is None else raw + delta
            rigid, fov = raw.split([FIELD_OF_VIEW.start, 2], dim=-1)
            encodings.append(torch.cat([rigid, functional.relu(fov)], dim=-1))
        return tuple(encodings)
