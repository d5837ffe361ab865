"""Single-view network: focal length, up vector, normals, relative depth and object boundaries from one photo.

A VGGT of a few layers sees patches, and its camera head is 8 % off in the focal length. Convolutions on the full
photo see how lines converge. They learn the focal length (Workman et al., DeepFocal, 2015) together with what it
follows from: the up vector (Jin et al., Perspective Fields, 2023), surface normals and relative depth. An optional
finer map predicts which neighbouring cells show the same object.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.encoders.base import PAIR_OFFSETS
from tokengroups.geometry import central_square
from tokengroups.nn.blocks import TransformerBlock
from tokengroups.types import TensorFields

SIDE = 128  # pixels of the central square that it sees
HEAD_DIM = 32
NORM_CHANNELS = 8  # normalised together, photo by photo
FOCAL_MEAN, FOCAL_SPREAD = -0.19, 0.15  # of usual log focal lengths over the photo's side: the start
SPREAD_LIMITS = (-4.0, 3.0)  # of the logarithm of a deviation over FOCAL_SPREAD


@dataclass(frozen=True)
class SingleViewPrediction(TensorFields):
    """Predictions from single photos; maps have g (or d = 2 g) cells a side and cover the photo's central square."""

    log_focal: Float[Tensor, "*b"]  # logarithm of the focal length over the photo's shorter side
    deviation: Float[Tensor, "*b"]  # expected absolute error of it
    up: Float[Tensor, "*b 3"]  # in camera axes, of any length
    normals: Float[Tensor, "*b 3 g g"]  # in camera axes, of any length
    log_depth: Float[Tensor, "*b g g"]  # up to a constant a photo
    features: tuple[Float[Tensor, "*b _ _ _"], ...] = ()  # the maps before the output layers, coarse and fine
    pair_affinity: Float[Tensor, "*b R d d"] | None = None  # logits for `encoders.base.PAIR_OFFSETS`


class SingleViewNetwork(nn.Module):
    """Convolutions that halve the side stage by stage, then a transformer over the cells that are left.

    Args:
        channels: Of the stages; the last is the transformer's width.
        depth: Transformer blocks.
        detail_channels: Channels of a map, of twice the side of the others, that tells objects apart; 0 = none.
    """

    def __init__(self, channels: tuple[int, ...], depth: int, detail_channels: int = 0) -> None:
        super().__init__()
        coarse = SIDE // 2 ** len(channels)
        dim = channels[-1]
        self.stages = nn.ModuleList(
            Stage(inputs, outputs, blocks=index if index < len(channels) - 1 else 0)
            for index, (inputs, outputs) in enumerate(zip((5, *channels[:-1]), channels, strict=True))
        )
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.positions = nn.Parameter(0.02 * torch.randn(1, coarse**2, dim))
        self.blocks = nn.ModuleList(TransformerBlock(dim, dim // HEAD_DIM, layer_scale=0.2) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.camera = nn.Linear(dim, 5)
        self.maps = nn.Conv2d(channels[-2] + dim, 4, kernel_size=1)
        self.details = DetailMap(channels[-3], channels[-2] + dim, detail_channels) if detail_channels else None

    def forward(self, images: Float[Tensor, "N 3 H W"]) -> SingleViewPrediction:
        """Predict from photos in [0, 1] of any size; results in float32."""
        x = resized_square(images, SIDE)
        steps = (torch.arange(SIDE, device=x.device, dtype=x.dtype) + 0.5) * (2 / SIDE) - 1
        place = torch.stack(torch.meshgrid(steps, steps, indexing="xy"))  # perspective depends on it
        x = torch.cat([4 * x - 2, place.expand(len(x), -1, -1, -1)], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        stages = [x]
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        side, fine = x.shape[-1], stages[-2]
        cells = x.flatten(2).transpose(1, 2) + self.positions
        tokens = torch.cat([self.token.expand(len(x), -1, -1), cells], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        camera = self.camera(tokens[:, 0]).float()
        context = tokens[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        context = functional.interpolate(context.to(fine.dtype), scale_factor=2.0, mode="bilinear")
        seen = torch.cat([fine, context], dim=1)
        maps = self.maps(seen).float()
        features, pair_affinity = (seen,), None
        if self.details is not None:
            details, pair_affinity = self.details(stages[-3], seen)
            features = (seen, details)
        return SingleViewPrediction(
            log_focal=FOCAL_MEAN + FOCAL_SPREAD * camera[:, 0],
            deviation=FOCAL_SPREAD * camera[:, 1].clamp(*SPREAD_LIMITS).exp(),
            up=camera[:, 2:],
            normals=maps[:, :3],
            log_depth=maps[:, 3],
            features=features,
            pair_affinity=pair_affinity,
        )


class DetailMap(nn.Module):
    """A finer map from a stage's output and the map of half its resolution, with affinities of neighbouring cells."""

    def __init__(self, fine: int, seen: int, channels: int) -> None:
        super().__init__()
        self.seen = nn.Conv2d(seen, channels, kernel_size=1)
        self.mix = nn.Conv2d(channels + fine, channels, kernel_size=3, padding=1)
        self.norm = nn.GroupNorm(channels // NORM_CHANNELS, channels)
        self.block = ResidualBlock(channels)
        self.pair_affinity = nn.Conv2d(channels, len(PAIR_OFFSETS), kernel_size=1)

    def forward(
        self, fine: Float[Tensor, "N C d d"], seen: Float[Tensor, "N E g g"]
    ) -> tuple[Float[Tensor, "N D d d"], Float[Tensor, "N R d d"]]:
        """The map, and `SingleViewPrediction.pair_affinity`."""
        coarse = functional.interpolate(self.seen(seen), fine.shape[-2:], mode="bilinear")
        details = self.block(functional.relu(self.norm(self.mix(torch.cat([fine, coarse], dim=1)))))
        return details, self.pair_affinity(details).float()


class Stage(nn.Module):
    """Halve the resolution, then residual blocks."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=2, padding=1)
        self.norm = nn.GroupNorm(out_channels // NORM_CHANNELS, out_channels)
        self.blocks = nn.Sequential(*[ResidualBlock(out_channels) for _ in range(blocks)])

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D h w"]:
        """Maps of half the side."""
        return self.blocks(functional.relu(self.norm(self.down(x))))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside the identity, which a block starts as (He et al., 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.first_norm = nn.GroupNorm(channels // NORM_CHANNELS, channels)
        self.second = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second_norm = nn.GroupNorm(channels // NORM_CHANNELS, channels)
        nn.init.zeros_(self.second_norm.weight)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """Maps of the same size."""
        inner = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(x + self.second_norm(self.second(inner)))


def resized_square(images: Float[Tensor, "N C H W"], side: int) -> Float[Tensor, "N C s s"]:
    """Cut the central square out of images and resize it, with antialiasing."""
    top, left, short = central_square((images.shape[-2], images.shape[-1]))
    square = images[..., top : top + short, left : left + short]
    if short == side:
        return square
    return functional.interpolate(square, (side, side), mode="bilinear", antialias=True, align_corners=False)
