"""Embedding of single-view feature maps at context tokens and anchors.

A VGGT of a few layers hardly sees where one object ends and the next begins; the tiny encoder's single-view network
sees every pixel.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class SingleViewEmbedding(nn.Module):
    """Feature maps of single photos -> one embedding a cell; adds nothing until it is trained.

    Args:
        dim: Channels of the result.
        feature_dims: Channels of each map, from coarse to fine.

    Raises:
        ValueError: No maps.
    """

    def __init__(self, dim: int, feature_dims: tuple[int, ...]) -> None:
        super().__init__()
        if not feature_dims:
            raise ValueError("single_view_features needs an encoder with a single-view network")
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in feature_dims)
        self.linears = nn.ModuleList(nn.Linear(channels, dim) for channels in feature_dims)
        for parameter in self.linears.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, maps: tuple[Float[Tensor, "B V _ _ _"], ...], size_hw: tuple[int, int], stride: int
    ) -> Float[Tensor, "B M D"]:
        """Sample the maps at the centre of every cell, views in order, cells row by row.

        Args:
            maps: Maps of the photos' central squares; cells outside take the nearest value.
            size_hw: Size of the photos.
            stride: Side of a cell in pixels; divides the photos' sides.
        """
        total, num_scenes = None, maps[0].shape[0]
        for photos, norm, linear in zip(maps, self.norms, self.linears, strict=True):
            cells = rearrange(photos, "b v c h w -> (b v) h w c").float()
            embedded = rearrange(linear(norm(cells)), "n h w c -> n c h w").float()
            if total is not None:
                total = functional.interpolate(total, embedded.shape[-2:], mode="bilinear")
            total = embedded if total is None else total + embedded
        assert total is not None
        sampled = functional.grid_sample(
            total,
            _centres(size_hw, stride, total).expand(len(total), -1, -1, -1),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return rearrange(sampled, "(b v) c h w -> b (v h w) c", b=num_scenes)


def _centres(size_hw: tuple[int, int], stride: int, like: Tensor) -> Float[Tensor, "1 h w 2"]:
    """Centres of a photo's cells, its central square spanning [-1, 1]."""
    short = min(size_hw)
    rows, columns = (
        ((torch.arange(side // stride, device=like.device, dtype=like.dtype) + 0.5) * stride - side / 2) * (2 / short)
        for side in size_hw
    )
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]
