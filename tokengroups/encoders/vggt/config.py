"""Sizes of VGGT; the defaults are VGGT-1B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tokengroups.bounds import Between, Channels, Count, Layers, Settings, Small, Weight


@dataclass(frozen=True)
class VGGTConfig(Settings):
    """Everything that shapes a VGGT."""

    patch_size: Small = 14
    image_size: Annotated[int, Between(1, 4096)] = 518  # of the position table; other sizes are interpolated
    embed_dim: Channels = 1024
    num_heads: Small = 16
    mlp_ratio: Annotated[float, Between(0, 64, open_low=True)] = 4.0
    num_registers: Annotated[int, Between(0, 1024)] = 4  # in the ViT, and again per frame in the trunk
    dino_depth: Layers = 24
    dino_layer_scale: Weight = 1.0  # initial
    depth: Small = 24  # pairs of a frame block and a global block
    layer_scale: Weight = 0.01  # initial; trunk and camera head
    camera_depth: Layers = 4
    camera_heads: Small = 16
    camera_iterations: Annotated[int, Between(1, 64)] = 4
    enable_depth: bool = True
    enable_point: bool = True
    dpt_layers: tuple[int, ...] = (4, 11, 17, 23)
    dpt_channels: tuple[Channels, ...] = (256, 512, 1024, 1024)
    dpt_features: Annotated[int, Between(2, 16_384)] = 256
    dpt_hidden: Channels = 32
    dpt_chunk: Count = 8  # at most so many frames at a time in a dense head, where no gradient is wanted

    def __post_init__(self) -> None:
        """Reject sizes that do not fit together."""
        super().__post_init__()
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size must be a multiple of patch_size {self.patch_size}, got {self.image_size}")
        if len(self.dpt_layers) != 4 or len(self.dpt_channels) != 4:
            raise ValueError("dpt_layers and dpt_channels must have four entries each")
        if not all(0 <= layer < self.depth for layer in self.dpt_layers):
            raise ValueError(f"dpt_layers must lie in [0, {self.depth}), got {self.dpt_layers}")

    @property
    def num_special(self) -> int:
        """Tokens before the patches of a frame: the camera token and the registers."""
        return 1 + self.num_registers

    @property
    def feature_dim(self) -> int:
        """Channels of the patch features: frame and global halves of every kept layer."""
        return 2 * self.embed_dim * len(self.dpt_layers)
