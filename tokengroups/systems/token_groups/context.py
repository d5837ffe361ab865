"""Context tokens: the sum of three embeddings of every patch (paper, "multi-view feature encoding").

A patch gives its RGB values, the encoder's feature and its piece of the point map.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders import Geometry
from tokengroups.nn.position import PositionEmbedding
from tokengroups.types import Cameras

CHUNK_VIEWS = 4  # at a time, where no gradient is wanted: bounds the memory


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
        self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry, scale: Float[Tensor, " B"]
    ) -> Float[Tensor, "B M D"]:
        """Embed all patches, views in order, patches row by row; `scale` divides positions."""
        views = images.shape[1]
        step = views if torch.is_grad_enabled() else CHUNK_VIEWS
        parts = [slice(start, start + step) for start in range(0, views, step)]
        embedded = [self._embed(images[:, part], _views(geometry, part), scale) for part in parts]
        return embedded[0] if len(embedded) == 1 else torch.cat(embedded, dim=1)

    def _embed(
        self, images: Float[Tensor, "B V 3 H W"], geometry: Geometry, scale: Float[Tensor, " B"]
    ) -> Float[Tensor, "B M D"]:
        p = self.patch
        size_hw = (images.shape[-2] // p, images.shape[-1] // p)
        rgb = rearrange(images - 0.5, "b v c (h p) (w q) -> b (v h w) (c p q)", p=p, q=p)
        features = resize_features(geometry.features, size_hw)
        centres = geometry.points[:, :, p // 2 :: p, p // 2 :: p]
        point_map = self._point_patches(geometry, centres)
        position = rearrange(centres, "b v h w c -> b (v h w) c") / scale[:, None, None]
        return self.rgb(rgb) + self.feature(features) + self.point_map(point_map) + self.position(position)

    def _point_patches(self, geometry: Geometry, centres: Float[Tensor, "B V h w 3"]) -> Float[Tensor, "B M E"]:
        """Points relative to their patch's centre in units of the patch's size on the surface, and log confidence."""
        p = self.patch
        focal_px = geometry.cameras.intrinsics[..., 0, 0, None, None]
        size = (geometry.depth[:, :, p // 2 :: p, p // 2 :: p] / focal_px * p).clamp_min(1e-6)
        cells = rearrange(geometry.points, "b v (h p) (w q) c -> b v h w (p q) c", p=p, q=p)
        relative = (cells - centres[..., None, :]) / size[..., None, None]
        confidence = rearrange(geometry.confidence, "b v (h p) (w q) -> b v h w (p q) 1", p=p, q=p).log()
        # A depth edge would put values of any size into a linear layer.
        patches = torch.cat([relative, confidence], dim=-1).clamp(-4.0, 4.0)
        return rearrange(patches, "b v h w n c -> b (v h w) (n c)")


def _views(geometry: Geometry, part: slice) -> Geometry:
    """What the embedding reads of some views."""
    cameras = geometry.cameras
    return replace(
        geometry,
        features=geometry.features[:, part],
        points=geometry.points[:, part],
        depth=geometry.depth[:, part],
        confidence=geometry.confidence[:, part],
        cameras=Cameras(cameras.cam_from_world[:, part], cameras.intrinsics[:, part], cameras.size_hw),
        mask=None,
    )


def resize_features(features: Float[Tensor, "B V C h w"], size_hw: tuple[int, int]) -> Float[Tensor, "B M C"]:
    """Patch features on another grid of patches, as rows of tokens; without a copy if it is their own grid."""
    if features.shape[-2:] != size_hw:
        resized = F.interpolate(features.flatten(0, 1), size_hw, mode="bilinear", align_corners=False)
        features = resized.unflatten(0, features.shape[:2])
    return rearrange(features, "b v c h w -> b (v h w) c")
