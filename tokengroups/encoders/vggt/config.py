"""Sizes and options of VGGT; the defaults are VGGT-1B."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VGGTConfig:
    """Everything that shapes a VGGT. The options in the last block are off in the official model."""

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
    # Options of the tiny variants.
    stem_channels: tuple[int, ...] = ()  # stride-2 convolutions instead of one patch projection
    stem_skip: bool = False  # the stem's fine maps are added inside the DPT heads: sharper depth edges
    matching: bool = False  # descriptors matched with view 0; their displacement is fed to the trunk
    matching_dim: int = 64
    perspective_channels: tuple[int, ...] = ()  # of a network beside the others that tells focal lengths
    perspective_depth: int = 3  # its transformer blocks
    perspective_details: int = 0  # channels of its map that tells objects apart; 0 = none
    heads_autocast: bool = False  # let autocast reach the DPT convolutions; activations stay float32

    def __post_init__(self) -> None:
        """Reject sizes that do not fit together."""
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size must be a multiple of patch_size {self.patch_size}, got {self.image_size}"
            )
        if len(self.dpt_layers) != 4 or len(self.dpt_channels) != 4:
            raise ValueError("dpt_layers and dpt_channels must have four entries each")
        if not all(0 <= layer < self.depth for layer in self.dpt_layers):
            raise ValueError(f"dpt_layers must lie in [0, {self.depth}), got {self.dpt_layers}")
        if self.stem_channels and 2 ** len(self.stem_channels) != self.patch_size:
            raise ValueError(
                f"{len(self.stem_channels)} stem stages have stride {2 ** len(self.stem_channels)}, "
                f"but patch_size is {self.patch_size}"
            )
        if (self.stem_skip or self.matching) and len(self.stem_channels) < 3:
            raise ValueError("stem_skip and matching need stem_channels with at least three stages")
        channels = self.perspective_channels
        if channels and (
            not 2 <= len(channels) <= 6 or any(c < 8 or c % 8 for c in channels) or channels[-1] % 32
        ):
            raise ValueError(
                "perspective_channels must be 2 to 6 multiples of 8, the last one of 32, "
                f"got {list(channels)}"
            )
        details = self.perspective_details
        if details < 0 or details % 8 or (details and len(channels) < 3):
            raise ValueError(
                "perspective_details must be a multiple of 8 and needs perspective_channels with three stages or more, "
                f"got {details}"
            )

    @property
    def num_special(self) -> int:
        """Tokens before the patches of a frame: the camera token and the registers."""
        return 1 + self.num_registers
