"""Photos with the current estimate of depth and intrinsics: lifting pixels, projecting points.

Depth is corrected by a smooth factor, bilinear in its logarithm between the nodes of a square grid over the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

MIN_DEPTH = 0.05  # of a point that counts, in the geometry's unit: about a twentieth of the mean distance


class Pinhole:
    """Lifting and projection with intrinsics [*q, 3, 3] and a depth at every pixel."""

    depth: Tensor
    intrinsics: Tensor

    def depth_at(self, pixels: Float[Tensor, "Q 2"]) -> Float[Tensor, " Q"]:
        """Depth interpolated between pixel centres."""
        raise NotImplementedError

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of every photo."""
        return self.depth.shape[-2], self.depth.shape[-1]

    @property
    def focal(self) -> Float[Tensor, "*q 2"]:
        """Focal lengths in pixels."""
        return self.intrinsics.diagonal(dim1=-2, dim2=-1)[..., :2]

    @property
    def centre(self) -> Float[Tensor, "*q 2"]:
        """Principal point in pixels."""
        return self.intrinsics[..., :2, 2]

    def lift(self, pixels: Float[Tensor, "Q 2"]) -> Float[Tensor, "Q 3"]:
        """Camera-frame points of pixels."""
        rays = (pixels - self.centre) / self.focal
        return functional.pad(rays, (0, 1), value=1.0) * self.depth_at(pixels)[:, None]

    def project(self, points: Float[Tensor, "Q 3"]) -> Float[Tensor, "Q 2"]:
        """Pixels of camera-frame points."""
        return self.focal * points[:, :2] / points[:, 2:].clamp_min(MIN_DEPTH) + self.centre

    def project_motions(self, points: Float[Tensor, "Q 3"], motions: Float[Tensor, "Q 3 c"]) -> Float[Tensor, "Q 2 c"]:
        """Derivatives of `project` along motions of the points."""
        z = points[:, 2:].clamp_min(MIN_DEPTH)
        sideways = motions[:, :2] - (points[:, :2] / z)[..., None] * motions[:, 2:]
        return (self.focal / z)[..., None] * sideways


@dataclass(frozen=True)
class Frame(Pinhole):
    """One photo with the current estimate of depth and intrinsics."""

    image: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"]
    intrinsics: Float[Tensor, "3 3"]

    def corrected(self, log_focal: Float[Tensor, ""], factors: Float[Tensor, "H W"]) -> Frame:
        """Scale the focal lengths and multiply the depth."""
        intrinsics = self.intrinsics.clone()
        intrinsics[[0, 1], [0, 1]] *= log_focal.exp()
        return replace(self, depth=self.depth * factors, intrinsics=intrinsics)

    def resized(self, image: Float[Tensor, "3 F G"]) -> Frame:
        """The same photo with another number of pixels."""
        size_hw, own_hw = image.shape[-2:], self.depth.shape
        scale = image.new_tensor([[size_hw[1] / own_hw[1]], [size_hw[0] / own_hw[0]], [1.0]])
        depth = functional.interpolate(self.depth[None, None], size_hw, mode="bilinear", align_corners=False)
        return Frame(image, depth[0, 0], self.intrinsics * scale)

    def depth_at(self, pixels: Float[Tensor, "Q 2"]) -> Float[Tensor, " Q"]:
        """Depth interpolated between pixel centres."""
        only = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
        return Frames.of([self], only).depth_at(pixels)


@dataclass(frozen=True)
class Frames(Pinhole):
    """Several photos of one size, and the index of the photo that each of Q pixels lies in."""

    depth: Float[Tensor, "V H W"]
    intrinsics: Float[Tensor, "Q 3 3"]
    view: Int64[Tensor, " Q"]

    @classmethod
    def of(cls, frames: Sequence[Frame], view: Int64[Tensor, " Q"]) -> Frames:
        """Stack photos for pixels that lie in some of them."""
        depth, intrinsics = (torch.stack([getattr(f, name) for f in frames]) for name in ("depth", "intrinsics"))
        return cls(depth, intrinsics[view], view)

    def depth_at(self, pixels: Float[Tensor, "Q 2"]) -> Float[Tensor, " Q"]:
        """Depth interpolated between pixel centres."""
        views, height, width = self.depth.shape
        places = torch.cat([pixels, self.view[:, None] + 0.5], dim=1)  # the middle of a layer: of it alone
        places = 2 * places / places.new_tensor([width, height, views]) - 1
        return functional.grid_sample(
            self.depth[None, None], places[None, None, None], padding_mode="border", align_corners=False
        ).flatten()


def depth_factors(nodes: Float[Tensor, "V n"], size_hw: tuple[int, int]) -> Float[Tensor, "V H W"]:
    """Factors on the depth of every pixel: exponentials of the bilinear interpolation of a square grid of nodes."""
    side = round(nodes.shape[1] ** 0.5)
    rows, columns = (_hats(torch.arange(n).to(nodes) + 0.5, n, side) for n in size_hw)
    return (rows @ nodes.unflatten(1, (side, side)) @ columns.T).exp()


def node_weights(pixels: Float[Tensor, "Q 2"], side: int, size_hw: tuple[int, int]) -> Float[Tensor, "Q n"]:
    """Bilinear weights of the side x side nodes, the outer ones on the image's border."""
    columns, rows = _hats(pixels[:, 0], size_hw[1], side), _hats(pixels[:, 1], size_hw[0], side)
    return (rows[:, :, None] * columns[:, None, :]).flatten(1)


def _hats(positions: Float[Tensor, " Q"], length: int, side: int) -> Float[Tensor, "Q s"]:
    """Linear weights of nodes that are evenly spread over [0, length]."""
    nodes = torch.arange(side, device=positions.device)
    places = (positions / length * (side - 1)).clamp(0, max(side - 1, 0))
    return (1 - (places[:, None] - nodes).abs()).clamp_min(0)
