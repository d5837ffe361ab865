"""Gaussian head: a two-layer MLP from an anchor token to Gaussians within bounds set by the anchor's spacing.

Token-groups paper, "Gaussian reconstruction".
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.bounds import Between
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Gaussians

OffsetUnit = Literal["spacing", "points"]
INITIAL_SCALE = 0.35  # standard deviation of a new Gaussian in spacings
ScaleBound = Annotated[float, Between(INITIAL_SCALE, 1000, open_low=True)]


class GaussianHead(nn.Module):
    """MLP that predicts `per_anchor` Gaussians around each anchor.

    The offset bound follows the anchor's spacing (pixel size on the surface times pixels per anchor): a bound in metres
    is too wide near the camera and saturates far from it.

    Args:
        dim: Width of the anchor tokens.
        per_anchor: Gaussians per anchor, N_g.
        sh_degree: Degree of the spherical harmonics, 0 to 3.
        offset_bound: Largest offset per axis, in `offset_unit`.
        scale_bound: Largest standard deviation in spacings; keeps Gaussians from growing to half the image.
        offset_unit: The anchor's spacing, or the unit of the points.
    """

    def __init__(
        self,
        dim: int,
        per_anchor: int,
        sh_degree: int,
        offset_bound: float,
        scale_bound: float,
        offset_unit: OffsetUnit = "spacing",
    ) -> None:
        super().__init__()
        self.per_anchor = per_anchor
        self.offset_bound = offset_bound
        self.offset_unit: OffsetUnit = offset_unit
        self.scale_bound = scale_bound
        self.scale_shift = math.log(INITIAL_SCALE / (scale_bound - INITIAL_SCALE))
        self.split = {"offset": 3, "scale": 3, "rotation": 4, "opacity": 1, "sh": 3 * (sh_degree + 1) ** 2}
        output = nn.Linear(dim, per_anchor * sum(self.split.values()))
        init_small_cloud(output, per_anchor, offset_bound)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), output)

    def forward(
        self,
        tokens: Float[Tensor, "B K D"],
        anchors: Float[Tensor, "B K 3"],
        spacings: Float[Tensor, "B K"],
        colors: Float[Tensor, "B K 3"],
    ) -> Gaussians:
        """Decode the Gaussians, anchor by anchor (Gaussian n belongs to anchor n // per_anchor).

        Args:
            tokens: Decoded anchor tokens.
            anchors: Anchor positions.
            spacings: Size of an anchor's patch on the surface, same unit.
            colors: Colour of the photo at the anchor in [0, 1]; the head predicts a residual to it.
        """
        raw = rearrange(self.mlp(tokens).float(), "b k (n c) -> b k n c", n=self.per_anchor)
        offset, scale, rotation, opacity, sh = raw.split(list(self.split.values()), dim=-1)
        size = spacings[:, :, None, None]
        unit = size if self.offset_unit == "spacing" else torch.ones_like(size)
        means = anchors[:, :, None] + self.offset_bound * unit * offset.tanh()
        scales = self.scale_bound * size * (scale + self.scale_shift).sigmoid()
        quats = rotation + rotation.new_tensor([1.0, 0.0, 0.0, 0.0])
        opacities = opacity.squeeze(-1).sigmoid()
        sh = rearrange(sh, "b k n (s c) -> b k n s c", c=3)
        base = (colors[:, :, None] - 0.5) / SH_C0
        sh = torch.cat([sh[..., :1, :] + base[..., None, :], sh[..., 1:, :]], dim=-2)
        fields = (means, quats, scales, opacities, sh)
        return Gaussians(*(value.flatten(1, 2) for value in fields))


def init_small_cloud(output: nn.Linear, per_anchor: int, offset_bound: float) -> None:
    """Initialise offsets spread over one unit, or half of a tighter bound, and all other values as neutral."""
    if output.weight.is_meta:
        return  # to be loaded; besides, torch imports for most of a second to draw normal numbers on "meta"
    nn.init.normal_(output.weight, std=0.01)
    nn.init.zeros_(output.bias)
    spread = torch.empty(per_anchor, 3).uniform_(-0.5, 0.5) / max(1.0, offset_bound)
    with torch.no_grad():
        output.bias.view(per_anchor, -1)[:, :3] = spread.atanh()
