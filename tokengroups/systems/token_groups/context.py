"""Context tokens and anchor candidates: what the token-group decoders read (paper A, "multi-view feature encoding").

A context token is the sum of three embeddings of one square patch: its RGB values, the encoder's feature and its
piece of the point map. Anchor candidates are pixels on a regular grid of the point map, so that every anchor is a
real surface point and never the mean across a depth edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tokengroups.nn.position import PositionEmbedding
from tokengroups.types import Cameras, TensorFields


@dataclass(frozen=True)
class FrozenGeometry(TensorFields):
    """The encoder's answer in the form the decoders need; world = camera of view 0, scale the encoder's own."""

    features: Float[Tensor, "B V C h w"]  # per encoder patch
    points: Float[Tensor, "B V H W 3"]
    depth: Float[Tensor, "B V H W"]
    confidence: Float[Tensor, "B V H W"]  # >= 1
    cameras: Cameras  # batch axes B V
    photo_features: tuple[Float[Tensor, "B V _ _ _"], ...] = ()  # of every photo's central square, by itself
    same_object: Float[Tensor, "B V R d d"] | None = None  # see `PerspectiveCues.same_object`


@dataclass(frozen=True)
class AnchorCandidates(TensorFields):
    """Surface points on a pixel grid of all views, M in number."""

    points: Float[Tensor, "B M 3"]
    footprints: Float[Tensor, "B M"]  # size of one pixel on a plane facing the camera: depth / focal length
    patches: Float[Tensor, "B M E"]  # RGB of the cell in [0, 1], E = 3 stride^2
    context_index: Int64[Tensor, " M"]  # the context token whose patch holds the pixel
    pixels: Int64[Tensor, "M 3"]  # view, row, column
    stride: int  # pixels between them


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


def anchor_candidates(
    images: Float[Tensor, "B V 3 H W"], geometry: FrozenGeometry, stride: int, context_patch: int
) -> AnchorCandidates:
    """Take the pixel at the centre of every `stride` x `stride` cell.

    Args:
        images: Photos in [0, 1].
        geometry: The encoder's answer for them.
        stride: Cell size in pixels; divides `context_patch`.
        context_patch: Patch size of the context tokens in pixels.
    """
    _, num_views, _, height, width = images.shape
    device = images.device
    rows = torch.arange(stride // 2, height, stride, device=device)
    columns = torch.arange(stride // 2, width, stride, device=device)
    view, row, column = torch.meshgrid(torch.arange(num_views, device=device), rows, columns, indexing="ij")
    pixels = torch.stack([view, row, column], dim=-1).flatten(0, 2)
    grid_width, per_view = width // context_patch, (height // context_patch) * (width // context_patch)
    context_index = view * per_view + (row // context_patch) * grid_width + column // context_patch
    points = geometry.points[:, :, rows][:, :, :, columns].flatten(1, 3)
    depth = geometry.depth[:, :, rows][:, :, :, columns]
    focal_px = geometry.cameras.intrinsics[..., 0, 0]
    footprints = (depth / focal_px[..., None, None]).flatten(1, 3)
    patches = rearrange(images, "b v c (h p) (w q) -> b (v h w) (c p q)", p=stride, q=stride)
    return AnchorCandidates(points, footprints, patches, context_index.flatten(), pixels, stride)


class ContextEmbedding(nn.Module):
    """RGB patch + encoder feature + point-map patch -> one token per patch of every view."""

    def __init__(self, dim: int, feature_dim: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.rgb = nn.Linear(3 * patch * patch, dim)
        self.feature = nn.Sequential(nn.LayerNorm(feature_dim), nn.Linear(feature_dim, dim))
        self.point_map = nn.Linear(4 * patch * patch, dim)
        self.position = PositionEmbedding(dim)

    def forward(
        self, images: Float[Tensor, "B V 3 H W"], geometry: FrozenGeometry, scale: Float[Tensor, " B"]
    ) -> Float[Tensor, "B M D"]:
        """Embed all patches, views in order, patches row by row; `scale` divides positions."""
        p = self.patch
        size_hw = (images.shape[-2] // p, images.shape[-1] // p)
        rgb = rearrange(images - 0.5, "b v c (h p) (w q) -> b (v h w) (c p q)", p=p, q=p)
        features = F.interpolate(
            geometry.features.flatten(0, 1), size_hw, mode="bilinear", align_corners=False
        )
        features = rearrange(features, "(b v) c h w -> b (v h w) c", b=images.shape[0])
        centres = geometry.points[:, :, p // 2 :: p, p // 2 :: p]
        point_map = self._point_patches(geometry, centres)
        position = rearrange(centres, "b v h w c -> b (v h w) c") / scale[:, None, None]
        return self.rgb(rgb) + self.feature(features) + self.point_map(point_map) + self.position(position)

    def _point_patches(
        self, geometry: FrozenGeometry, centres: Float[Tensor, "B V h w 3"]
    ) -> Float[Tensor, "B M E"]:
        """Points relative to their patch's centre in units of the patch's footprint, and log confidence."""
        p = self.patch
        focal_px = geometry.cameras.intrinsics[..., 0, 0, None, None]
        footprint = (geometry.depth[:, :, p // 2 :: p, p // 2 :: p] / focal_px * p).clamp_min(1e-6)
        cells = rearrange(geometry.points, "b v (h p) (w q) c -> b v h w (p q) c", p=p, q=p)
        relative = (cells - centres[..., None, :]) / footprint[..., None, None]
        confidence = rearrange(geometry.confidence, "b v (h p) (w q) -> b v h w (p q) 1", p=p, q=p).log()
        # A depth edge would put values of any size into a linear layer.
        patches = torch.cat([relative, confidence], dim=-1).clamp(-4.0, 4.0)
        return rearrange(patches, "b v h w n c -> b (v h w) (n c)")
