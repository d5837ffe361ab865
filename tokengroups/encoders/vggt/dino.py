"""DINOv2's vision transformer with registers (Oquab et al. 2023, Darcet et al. 2024): embeds frames."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.nn.blocks import TransformerBlock

NORM_EPS = 1e-6  # DINO's own; the rest of VGGT uses 1e-5


class PatchEmbedding(nn.Module):
    """Cut images into patches and project each to a token."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.proj = nn.Conv2d(3, config.embed_dim, kernel_size=size, stride=size)

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N HW C"]:
        """Patch tokens in row-major order."""
        return rearrange(self.proj(images), "n c h w -> n (h w) c")


class DinoViT(nn.Module):
    """ViT with a class token and register tokens; returns the normalised patch tokens of the last block."""

    patch_embedding: type[nn.Module] = PatchEmbedding

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.patch_size = config.patch_size
        self.table_side = config.image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.register_tokens = nn.Parameter(torch.empty(1, config.num_registers, dim))
        # Part of DINOv2's training only; kept because published weights hold it.
        self.mask_token = nn.Parameter(torch.zeros(1, dim), requires_grad=False)
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.table_side**2, dim))
        self.patch_embed = self.patch_embedding(config)
        self.blocks = nn.ModuleList(
            TransformerBlock(
                dim,
                config.num_heads,
                mlp_ratio=config.mlp_ratio,
                layer_scale=config.dino_layer_scale,
                norm_eps=NORM_EPS,
            )
            for _ in range(config.dino_depth)
        )
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        for parameter in (self.cls_token, self.register_tokens, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N HW C"]:
        """Embed images that are already normalised with the ImageNet statistics."""
        rows, columns = (side // self.patch_size for side in images.shape[-2:])
        return self.transform(self.patch_embed(images), rows, columns)

    def transform(self, patches: Float[Tensor, "N HW C"], rows: int, columns: int) -> Float[Tensor, "N HW C"]:
        """Run the transformer on embedded patches."""
        position = self.position_table(rows, columns)
        number = patches.shape[0]
        classes = (self.cls_token + position[:, :1]).expand(number, -1, -1)
        registers = self.register_tokens.expand(number, -1, -1)
        tokens = torch.cat([classes, registers, patches + position[:, 1:]], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)[:, 1 + registers.shape[1] :]

    def position_table(self, rows: int, columns: int) -> Float[Tensor, "1 T C"]:
        """Class and patch position embeddings for a grid; interpolated unless it is the table's own."""
        side = self.table_side
        if rows == columns == side:
            return self.pos_embed
        table = rearrange(self.pos_embed[:, 1:].float(), "n (h w) c -> n c h w", h=side, w=side)
        table = functional.interpolate(table, (rows, columns), mode="bicubic", antialias=True)
        return torch.cat([self.pos_embed[:, :1], rearrange(table, "n c h w -> n (h w) c")], dim=1)
