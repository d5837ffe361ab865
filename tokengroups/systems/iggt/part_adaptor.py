"""IGGT's part adaptor: tokens of four trunk layers to four maps, fine to coarse (Li et al. 2025, released code)."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders.vggt import VGGTConfig


class ProjectionUnit(nn.Module):
    """Project, add a residual of two convolutions, project again; batch norm throughout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input_proj = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.residual_conv = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.output_proj = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        """Same size out."""
        y = self.input_proj(x)
        return self.output_proj(y + self.residual_conv(y))


class PartAdaptor(nn.Module):
    """Patch tokens of every kept layer to maps of 4, 2, 1 and 1/2 cells a patch; parameters have official names.

    Batch norms always use their running statistics, also in training: a batch holds a few photos of one room.
    """

    def __init__(self, encoder: VGGTConfig) -> None:
        super().__init__()
        dim, channels = 2 * encoder.embed_dim, encoder.dpt_features
        self.patch_size, self.num_special = encoder.patch_size, encoder.num_special
        self.norm = nn.LayerNorm(dim)
        self.projects = nn.ModuleList(nn.Conv2d(dim, channels, kernel_size=1) for _ in encoder.dpt_layers)

        def twice() -> nn.Module:
            return nn.ConvTranspose2d(channels, channels, kernel_size=4, stride=2, padding=1)

        resizes: list[list[nn.Module]] = [
            [twice(), ProjectionUnit(channels), twice(), ProjectionUnit(channels)],
            [nn.ConvTranspose2d(channels, channels, kernel_size=2, stride=2), ProjectionUnit(channels)],
            [nn.Identity(), ProjectionUnit(channels)],
            [nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1), ProjectionUnit(channels)],
        ]
        self.resize_layers = nn.ModuleList(nn.Sequential(*layers) for layers in resizes)

    def forward(
        self, tokens: Sequence[Float[Tensor, "N P C2"]], size_hw: tuple[int, int]
    ) -> list[Float[Tensor, "N D _ _"]]:
        """Maps of N frames whose photos have `size_hw` pixels."""
        rows = size_hw[0] // self.patch_size
        maps = []
        for layer, project, resize in zip(tokens, self.projects, self.resize_layers, strict=True):
            patches = self.norm(layer[:, self.num_special :])
            maps.append(resize(project(rearrange(patches, "n (h w) c -> n c h w", h=rows))))
        return maps

    def train(self, mode: bool = True) -> PartAdaptor:
        """Set the training mode of all but the batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
