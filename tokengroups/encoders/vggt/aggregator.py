"""The trunk of VGGT: a ViT per frame, then alternating attention within frames and across all of them."""

from __future__ import annotations

from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.encoders.vggt.dino import DinoViT
from tokengroups.encoders.vggt.merging import MIN_VIEWS, merged_attention
from tokengroups.nn.blocks import TransformerBlock, attend, run_block
from tokengroups.nn.rope import rope_tables

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Aggregator(nn.Module):
    """Camera, register and patch tokens of all frames, mixed by pairs of a frame and a global block."""

    vision_transformer: type[DinoViT] = DinoViT

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.num_special = config.num_special
        self.fast = False  # approximate attention among many views
        self.recompute = False  # the layers' inner values in the backward pass, to save memory
        self.head_dim = dim // config.num_heads
        # Index 0 is for the first frame, which defines the world; index 1 for all others.
        self.camera_token = nn.Parameter(torch.empty(1, 2, 1, dim))
        self.register_token = nn.Parameter(torch.empty(1, 2, config.num_registers, dim))
        nn.init.trunc_normal_(self.camera_token, std=0.02)
        nn.init.trunc_normal_(self.register_token, std=0.02)
        self.patch_embed = self.vision_transformer(config)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                TransformerBlock(
                    dim, config.num_heads, mlp_ratio=config.mlp_ratio, layer_scale=config.layer_scale, qk_norm=True
                )
                for _ in range(config.depth)
            )

        self.frame_blocks = blocks()
        self.global_blocks = blocks()

    def embed_patches(self, images: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "B V HW C"]:
        """Patch tokens of all frames; images in [0, 1]."""
        patches = self.patch_embed(normalised_frames(images))
        return rearrange(patches, "(b v) p c -> b v p c", v=images.shape[1])

    def add_special_tokens(self, patches: Float[Tensor, "B V HW C"]) -> Float[Tensor, "B V P C"]:
        """Put the camera token and the registers before the patches of every frame."""
        batch, views = patches.shape[:2]
        special = torch.cat([self.camera_token, self.register_token], dim=2)
        first, others = special[:, :1], special[:, 1:].expand(-1, views - 1, -1, -1)
        special = torch.cat([first, others], dim=1).expand(batch, -1, -1, -1)
        return torch.cat([special, patches], dim=2)

    def mix_frames(
        self, index: int, tokens: Float[Tensor, "B V P C"], grid_hw: tuple[int, int]
    ) -> Float[Tensor, "B V P C"]:
        """Frame block `index`: the tokens of every frame among themselves."""
        rope = rope_tables(grid_hw, self.head_dim, self.num_special, device=tokens.device)
        own = rearrange(tokens, "b v p c -> (b v) p c")
        return run_block(self.frame_blocks[index], own, rope, recompute=self.recompute).reshape(tokens.shape)

    def mix_scenes(
        self, index: int, tokens: Float[Tensor, "B V P C"], grid_hw: tuple[int, int]
    ) -> Float[Tensor, "B V P C"]:
        """Global block `index`: the tokens of all frames of a scene."""
        rope = rope_tables(grid_hw, self.head_dim, self.num_special, device=tokens.device)
        scenes, mix = rearrange(tokens, "b v p c -> b (v p) c"), attend
        if self.fast and tokens.shape[1] >= MIN_VIEWS:
            mix = partial(merged_attention, grid_hw=grid_hw, num_special=self.num_special)
        return run_block(self.global_blocks[index], scenes, rope, mix, recompute=self.recompute).reshape(tokens.shape)


def normalised_frames(images: Float[Tensor, "B V 3 H W"]) -> Float[Tensor, "N 3 H W"]:
    """Normalise photos in [0, 1] by the ImageNet statistics, all frames along one axis."""
    mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return rearrange((images - mean) / std, "b v c h w -> (b v) c h w")
