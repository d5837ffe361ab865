"""The flat form of one rendering call that all backends share."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RasterInputs:
    """Inputs of one call: batch axes flattened to B scenes, C cameras each; colours [B, N, D] or [B, C, N, D]."""

    # Plain tensors: they pass through here once as the caller gave them, and `rasterize` says what is wrong with them.
    means: Tensor  # [B, N, 3]
    quats: Tensor  # [B, N, 4]
    scales: Tensor  # [B, N, 3]
    opacities: Tensor  # [B, N]
    colors: Tensor
    cam_from_world: Tensor  # [B, C, 4, 4]
    intrinsics: Tensor  # [B, C, 3, 3]
    size_hw: tuple[int, int]
    anchor_ids: Tensor | None = None  # int64 [N]
    anchor_features: Tensor | None = None  # [B, K, F]

    @property
    def colors_per_camera(self) -> bool:
        """Whether the colours have a camera axis."""
        return self.colors.ndim == 4


@dataclass(frozen=True)
class RasterImages:
    """What a backend returns: no background yet."""

    colors: Float[Tensor, "B C H W D"]
    alphas: Float[Tensor, "B C H W"]
    depths: Float[Tensor, "B C H W"]
    features: Float[Tensor, "B C H W F"] | None
