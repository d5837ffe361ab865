"""Anchors: farthest-point-sampled surface points and their queries (paper, "token group initialization")."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.encoders import Geometry
from tokengroups.farthest_points import farthest_point_sampling
from tokengroups.systems.surface_points import SurfacePoints, surface_points
from tokengroups.systems.token_groups.config import TokenGroupsConfig
from tokengroups.types import TensorFields


@dataclass(frozen=True)
class Anchors(TensorFields):
    """K sampled surface points a scene, and the context tokens whose patches hold them."""

    points: Float[Tensor, "B K 3"]
    pixels: Int64[Tensor, "B K 3"]  # view, row, column
    pixel_sizes: Float[Tensor, "B K"]  # of one pixel on the surface
    colors: Float[Tensor, "B K 3"]  # of the photo at the anchor, in [0, 1]
    context_index: Int64[Tensor, "B K"]
    candidate_index: Int64[Tensor, "B K"]  # in the whole grid of candidates
    stride: int  # pixels between candidates


def sample_anchors(
    images: Float[Tensor, "B V 3 H W"], geometry: Geometry, config: TokenGroupsConfig, fps_start: int | None = None
) -> Anchors:
    """Sample anchors from a pixel grid of the point map; no point comes twice.

    Args:
        images: Photos in [0, 1].
        geometry: Geometry of a batch.
        config: Number of anchors, and pixels between candidates; refined where these are fewer than the anchors.
        fps_start: Candidate that the sampling starts from, modulo their number; None = the one nearest to the centre.
    """
    size_hw = (images.shape[-2], images.shape[-1])
    count = config.anchors_for(images.shape[1])
    stride = candidate_stride(images.shape[1], size_hw, config.anchor_stride, count)
    candidates = surface_points(images, geometry, stride)
    while len(candidates.cells) < count and stride > 1:  # a mask leaves too few
        stride //= 2
        candidates = surface_points(images, geometry, stride)
    count = min(count, len(candidates.cells))
    if fps_start is not None:
        fps_start %= candidates.points.shape[1]
    chosen = farthest_point_sampling(candidates.points, count, fps_start)
    return take_anchors(candidates, chosen, size_hw, config.context_patch)


def take_anchors(
    candidates: SurfacePoints, chosen: Int64[Tensor, "B K"], size_hw: tuple[int, int], context_patch: int
) -> Anchors:
    """Make anchors of the chosen candidates."""
    view, row, column = candidates.pixels.unbind(dim=-1)
    grid_hw = (size_hw[0] // context_patch, size_hw[1] // context_patch)
    context_index = view * (grid_hw[0] * grid_hw[1])
    context_index = context_index + (row // context_patch) * grid_hw[1] + column // context_patch
    return Anchors(
        points=take(candidates.points, chosen),
        pixels=candidates.pixels[chosen],
        pixel_sizes=take(candidates.pixel_sizes[..., None], chosen).squeeze(-1),
        colors=take(candidates.colors, chosen),
        context_index=context_index[chosen],
        candidate_index=candidates.cells[chosen],
        stride=candidates.stride,
    )


def candidate_stride(num_views: int, size_hw: tuple[int, int], largest: int, num_anchors: int) -> int:
    """Largest pixel step, `largest` halved as often as needed, whose grid holds at least `num_anchors` points.

    Raises:
        ValueError: If even single pixels are too few.
    """
    stride = largest
    while num_views * (size_hw[0] // stride) * (size_hw[1] // stride) < num_anchors:
        if stride == 1:
            raise ValueError(f"{num_views} views of {size_hw} have fewer pixels than {num_anchors} anchors")
        stride //= 2
    return stride


def take(values: Float[Tensor, "B M C"], index: Int64[Tensor, "B K"]) -> Float[Tensor, "B K C"]:
    """Gather rows scene by scene."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))
