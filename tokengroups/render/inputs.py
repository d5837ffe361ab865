"""The flat form of one rendering call that all backends share."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class RasterInputs:
    """Checked inputs: batch axes flattened to B scenes, C cameras each; colours [B, N, D] or [B, C, N, D]."""

    means: Float[Tensor, "B N 3"]
    quats: Float[Tensor, "B N 4"]
    scales: Float[Tensor, "B N 3"]
    opacities: Float[Tensor, "B N"]
    colors: Float[Tensor, "B *C N D"]
    cam_from_world: Float[Tensor, "B C 4 4"]
    intrinsics: Float[Tensor, "B C 3 3"]
    size_hw: tuple[int, int]
    anchor_ids: Int64[Tensor, " N"] | None = None
    anchor_features: Float[Tensor, "B K F"] | None = None

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
