"""Sizes of VGGT; the defaults are VGGT-1B."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VGGTConfig:
    """Everything that shapes a VGGT."""

    patch_size: int = 14
    image_size: int = 518  # of the position table; other sizes are interpolated
    embed_dim: int = 1024
    num_heads: int = 16
    mlp_ratio: float = 4.0
    num_registers: int = 4  # in the ViT, and again per frame in the trunk
    dino_depth: int = 24
    dino_layer_scale: float = 1.0  # initial
    depth: int = 24  # pairs of a frame block and a global block
    layer_scale: float = 0.01  # initial; trunk and camera head
    camera_depth: int = 4
    camera_heads: int = 16
    camera_iterations: int = 4
    enable_depth: bool = True
    enable_point: bool = True
    dpt_layers: tuple[int, ...] = (4, 11, 17, 23)
    dpt_channels: tuple[int, ...] = (256, 512, 1024, 1024)
    dpt_features: int = 256
    dpt_hidden: int = 32
    dpt_chunk: int = 8  # frames at a time when no gradient is wanted: bounds the memory

    def __post_init__(self) -> None:
        """Reject sizes that do not fit together."""
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
