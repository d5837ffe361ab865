"""The flat form of one rendering call that all backends share."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.render.sh import sh_colors


@dataclass(frozen=True)
class RasterInputs:
    """Checked inputs: batch axes flattened to B scenes, C cameras each.

    Colours are [B, N, D] or [B, C, N, D], or given by spherical harmonics.
    """

    means: Float[Tensor, "B N 3"]
    quats: Float[Tensor, "B N 4"]
    scales: Float[Tensor, "B N 3"]
    opacities: Float[Tensor, "B N"]
    colors: Float[Tensor, "B *C N D"] | None  # None: see sh
    cam_from_world: Float[Tensor, "B C 4 4"]
    intrinsics: Float[Tensor, "B C 3 3"]
    size_hw: tuple[int, int]
    sh: Float[Tensor, "B N S 3"] | None = None
    anchor_ids: Int64[Tensor, " N"] | None = None
    anchor_features: Float[Tensor, "B K F"] | None = None

    def plain_colors(self) -> Float[Tensor, "B *C N D"]:
        """The colours, evaluated from the harmonics if need be."""
        if self.colors is not None:
            return self.colors
        assert self.sh is not None
        return sh_colors(self.sh, self.means, self.cam_from_world)


@dataclass(frozen=True)
class RasterImages:
    """What a backend returns: no background yet."""

    colors: Float[Tensor, "B C H W D"]
    alphas: Float[Tensor, "B C H W"]
    depths: Float[Tensor, "B C H W"]
    features: Float[Tensor, "B C H W F"] | None
