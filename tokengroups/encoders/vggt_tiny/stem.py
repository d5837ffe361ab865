"""A convolutional stem instead of the patch projection (Xiao et al. 2021): learns faster from little data."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


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

    def forward(
        self, images: Float[Tensor, "N 3 H W"]
    ) -> tuple[Float[Tensor, "N C h w"], tuple[Tensor, ...]]:
        """The patch map and the maps of all stages (stride 2, 4, 8, ...)."""
        maps = []
        x = images
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return self.out(x), tuple(maps)
