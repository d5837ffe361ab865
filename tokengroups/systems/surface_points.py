"""Surface points on a pixel grid of the photos: candidates for anchors, places for pixel-aligned Gaussians."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.encoders import Geometry
from tokengroups.types import TensorFields


@dataclass(frozen=True)
class SurfacePoints(TensorFields):
    """Surface points on a pixel grid of all views, M in number; each is a real point, never a mean across an edge.

    Cells whose centre does not count (`Geometry.mask`) are left out.
    """

    points: Float[Tensor, "B M 3"]
    pixel_sizes: Float[Tensor, "B M"]  # size of one pixel on a plane facing the camera: depth / focal length
    patches: Float[Tensor, "B M E"]  # RGB of the cell in [0, 1], E = 3 stride^2
    pixels: Int64[Tensor, "M 3"]  # view, row, column
    cells: Int64[Tensor, " M"]  # their places in the whole grid, row-major
    stride: int  # pixels between them

    @property
    def colors(self) -> Float[Tensor, "B M 3"]:
        """Mean colour of each cell."""
        return rearrange(self.patches, "b m (c p) -> b m c p", c=3).mean(dim=-1)


def surface_points(images: Float[Tensor, "B V 3 H W"], geometry: Geometry, stride: int) -> SurfacePoints:
    """Take the point at the centre pixel of every `stride` x `stride` cell.

    Args:
        images: Photos in [0, 1].
        geometry: Geometry of a batch; of a single scene, if it has a mask.
        stride: Cell size in pixels; divides the photos' sides.
    """
    _, num_views, _, height, width = images.shape
    device = images.device
    rows = torch.arange(stride // 2, height, stride, device=device)
    columns = torch.arange(stride // 2, width, stride, device=device)
    grid = torch.meshgrid(torch.arange(num_views, device=device), rows, columns, indexing="ij")
    points = geometry.points[:, :, rows][:, :, :, columns].flatten(1, 3)
    depth = geometry.depth[:, :, rows][:, :, :, columns]
    focal_px = geometry.cameras.intrinsics[..., 0, 0]
    pixel_sizes = (depth / focal_px[..., None, None]).flatten(1, 3)
    patches = rearrange(images, "b v c (h p) (w q) -> b (v h w) (c p q)", p=stride, q=stride)
    pixels = torch.stack(grid, dim=-1).flatten(0, 2)
    cells = torch.arange(len(pixels), device=device)
    if geometry.mask is not None:
        (mask,) = geometry.mask
        cells = cells[mask[pixels.unbind(-1)]]
        points, pixel_sizes, patches, pixels = points[:, cells], pixel_sizes[:, cells], patches[:, cells], pixels[cells]
    return SurfacePoints(points, pixel_sizes, patches, pixels, cells, stride)
