"""The auxiliary head of pixel-aligned Gaussians.

The paper (arXiv 2606.29513) fine-tunes VGGT with one Gaussian per pixel, by rendering, to fit it to the data's scale
and patch size; then the head is thrown away and the encoder frozen. What a good head needs is published elsewhere
(AnySplat, Uni3R): depth unprojected with the *predicted* cameras, and small corrections around it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.bounds import Between, Channels, Positive, Settings, ShDegree
from tokengroups.encoders import Geometry
from tokengroups.nn.gaussian_head import GaussianHead
from tokengroups.systems.surface_points import surface_points
from tokengroups.types import Gaussians

# A new head shows the photos: smaller or fainter Gaussians leave holes, and the encoder would learn to hide them.
INITIAL_SCALE, INITIAL_OPACITY = 0.7, 0.8  # standard deviation in spacings
_ScaleBound = Annotated[float, Between(INITIAL_SCALE, 1000, open_low=True)]


@dataclass(frozen=True)
class PixelGaussiansConfig(Settings):
    """Shape of the auxiliary head; the paper does not publish its own.

    A spacing is the size of a Gaussian's cell of `stride` x `stride` pixels on a surface facing the camera.
    """

    stride: Annotated[int, Between(1, 2)] = 1  # pixels between Gaussians, 1 or 2
    dim: Channels = 32  # channels of the convolutions
    sh_degree: ShDegree = 0
    offset_bound: Positive = 1.0  # largest offset per axis, in spacings
    scale_bound: _ScaleBound = 1.5  # largest standard deviation, in spacings


class PixelGaussianHead(nn.Module):
    """Patch features + RGB -> one Gaussian for every cell of `stride` x `stride` pixels.

    Each cell is an anchor with a single Gaussian, so that the rules of `GaussianHead` hold: bounded offsets and
    scales in spacings, opacity by a sigmoid, SH as a residual to the photo's colour.

    Args:
        config: Shape.
        feature_dim: Channels of the encoder's patch features.
    """

    def __init__(self, config: PixelGaussiansConfig, feature_dim: int) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.feature = nn.Sequential(nn.LayerNorm(feature_dim), nn.Linear(feature_dim, dim))
        self.rgb = nn.Conv2d(3 * config.stride**2, dim, kernel_size=3, padding=1)
        self.mix = nn.Sequential(nn.GELU(), nn.Conv2d(dim, dim, kernel_size=3, padding=1), nn.GELU())
        self.gaussians = GaussianHead(dim, 1, config.sh_degree, config.offset_bound, config.scale_bound)
        init_photo(self.gaussians)

    def forward(self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry) -> Gaussians:
        """Decode the Gaussians, N = V * H/stride * W/stride, in the world and unit of `geometry`.

        Args:
            images: Photos in [0, 1].
            geometry: The encoder's answer for them; gradients flow to its features, depth and cameras.

        Raises:
            ValueError: Image sides that are no multiples of the stride.
        """
        stride, num_scenes = self.config.stride, images.shape[0]
        if images.shape[-2] % stride or images.shape[-1] % stride:
            raise ValueError(f"photo sides must be multiples of {stride}, got {tuple(images.shape[-2:])}")
        cells = functional.pixel_unshuffle(images.flatten(0, 1), stride)
        patches = self.feature(rearrange(geometry.features, "b v c h w -> (b v) h w c"))
        coarse = rearrange(patches, "n h w c -> n c h w")
        fine = functional.interpolate(coarse, cells.shape[-2:], mode="bilinear", align_corners=False)
        tokens = self.mix(self.rgb(cells - 0.5) + fine)
        anchors = surface_points(images, geometry, stride)
        return self.gaussians(
            rearrange(tokens, "(b v) c h w -> b (v h w) c", b=num_scenes),
            anchors.points,
            anchors.pixel_sizes * stride,
            anchors.colors,
        )


def init_photo(head: GaussianHead) -> None:
    """Start on the points themselves, with `INITIAL_SCALE` and `INITIAL_OPACITY`."""
    output, share = head.mlp[-1], INITIAL_SCALE / head.scale_bound
    assert isinstance(output, nn.Linear)
    values = {
        "scale": math.log(share / (1 - share)) - head.scale_shift,
        "opacity": math.log(INITIAL_OPACITY / (1 - INITIAL_OPACITY)),
    }
    with torch.no_grad():
        for name, part in zip(head.split, output.bias.split(list(head.split.values())), strict=True):
            part.fill_(values.get(name, 0.0))
