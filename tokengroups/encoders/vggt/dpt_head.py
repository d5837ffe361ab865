"""The dense prediction head of VGGT (DPT, Ranftl et al. 2021): tokens of four layers to per-pixel maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.nn.linear import linear

UV_WEIGHT = 0.1
UV_BASE = 100.0


@lru_cache(maxsize=64)
def uv_embedding(
    size_hw: tuple[int, int], channels: int, aspect: float, device: torch.device
) -> tuple[Float[Tensor, "1 D 1 w"], Float[Tensor, "1 D h 1"]]:
    """Sine-cosine embedding, times 0.1, of where a cell lies in an image of width/height ratio `aspect`.

    The first half of the channels stands for x, the second for y; each half is its sines, then its cosines. They come
    apart, each with zeros in the other half: the sum has the size of a map. Shared between calls, so never write into
    them; channels-last in memory.
    """
    # A table first asked for under inference mode must still serve autograd later.
    with torch.inference_mode(False), torch.no_grad():
        height, width = size_hw
        diagonal = math.hypot(aspect, 1.0)
        quarter = channels // 4
        frequencies = UV_BASE ** -(torch.arange(quarter, dtype=torch.float64) / quarter)

        def encode(count: int, span: float) -> Tensor:
            limit = span * (count - 1) / count
            angles = torch.linspace(-limit, limit, count, dtype=torch.float64)[:, None] * frequencies
            return torch.cat([angles.sin(), angles.cos()], dim=-1)

        half = 2 * quarter
        x = functional.pad(encode(width, aspect / diagonal).float().to(device) * UV_WEIGHT, (0, half))
        y = functional.pad(encode(height, 1 / diagonal).float().to(device) * UV_WEIGHT, (half, 0))
        return x[None, None].permute(0, 3, 1, 2), y[None, :, None].permute(0, 3, 1, 2)


def add_uv_(x: Float[Tensor, "N D h w"], aspect: float) -> Float[Tensor, "N D h w"]:
    """Add the position embedding to `x` itself, the largest map of the head."""
    for table in uv_embedding((x.shape[-2], x.shape[-1]), x.shape[1], aspect, x.device):
        x += table.to(x.dtype)
    return x


def resize(x: Float[Tensor, "N D h w"], size_hw: tuple[int, int]) -> Float[Tensor, "N D H W"]:
    """Bilinear, corners aligned."""
    return functional.interpolate(x, size_hw, mode="bilinear", align_corners=True)


class ResidualConvUnit(nn.Module):
    """Two 3x3 convolutions and a skip that carries relu(x), not x: the released weights want it so."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(features, features, kernel_size=3, padding=1)

    def forward(self, x: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D h w"]:
        """Same size out."""
        skip = functional.relu(x)
        return self.conv2(functional.relu(self.conv1(skip))) + skip


class FeatureFusion(nn.Module):
    """Add a finer map to the coarse stream, refine, enlarge."""

    def __init__(self, features: int, *, has_skip: bool = True) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, kernel_size=1)
        if has_skip:
            self.resConfUnit1 = ResidualConvUnit(features)
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(
        self, x: Float[Tensor, "N D h w"], skip: Float[Tensor, "N D h w"] | None, size_hw: tuple[int, int]
    ) -> Float[Tensor, "N D H W"]:
        """The refined map at `size_hw`."""
        if skip is not None:
            x = x + self.resConfUnit1(skip)
        # A 1x1 convolution commutes with interpolation; before it, it is four times cheaper.
        return resize(self.out_conv(self.resConfUnit2(x)), size_hw)


