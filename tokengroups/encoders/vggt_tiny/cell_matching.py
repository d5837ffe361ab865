"""Matching of half-patch cells between frames: a stand-in for VGGT's tracking head in small models.

Trained from VGGT's geometry losses alone, a small network keeps predicting "no motion". Descriptors whose
correlation is supervised directly make the camera motion appear early.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.encoders.vggt_tiny.config import VGGTTinyConfig

INITIAL_SCALE, MAX_SCALE = 10.0, 100.0
CELLS = 2  # cells per patch side
DISPLACEMENT_DIM = 3  # displacement x and y, peak probability


class Matches(NamedTuple):
    """Descriptors of cells (half a patch wide, row-major), and patch tokens with their displacement to view 0 added."""

    descriptors: Float[Tensor, "B V Q D"]  # of two cells, their product is the logit that they show the same
    patches: Float[Tensor, "B V HW C"]


class CellMatching(nn.Module):
    """Unit descriptors of cells, softmax correlation with those of view 0, feedback into the patch tokens."""

    def __init__(self, config: VGGTTinyConfig) -> None:
        super().__init__()
        dim, out = config.embed_dim, config.matching_dim
        self.stage = len(config.stem_channels) - 2  # the stem map with two cells per patch side
        self.norm = nn.LayerNorm(dim)
        self.from_patches = nn.Linear(dim, CELLS**2 * out)
        self.from_stem = nn.Conv2d(config.stem_channels[self.stage], out, kernel_size=1)
        self.mix = nn.Sequential(nn.GELU(), nn.Conv2d(out, out, kernel_size=3, padding=1))
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_SCALE).log())
        self.feedback = nn.Sequential(nn.Linear(CELLS**2 * DISPLACEMENT_DIM, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(
        self, patches: Float[Tensor, "B V HW C"], stem_map: Float[Tensor, "N D h w"], grid_hw: tuple[int, int]
    ) -> Matches:
        """Match all frames with view 0 (view 0 with itself too) and add the displacements to the patch tokens."""
        views = patches.shape[1]
        descriptors = rearrange(self.describe(patches, stem_map, grid_hw), "(b v) d h w -> b v (h w) d", v=views)
        with torch.autocast(patches.device.type, enabled=False):
            descriptors = functional.normalize(descriptors.float(), dim=-1)
            scale = self.log_scale.exp().clamp(max=MAX_SCALE)
            descriptors = descriptors * scale.sqrt()
            logits = descriptors @ descriptors[:, :1].mT
            found = displacements(logits, (CELLS * grid_hw[0], CELLS * grid_hw[1]))
        found = rearrange(
            found,
            "b v (h i w j) c -> b v (h w) (i j c)",
            h=grid_hw[0], w=grid_hw[1], i=CELLS, j=CELLS,
        )  # fmt: skip
        return Matches(descriptors, patches + self.feedback(found))

    def describe(
        self, patches: Float[Tensor, "B V HW C"], stem_map: Float[Tensor, "N D h w"], grid_hw: tuple[int, int]
    ) -> Float[Tensor, "N d h w"]:
        """Descriptors, not yet of unit length: one part from the patch token, one from the stem's local appearance."""
        coarse = rearrange(
            self.from_patches(self.norm(patches)),
            "b v (h w) (i j d) -> (b v) d (h i) (w j)",
            h=grid_hw[0], w=grid_hw[1], i=CELLS, j=CELLS,
        )  # fmt: skip
        return self.mix(coarse + self.from_stem(stem_map))


def displacements(logits: Float[Tensor, "B V Q R"], cells_hw: tuple[int, int]) -> Float[Tensor, "B V Q 3"]:
    """Expected displacement (x, y) to the matching cell of view 0, in image sides; peak probability."""
    rows, columns = cells_hw
    y = (torch.arange(rows, device=logits.device) + 0.5) / rows
    x = (torch.arange(columns, device=logits.device) + 0.5) / columns
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1).to(logits.dtype)
    probabilities = logits.softmax(dim=-1)
    displacement = probabilities @ centres - centres
    return torch.cat([displacement, probabilities.amax(dim=-1, keepdim=True)], dim=-1)
