"""Convolutional stem in place of the patch projection (Xiao et al. 2021), and VGGT's parts on top of it.

A stem learns faster from little data, and its fine maps sharpen depth edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.encoders.vggt.aggregator import Aggregator, normalised_frames
from tokengroups.encoders.vggt.dino import DinoViT
from tokengroups.encoders.vggt.dpt_head import DPTHead
from tokengroups.encoders.vggt_tiny.config import VGGTTinyConfig


class StemFeatures(NamedTuple):
    """Patch tokens, and the stem's maps of stride 2, 4, 8, ..."""

    tokens: Float[Tensor, "*b HW C"]
    maps: tuple[Float[Tensor, "N D h w"], ...]


class StemStage(nn.Module):
    """3x3 convolution of stride 2, layer norm over the channels, GELU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """Halve the resolution; the result is channels-last in memory."""
        channels_last = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return functional.gelu(channels_last).permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Stages of stride 2, then a 1x1 convolution to the width of the transformer."""

    def __init__(self, channels: tuple[int, ...], embed_dim: int) -> None:
        super().__init__()
        inputs = (3, *channels[:-1])
        self.stages = nn.ModuleList(StemStage(i, o) for i, o in zip(inputs, channels, strict=True))
        self.out = nn.Conv2d(channels[-1], embed_dim, kernel_size=1)

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> tuple[Float[Tensor, "N C h w"], tuple[Tensor, ...]]:
        """The patch map and the maps of all stages (stride 2, 4, 8, ...)."""
        maps = []
        x = images
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return self.out(x), tuple(maps)


class StemPatchEmbedding(nn.Module):
    """Patch tokens by a `ConvStem`."""

    def __init__(self, config: VGGTTinyConfig) -> None:
        super().__init__()
        self.proj = ConvStem(config.stem_channels, config.embed_dim)

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> StemFeatures:
        """Patch tokens in row-major order, and the maps of all stages."""
        patches, maps = self.proj(images)
        return StemFeatures(rearrange(patches, "n c h w -> n (h w) c"), maps)


class StemViT(DinoViT):
    """DINOv2's transformer on patches that a `ConvStem` embeds."""

    patch_embedding = StemPatchEmbedding

    def embed(self, images: Float[Tensor, "N 3 H W"]) -> StemFeatures:
        """Transformed patch tokens, and the maps of all stem stages."""
        patches, maps = self.patch_embed(images)
        rows, columns = (side // self.patch_size for side in images.shape[-2:])
        return StemFeatures(self.transform(patches, rows, columns), maps)


class StemAggregator(Aggregator):
    """VGGT's aggregator on a `StemViT`."""

    vision_transformer = StemViT

    def embed_with_stem(self, images: Float[Tensor, "B V 3 H W"]) -> StemFeatures:
        """Patch tokens [B V HW C] and stem maps [N C h w], N = B * V, of all frames; images in [0, 1]."""
        assert isinstance(self.patch_embed, StemViT)
        patches, maps = self.patch_embed.embed(normalised_frames(images))
        return StemFeatures(rearrange(patches, "(b v) p c -> b v p c", v=images.shape[1]), maps)


class StemDPTHead(DPTHead):
    """VGGT's dense head with skip connections from the stem's fine maps."""

    def __init__(self, config: VGGTTinyConfig, out_channels: int) -> None:
        super().__init__(config, out_channels)
        # Stem maps as fine as the finest fused map (a quarter of the patch size), and twice as fine.
        stages = len(config.stem_channels) if config.stem_skip else 0
        self.skip_stages = [stage for stage in (stages - 3, stages - 4) if stage >= 0]
        widths = (config.dpt_channels[0], config.dpt_features // 2)
        self.stem_skips = nn.ModuleList(
            nn.Conv2d(config.stem_channels[stage], width, kernel_size=1)
            for stage, width in zip(self.skip_stages, widths, strict=False)
        )

    def forward(
        self, tokens: Sequence[Float[Tensor, "N _ _"] | Float[Tensor, "N _ _ _"]], size_hw: tuple[int, int]
    ) -> Float[Tensor, "N D H W"]:
        """Raw maps of N frames; `tokens` are those of the kept layers, then the stem's maps of all stages."""
        count = len(self.projects)
        tokens, stem_maps = tokens[:count], tokens[count:]
        maps = self.layer_maps(tokens, size_hw)
        skips = [conv(stem_maps[stage]) for conv, stage in zip(self.stem_skips, self.skip_stages, strict=True)]
        if skips:
            maps[0] = maps[0] + skips[0]
        x = self.scratch.output_conv1(self.scratch.fuse(maps))
        if len(skips) > 1:
            x = x + skips[1]
        return self.finish(x, size_hw)
