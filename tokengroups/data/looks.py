"""Looks of real photos for generated ones: a camera's faults, and textures with the statistics of natural images.

A network that has only seen clean renderings with flat colours fails on photos. Both changes are cheap, need no new
rendering, and hold for all views of a scene.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import world_points
from tokengroups.io.pixels import jpeg_round_trip
from tokengroups.types import Views

GAMMA = 2.2  # of encoded colours
VOLUME_SIDE, VOLUMES = 48, 4  # cells of a periodic noise volume, and how many there are
TILE_LIMITS_M = (0.5, 6.0)  # side of a volume in the room


def photograph(images: Float[Tensor, "V 3 H W"], rng: np.random.Generator) -> Float[Tensor, "V 3 H W"]:
    """Take rendered photos in [0, 1] as a hand-held camera would.

    Exposure and white balance change between scenes, and a little between views; lenses darken the corners; focus and
    motion blur; sensors add shot and read noise; a tone curve, saturation and JPEG follow.
    """
    views = len(images)

    def normal(spread: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(0, spread, shape)).to(images)

    linear = images.clamp(0, 1) ** GAMMA
    gains = (normal(0.3, 1, 1) + normal(0.12, views, 1) + normal(0.12, 1, 3) + normal(0.03, views, 3)).exp()
    linear = linear * gains[..., None, None] * _vignette(images, rng.uniform(0, 0.5) * (rng.random() < 0.5))
    linear = torch.cat([_blurred(photo[None], rng) for photo in linear])
    shot, read = 0.008 * rng.random() ** 2, 0.008 * rng.random() ** 2
    noise = torch.from_numpy(rng.standard_normal(linear.shape, np.float32)).to(images)
    linear = linear + (shot * linear + read**2).sqrt() * noise
    shoulder = 1 - (-linear.clamp_min(0) * 1.2).exp() if rng.random() < 0.5 else linear  # highlights that roll off
    encoded = shoulder.clamp(0, 1) ** (1 / GAMMA)
    grey = encoded.mean(dim=1, keepdim=True)
    encoded = grey + rng.uniform(0.4, 1.3) * (encoded - grey)
    encoded = (encoded + rng.uniform(-0.1, 0.3) * (encoded - 0.5)).clamp(0, 1) ** math.exp(rng.normal(0, 0.2))
    if rng.random() < 0.4:
        encoded = torch.stack([_jpeg(photo, int(rng.integers(30, 95))) for photo in encoded])
    return encoded.clamp(0, 1)


def paint(views: Views, rng: np.random.Generator) -> Views:
    """Paint the surfaces of unbatched views with solid textures of random contrast, one for every instance.

    Solid noise (Perlin 1985) is a function of the place in the room, so that all views agree. Its amplitude falls with
    the frequency as in natural images (Field 1987).
    """
    points = world_points(views.depth, views.cameras.cam_from_world, views.cameras.intrinsics)
    count = int(views.group_ids.max()) + 2  # unlabelled pixels are one more instance

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, *shape))).to(points)

    tile = draw(math.log(TILE_LIMITS_M[0]), math.log(TILE_LIMITS_M[1]), 1).exp()
    contrast = draw(0, 1, 1) ** 2 * rng.uniform(0.1, 0.6)
    owner = views.group_ids
    places = points / tile[owner] + draw(0, 1, 3)[owner]
    volume = noise_volumes()[int(rng.integers(VOLUMES))].to(points)
    noise = _looked_up(volume, places)
    tinted = noise[..., :1] + draw(0, 0.6, 1)[owner] * noise[..., 1:]
    change = rearrange(contrast[owner] * tinted, "v h w c -> v c h w")
    return replace(views, images=(views.images * change.exp()).clamp(0, 1))


@cache
def noise_volumes() -> Float[Tensor, "n d d d 4"]:
    """Make periodic noise of amplitude 1/f^1.5, so 1/f on a surface, and deviation 1: grey, and three of colour."""
    rng = np.random.default_rng(0)
    axis = np.fft.fftfreq(VOLUME_SIDE) * VOLUME_SIDE
    frequency = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    frequency[0, 0, 0] = np.inf
    white = np.fft.fftn(rng.standard_normal((VOLUMES, 4, *frequency.shape)), axes=(2, 3, 4))
    volumes = np.fft.ifftn(white / frequency**1.5, axes=(2, 3, 4)).real
    volumes /= volumes.std(axis=(2, 3, 4), keepdims=True)
    return rearrange(torch.from_numpy(volumes).float(), "n c x y z -> n x y z c").contiguous()


def _looked_up(volume: Float[Tensor, "d d d 4"], places: Float[Tensor, "V H W 3"]) -> Float[Tensor, "V H W 4"]:
    """Values of a periodic volume at places in units of its side, trilinearly."""
    side = volume.shape[0]
    padded = functional.pad(rearrange(volume, "x y z c -> 1 c x y z"), (1, 1) * 3, mode="circular")
    grid = (places.remainder(1) * side + 1) * (2 / (side + 2)) - 1
    values = functional.grid_sample(padded, grid.flip(-1)[None], mode="bilinear", align_corners=False)
    return rearrange(values, "1 c v h w -> v h w c")


def _vignette(images: Tensor, strength: float) -> Float[Tensor, "H W"]:
    """Factors that fall from 1 in the middle by `strength` in the corners."""
    y, x = (torch.linspace(-1, 1, side, device=images.device) for side in images.shape[-2:])
    return 1 - strength * (y[:, None].square() + x.square()) / 2


def _blurred(photo: Float[Tensor, "1 3 H W"], rng: np.random.Generator) -> Float[Tensor, "1 3 H W"]:
    """Blur two photos of three: out of focus, or by a motion that is straight."""
    kind = rng.random()
    if kind < 1 / 3:
        return photo
    steps = torch.arange(-3, 4, device=photo.device, dtype=photo.dtype)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    angle, across = rng.uniform(0, math.pi), 0.3 + 0.7 * rng.random() ** 2
    along = across if kind < 0.8 else across + 1.5 * rng.random()
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = (-0.5 * ((u / along).square() + (v / across).square())).exp()
    kernel = (kernel / kernel.sum()).expand(3, 1, -1, -1)
    return functional.conv2d(functional.pad(photo, (3, 3, 3, 3), mode="replicate"), kernel, groups=3)


def _jpeg(photo: Float[Tensor, "3 H W"], quality: int) -> Float[Tensor, "3 H W"]:
    """Encode and decode a photo."""
    pixels = (rearrange(photo, "c h w -> h w c").clamp(0, 1) * 255).round().byte().cpu().numpy()
    return rearrange(torch.from_numpy(jpeg_round_trip(pixels, quality)).to(photo) / 255, "h w c -> c h w")
