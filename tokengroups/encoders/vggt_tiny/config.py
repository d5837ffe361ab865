"""Sizes of the tiny encoder: VGGT's, and those of its additional parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tokengroups.bounds import Between, Channels, ChannelsOrNone, Count, Layers, Small, Weight
from tokengroups.encoders.vggt.config import VGGTConfig

MAX_SINGLE_VIEW_STAGES = 6


@dataclass(frozen=True)
class VGGTTinyConfig(VGGTConfig):
    """Everything that shapes a `VGGTTiny`; the defaults are the shipped weights' sizes but for the single-view network.

    The second block are its parts in addition to VGGT's.
    """

    patch_size: Small = 16
    image_size: Annotated[int, Between(1, 4096)] = 128
    embed_dim: Channels = 192
    num_heads: Small = 6
    dino_depth: Layers = 3
    dino_layer_scale: Weight = 0.2
    depth: Small = 4
    layer_scale: Weight = 0.2
    camera_depth: Layers = 2
    camera_heads: Small = 6
    enable_point: bool = False
    dpt_layers: tuple[int, ...] = (0, 1, 2, 3)
    dpt_channels: tuple[Channels, ...] = (48, 64, 96, 128)
    dpt_features: Annotated[int, Between(2, 16_384)] = 32
    dpt_hidden: Channels = 16
    dpt_chunk: Count = 64

    stem_channels: tuple[Channels, ...] = (16, 48, 96, 192)  # stride-2 convolutions in place of the patch projection
    stem_skip: bool = True  # add the stem's fine maps inside the DPT heads: sharper depth edges
    matching: bool = True  # match cells with those of view 0 and feed their displacement to the transformer
    matching_dim: Channels = 64
    single_view_channels: tuple[Channels, ...] = ()  # of the single-view network's stages; empty = no such network
    single_view_depth: Layers = 3  # its transformer blocks
    single_view_details: ChannelsOrNone = 0  # channels of its map that tells objects apart; 0 = none
    heads_autocast: bool = True  # let autocast reach the DPT convolutions; their results stay float32

    def __post_init__(self) -> None:
        """Reject sizes that do not fit together."""
        super().__post_init__()
        stages = len(self.stem_channels)
        if 2**stages != self.patch_size:
            raise ValueError(f"{stages} stem stages have stride {2**stages}, but patch_size is {self.patch_size}")
        if (self.stem_skip or self.matching) and stages < 3:
            raise ValueError("stem_skip and matching need stem_channels with at least three stages")
        channels = self.single_view_channels
        if channels and (
            not 2 <= len(channels) <= MAX_SINGLE_VIEW_STAGES
            or any(c < 8 or c % 8 for c in channels)
            or channels[-1] % 32
        ):
            raise ValueError(
                f"single_view_channels must be 2 to 6 multiples of 8, the last one of 32, got {list(channels)}"
            )
        details = self.single_view_details
        if details < 0 or details % 8 or (details and len(channels) < 3):
            raise ValueError(
                "single_view_details must be a multiple of 8 and needs single_view_channels with three stages or more, "
                f"got {details}"
            )

    @property
    def single_view_dims(self) -> tuple[int, ...]:
        """Channels of each of the single-view network's feature maps, coarse and fine."""
        if not self.single_view_channels:
            return ()
        coarse = sum(self.single_view_channels[-2:])
        return (coarse, self.single_view_details) if self.single_view_details else (coarse,)