class DPTScratch(nn.Module):
    """The convolutional part of the head, after the per-layer projections."""

    def __init__(self, config: VGGTConfig, out_channels: int) -> None:
        super().__init__()
        features = config.dpt_features
        c1, c2, c3, c4 = config.dpt_channels
        self.layer1_rn = nn.Conv2d(c1, features, kernel_size=3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(c2, features, kernel_size=3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(c3, features, kernel_size=3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(c4, features, kernel_size=3, padding=1, bias=False)
        self.refinenet1 = FeatureFusion(features)
        self.refinenet2 = FeatureFusion(features)
        self.refinenet3 = FeatureFusion(features)
        self.refinenet4 = FeatureFusion(features, has_skip=False)
        self.output_conv1 = nn.Conv2d(features, features // 2, kernel_size=3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, config.dpt_hidden, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.dpt_hidden, out_channels, kernel_size=1),
        )

    def fuse(self, maps: Sequence[Float[Tensor, "N _ _ _"]]) -> Float[Tensor, "N D h w"]:
        """Merge the four maps, fine to coarse in the list, into one at twice the finest resolution."""
        return self.fusion_maps(maps)[0]

    def fusion_maps(
        self, maps: Sequence[Float[Tensor, "N _ _ _"]], after: Mapping[int, Callable[[Tensor], Tensor]] | None = None
    ) -> tuple[Float[Tensor, "N D _ _"], ...]:
        """Outputs of the four refinements, fine to coarse; the first one is at twice the finest resolution.

        `after` has functions that change the output of a refinement, 2 to 4, before the next one reads it.
        """
        more = after or {}
        convs = (self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn)
        fine, middle, coarse, coarsest = (conv(x) for conv, x in zip(convs, maps, strict=True))
        x4 = more.get(4, _unchanged)(self.refinenet4(coarsest, None, coarse.shape[-2:]))
        x3 = more.get(3, _unchanged)(self.refinenet3(x4, coarse, middle.shape[-2:]))
        x2 = more.get(2, _unchanged)(self.refinenet2(x3, middle, fine.shape[-2:]))
        return self.refinenet1(x2, fine, (2 * fine.shape[-2], 2 * fine.shape[-1])), x2, x3, x4


def _unchanged(x: Tensor) -> Tensor:
    return x


class DPTHead(nn.Module):
    """Tokens of four trunk layers to `out_channels` raw maps at the image's resolution."""

    def __init__(self, config: VGGTConfig, out_channels: int) -> None:
        super().__init__()
        dim = 2 * config.embed_dim
        c1, c2, c3, c4 = config.dpt_channels
        self.patch_size = config.patch_size
        self.num_special = config.num_special
        self.norm = nn.LayerNorm(dim)
        self.projects = nn.ModuleList(nn.Conv2d(dim, c, kernel_size=1) for c in config.dpt_channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(c1, c1, kernel_size=4, stride=4),
                nn.ConvTranspose2d(c2, c2, kernel_size=2, stride=2),
                nn.Identity(),
                nn.Conv2d(c4, c4, kernel_size=3, stride=2, padding=1),
            ]
        )
        self.scratch = DPTScratch(config, out_channels)

    def forward(self, tokens: Sequence[Float[Tensor, "N P C2"]], size_hw: tuple[int, int]) -> Float[Tensor, "N D H W"]:
        """Raw maps of N frames, before any activation."""
        return self.finish(self.scratch.output_conv1(self.scratch.fuse(self.layer_maps(tokens, size_hw))), size_hw)

    def layer_maps(
        self, tokens: Sequence[Float[Tensor, "N P C2"]], size_hw: tuple[int, int]
    ) -> list[Float[Tensor, "N _ _ _"]]:
        """Project the tokens of every layer to a map of its own resolution, fine to coarse."""
        aspect = size_hw[1] / size_hw[0]
        rows = size_hw[0] // self.patch_size
        maps = []
        for layer, project, enlarge in zip(tokens, self.projects, self.resize_layers, strict=True):
            assert isinstance(project, nn.Conv2d)
            patches = self.norm(layer[:, self.num_special :])
            # A 1x1 convolution, without the copy to channels-first.
            projected = linear(patches, project.weight.flatten(1), project.bias)
            grid = rearrange(projected, "n (h w) c -> n c h w", h=rows)
            maps.append(enlarge(add_uv_(grid, aspect)))
        return maps

    def finish(self, x: Float[Tensor, "N C h w"], size_hw: tuple[int, int]) -> Float[Tensor, "N D H W"]:
        """Enlarge the fused map to the image's resolution and predict the raw maps."""
        x = add_uv_(resize(x, size_hw), size_hw[1] / size_hw[0])
        return self.scratch.output_conv2(x)
