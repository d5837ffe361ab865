"""Scenes from geometry and instances of pixels: one Gaussian for every cell of pixels, its own anchor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.bounds import Between, Settings
from tokengroups.postprocess import Draft, PhotoGroups, Prediction
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.systems.surface_points import surface_points
from tokengroups.types import Gaussians, TensorFields


@dataclass(frozen=True)
class CellGaussiansConfig(Settings):
    """Shape of the Gaussians."""

    max_gaussians: Annotated[int, Between(1, 20_000_000)] = (
        300_000  # of a scene; the finest cells that keep to it are taken
    )
    scale: Annotated[float, Between(0, 10, open_low=True)] = (
        0.6  # standard deviation in cells, on a surface that faces the camera
    )
    opacity: Annotated[float, Between(0, 1, open_low=True)] = 0.9
    temperature: Annotated[float, Between(0, 10, open_low=True)] = (
        0.1  # of instance fields: divides the cosines with the instances' means, for the probabilities of the groups
    )


@dataclass(frozen=True)
class CellGaussians(TensorFields):
    """One Gaussian for each of K cells of pixels."""

    gaussians: Gaussians
    pixels: Int64[Tensor, "K 3"]  # view, row, column
    stride: int  # side of the cells in pixels


def place_gaussians(draft: Draft, config: CellGaussiansConfig) -> CellGaussians:
    """Put a Gaussian on the surface of every cell of the photos of one scene."""
    num_views, _, height, width = draft.photos.shape
    stride = cell_stride(num_views, (height, width), config.max_gaussians)
    cells = surface_points(draft.photos[None], draft.geometry.map(lambda tensor: tensor[None]), stride)
    points, count = cells.points[0], cells.points.shape[1]
    gaussians = Gaussians(
        means=points,
        quats=points.new_tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=(config.scale * stride * cells.pixel_sizes[0])[:, None].expand(-1, 3),
        opacities=points.new_full((count,), config.opacity),
        sh=((cells.colors[0] - 0.5) / SH_C0)[:, None],
    )
    return CellGaussians(gaussians, cells.pixels, stride)


def cell_prediction(
    cells: CellGaussians,
    assignment: Float[Tensor, "K L"],
    group_tokens: Float[Tensor, "L D"],
    groups: PhotoGroups | None = None,
) -> Prediction:
    """The prediction of one scene, in which every Gaussian is its own anchor."""
    points = cells.gaussians.means
    return Prediction(
        gaussians=cells.gaussians,
        anchor_ids=torch.arange(len(points), device=points.device),
        anchors=points,
        anchor_pixels=cells.pixels,
        anchor_stride=cells.stride,
        assignment=assignment,
        group_tokens=group_tokens,
        photo_groups=groups,
    )


def cell_stride(num_views: int, size_hw: tuple[int, int], max_gaussians: int) -> int:
    """Side of the smallest cells, in pixels, that divide the photos and are few enough.

    The coarsest possible cells are taken if even they are too many.
    """
    common = math.gcd(*size_hw)
    strides = [side for side in range(1, common + 1) if common % side == 0]
    fitting = (side for side in strides if num_views * size_hw[0] * size_hw[1] <= max_gaussians * side**2)
    return next(fitting, strides[-1])
