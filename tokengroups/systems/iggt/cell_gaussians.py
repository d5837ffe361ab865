"""Scenes from geometry and instances: one Gaussian for every cell of pixels, which belongs to the cell's instance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.bounds import Between, Settings
from tokengroups.postprocess import Draft, PhotoGroups, Prediction
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.systems.iggt.clustering import Instances
from tokengroups.systems.surface_points import surface_points
from tokengroups.types import Gaussians


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
        0.1  # divides the cosines with the instances' means, for the probabilities of the groups
    )


def cell_prediction(
    draft: Draft, field: Float[Tensor, "V E H W"], instances: Instances, config: CellGaussiansConfig
) -> Prediction:
    """Gaussians, anchors and groups of one scene; every Gaussian is its own anchor."""
    num_views, _, height, width = draft.photos.shape
    stride = cell_stride(num_views, (height, width), config.max_gaussians)
    cells = surface_points(draft.photos[None], draft.geometry.map(lambda tensor: tensor[None]), stride)
    points, count = cells.points[0], cells.points.shape[1]
    sizes = (config.scale * stride * cells.pixel_sizes[0])[:, None].expand(-1, 3)
    gaussians = Gaussians(
        means=points,
        quats=points.new_tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=sizes,
        opacities=points.new_full((count,), config.opacity),
        sh=((cells.colors[0] - 0.5) / SH_C0)[:, None],
    )
    views, rows, columns = cells.pixels.unbind(-1)
    own = functional.normalize(field.permute(0, 2, 3, 1)[views, rows, columns], dim=-1)
    logits = own @ functional.normalize(instances.prototypes, dim=-1).T / config.temperature
    # A pixel's own instance is the most probable group of its anchor, also where another mean is a little nearer.
    labels = instances.labels[views, rows, columns][:, None]
    logits.scatter_(1, labels, logits.amax(dim=1, keepdim=True) + 1)
    return Prediction(
        gaussians=gaussians,
        anchor_ids=torch.arange(count, device=points.device),
        anchors=points,
        anchor_pixels=cells.pixels,
        anchor_stride=stride,
        assignment=logits.softmax(dim=-1),
        group_tokens=instances.prototypes,
        photo_groups=PhotoGroups(instances.labels, instances.scores, field),
    )


def cell_stride(num_views: int, size_hw: tuple[int, int], max_gaussians: int) -> int:
    """Side of the smallest cells, in pixels, that divide the photos and are few enough.

    The coarsest possible cells are taken if even they are too many.
    """
    common = math.gcd(*size_hw)
    strides = [side for side in range(1, common + 1) if common % side == 0]
    fitting = (side for side in strides if num_views * size_hw[0] * size_hw[1] <= max_gaussians * side**2)
    return next(fitting, strides[-1])
