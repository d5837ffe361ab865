"""IGGT's part head: the instance field, 8 numbers a pixel, from the adaptor's maps and the point head's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.encoders.vggt.dpt_head import DPTHead, DPTScratch, resize
from tokengroups.nn.blocks import attend
from tokengroups.systems.iggt.config import InstanceHeadConfig
from tokengroups.systems.iggt.window_attention import WindowCrossAttention, WindowSelfAttention


class MapCrossAttention(nn.Module):
    """Attention of all cells of a map to all cells of another one: no norm, no residual, no position."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projq = nn.Linear(channels, channels)
        self.projk = nn.Linear(channels, channels)
        self.projv = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "N D h w"], other: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        """Mixture of the other map's values for every cell."""
        queries, keys = (rearrange(maps, "n d h w -> n (h w) d") for maps in (x, other))
        projected = (self.projq(queries), self.projk(keys), self.projv(keys))
        q, k, v = (rearrange(part, "n m (h d) -> n h m d", h=self.heads) for part in projected)
        mixed = self.proj(rearrange(attend(q, k, v), "n h m d -> n m (h d)"))
        return rearrange(mixed, "n (h w) d -> n d h w", h=x.shape[-2])


class PartHead(DPTHead):
    """The released layout; parameters have official names.

    The published weights hold parts that no output depends on: the norm, projections and resizing that the class
    inherits, and `cross_attention_1`. They are here so that the weights load strictly, and do nothing.
    """

    def __init__(self, encoder: VGGTConfig, config: InstanceHeadConfig) -> None:
        super().__init__(encoder, config.feature_dim)
        channels = encoder.dpt_features
        self.scratch = DPTScratch(replace(encoder, dpt_channels=(channels,) * 4), config.feature_dim)
        self.fusion = config.fusion
        if config.fusion:
            self.cross_attention_1 = MapCrossAttention(channels, config.heads)
            self.cross_attention_2 = MapCrossAttention(channels, config.heads)
            self.window_cross_attention = WindowCrossAttention(
                channels,
                config.window_heads,
                config.window,
                config.key_window,
                legacy_layout=config.legacy_query_layout,
            )
        self.window_self_atten = WindowSelfAttention(channels // 2, config.window_heads, config.window)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] # reads maps, not tokens
        self,
        maps: Sequence[Float[Tensor, "N D _ _"]],
        points: Sequence[Float[Tensor, "N D _ _"]],
        size_hw: tuple[int, int],
    ) -> Float[Tensor, "N E H W"]:
        """Instance field of N frames at the photos' resolution, not normalised.

        Args:
            maps: The adaptor's, fine to coarse.
            points: The point head's maps after its four refinements, fine to coarse.
            size_hw: Pixels of the photos.
        """
        scratch = self.scratch
        fusion = {}
        if self.fusion:
            fusion = {
                4: lambda x: self.cross_attention_2(x, points[3]),
                2: lambda x: self.window_cross_attention(x, points[1]),
            }
        x = scratch.output_conv1(scratch.fusion_maps(maps, fusion)[0])
        return scratch.output_conv2(resize(self.window_self_atten(x), size_hw))


class PaperHead(nn.Module):
    """The paper's layout: at every level the map plus shifted-window attention to the point head's (equation 3).

    All levels are enlarged to the finest one and concatenated; a 3x3 convolution makes the instance field of them.
    """

    def __init__(self, encoder: VGGTConfig, config: InstanceHeadConfig) -> None:
        super().__init__()
        channels = encoder.dpt_features
        self.scratch = DPTScratch(replace(encoder, dpt_channels=(channels,) * 4), config.feature_dim)
        del self.scratch.output_conv1, self.scratch.output_conv2
        self.fusion = config.fusion
        shifts = (0, config.window // 2, 0, config.window // 2) if config.fusion else ()
        self.window_cross_attention = nn.ModuleList(
            WindowCrossAttention(
                channels, config.window_heads, config.window, config.key_window, legacy_layout=False, shift=shift
            )
            for shift in shifts
        )
        self.output_conv = nn.Conv2d(4 * channels, config.feature_dim, kernel_size=3, padding=1)

    def forward(
        self,
        maps: Sequence[Float[Tensor, "N D _ _"]],
        points: Sequence[Float[Tensor, "N D _ _"]],
        size_hw: tuple[int, int],
    ) -> Float[Tensor, "N E H W"]:
        """Instance field of N frames; arguments as for `PartHead`."""
        refined = self.scratch.fusion_maps(maps)
        if self.fusion:
            blocks = self.window_cross_attention
            refined = [x + block(x, other) for x, other, block in zip(refined, points, blocks, strict=True)]
        rows, columns = refined[0].shape[-2:]
        joined = torch.cat([resize(x, (rows, columns)) for x in refined], dim=1)
        return resize(self.output_conv(joined), size_hw)
