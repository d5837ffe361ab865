"""Depth maps of several photos compared: what the other photos say about each pixel's depth.

As multi-view stereo fuses depth maps (Schoenberger et al. 2016): photos that see the same surface agree on a mean, and
photos that see through a point contradict it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import invert_rigid, transform_points, unproject
from tokengroups.types import Cameras, TensorFields

SAME_LOG_DEPTH = 0.05  # largest difference within one surface
FINER = 1.3  # an earlier photo owns what it shows, unless a later one's pixels are so much smaller there


@dataclass(frozen=True)
class Agreement(TensorFields):
    """What the other photos say about the pixels of one photo."""

    log_offset: Float[Tensor, "H W"]  # change of log depth to the mean of all that see the surface
    support: Float[Tensor, "H W"]  # number of photos that see the same surface
    conflicts: Float[Tensor, "H W"]  # number of photos that see through it
    owned: Bool[Tensor, "H W"]  # no earlier photo shows the surface about as finely


def compare_depth(
    depth: Float[Tensor, "V H W"], cameras: Cameras, view: int, mask: Bool[Tensor, "V H W"] | None = None
) -> Agreement:
    """Compare one photo's depth with that of all others.

    Args:
        depth: Of all photos, positive.
        cameras: Of the photos, in pixels of the depth maps.
        view: The photo.
        mask: Pixels of the other photos that count; None = all.
    """
    points = unproject(depth[view], cameras.intrinsics[view]).flatten(0, 1)
    world = transform_points(invert_rigid(cameras.cam_from_world[view]), points)
    pixel_sizes = points[:, 2] / cameras.intrinsics[view, 0, 0]
    offset, support, conflicts = torch.zeros_like(points).unbind(dim=1)
    owned = torch.ones_like(offset, dtype=torch.bool)
    for other in range(len(depth)):
        if other == view:
            continue
        moved = transform_points(cameras.cam_from_world[other], world)
        layers = depth[other][None] if mask is None else torch.stack([depth[other], mask[other].to(depth)])
        found, inside = _look_up(layers, moved, cameras.intrinsics[other])
        inside = inside & (found[-1] > 0)
        difference = found[0].clamp_min(1e-12).log() - moved[:, 2].clamp_min(1e-12).log()
        same = inside & (difference.abs() < SAME_LOG_DEPTH)
        offset = offset + torch.where(same, difference, 0.0)
        support = support + same
        conflicts = conflicts + (inside & (difference >= SAME_LOG_DEPTH))
        if other < view:
            theirs = moved[:, 2] / cameras.intrinsics[other, 0, 0]
            owned &= ~(same & (theirs < FINER * pixel_sizes))
    parts = offset / (support + 1), support, conflicts, owned
    return Agreement(*(part.view(depth.shape[1:]) for part in parts))


def _look_up(
    layers: Float[Tensor, "c H W"], points: Float[Tensor, "Q 3"], intrinsics: Float[Tensor, "3 3"]
) -> tuple[Float[Tensor, "c Q"], Bool[Tensor, " Q"]]:
    """Values at the nearest pixels to camera-frame points, and which points the photo shows."""
    pixels = points[:, :2] / points[:, 2:].clamp_min(1e-12) * intrinsics.diagonal()[:2] + intrinsics[:2, 2]
    limits = pixels.new_tensor([layers.shape[-1], layers.shape[-2]])
    inside = (points[:, 2] > 1e-12) & ((pixels >= 0) & (pixels < limits)).all(dim=1)
    places = pixels / limits * 2 - 1
    found = functional.grid_sample(
        layers[None], places[None, None], mode="nearest", padding_mode="border", align_corners=False
    )
    return found[0, :, 0], inside
