"""Depth at the resolution of photos from a coarser map, with edges where the photos have them.

Joint bilateral upsampling (Kopf et al. 2007): a pixel averages the coarse cells around it whose colour is like its own.
What is averaged are planes, not values: each cell's depth is continued to the pixel by its own slope.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import pixel_centres

RADIUS = 1  # cells around the one that holds the pixel
SPREAD_CELLS = 0.6  # standard deviation of the weight's fall with distance
COLOR_STD = 0.06  # of the difference of colours in [0, 1]
LEAST_WEIGHT = 1e-4  # of every cell, so that pixels like no cell get the nearest ones' depth
MIN_DEPTH = 1e-12


def upsample_depth(
    depth: Float[Tensor, "V h w"], photos: Float[Tensor, "V 3 h w"], fine: Float[Tensor, "V 3 H W"]
) -> Float[Tensor, "V H W"]:
    """Depth of every pixel of fine photos, from the depth of coarse copies of them; it must be positive."""
    log_depth = depth.clamp_min(MIN_DEPTH).log()[:, None]
    slopes = [_slope(log_depth, axis) for axis in (-1, -2)]
    padded = functional.pad(torch.cat([log_depth, *slopes, photos], dim=1), (RADIUS,) * 4, mode="replicate")
    size_hw, own_hw = (fine.shape[-2], fine.shape[-1]), (depth.shape[-2], depth.shape[-1])
    places = pixel_centres(size_hw, depth) * depth.new_tensor([own_hw[1] / size_hw[1], own_hw[0] / size_hw[0]])
    total, weights = torch.zeros_like(fine[:, :1]), torch.zeros_like(fine[:, :1])
    columns, rows = places.floor().long().unbind(-1)
    for down in range(2 * RADIUS + 1):
        for right in range(2 * RADIUS + 1):
            around = padded[:, :, rows + down, columns + right]
            x = places[..., 0] - (columns + right - RADIUS + 0.5)
            y = places[..., 1] - (rows + down - RADIUS + 0.5)
            near = (-0.5 * (x.square() + y.square()) / SPREAD_CELLS**2).exp()
            alike = (-0.5 * (around[:, 3:] - fine).square().sum(dim=1, keepdim=True) / COLOR_STD**2).exp()
            weight = near * (alike + LEAST_WEIGHT)
            total += weight * (around[:, :1] + around[:, 1:2] * x + around[:, 2:3] * y)
            weights += weight
    return (total / weights)[:, 0].exp()


def _slope(values: Float[Tensor, "V 1 h w"], axis: int) -> Float[Tensor, "V 1 h w"]:
    """Change from cell to cell along an axis: the smaller of both one-sided differences; 0 where they disagree."""
    steps = values.diff(dim=axis)
    ends = torch.zeros_like(values.narrow(axis, 0, 1))
    before, after = torch.cat([ends, steps], dim=axis), torch.cat([steps, ends], dim=axis)
    return torch.where(before * after > 0, torch.where(before.abs() < after.abs(), before, after), 0.0)
