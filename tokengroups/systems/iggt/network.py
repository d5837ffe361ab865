"""IGGT's instance branch on the layers of a VGGT: point head, part adaptor and part head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.encoders.vggt.dense import POINT_CHANNELS, chunk_frames
from tokengroups.encoders.vggt.dpt_head import DPTHead
from tokengroups.nn.blocks import init_transformer_weights
from tokengroups.systems.iggt.config import InstanceHeadConfig
from tokengroups.systems.iggt.part_adaptor import PartAdaptor
from tokengroups.systems.iggt.part_head import PaperHead, PartHead

HEADS = {"released": PartHead, "paper": PaperHead}


@dataclass(frozen=True)
class InstanceBranchOutput:
    """Raw maps of N frames."""

    field: Float[Tensor, "N E H W"]  # not normalised
    points: Float[Tensor, "N 4 H W"] | None  # of the point head, before its activations, if asked for


class InstanceBranch(nn.Module):
    """Patch tokens of four layers to the instance field; parameters have the official names.

    The point head belongs to the branch: its maps between the refinements are what the part head attends to.

    Args:
        encoder: Sizes of the VGGT.
        config: Sizes of the heads.
    """

    def __init__(self, encoder: VGGTConfig, config: InstanceHeadConfig) -> None:
        super().__init__()
        self.chunk = encoder.dpt_chunk
        self.point_head = DPTHead(encoder, POINT_CHANNELS + 1)
        self.part_adaptor = PartAdaptor(encoder)
        self.part_head = HEADS[config.layout](encoder, config)
        self.point_head.num_special = self.part_adaptor.num_special = 0  # features hold patches alone
        init_transformer_weights(self)

    def forward(
        self, layers: Sequence[Float[Tensor, "N P C2"]], size_hw: tuple[int, int], *, with_points: bool = True
    ) -> InstanceBranchOutput:
        """Run the heads on N frames; without gradients some frames at a time, which bounds the memory.

        Args:
            layers: Patch tokens of the encoder's kept layers, without special tokens.
            size_hw: Pixels of the photos.
            with_points: Whether to finish the point head, whose end the field does not depend on.
        """
        count = len(layers[0])
        step = chunk_frames(layers[0], size_hw, self.chunk)
        chunks = [[layer[start : start + step] for layer in layers] for start in range(0, count, step)]
        parts = [self._frames(chunk, size_hw, with_points) for chunk in chunks]
        points = [part.points for part in parts if part.points is not None]
        return InstanceBranchOutput(torch.cat([part.field for part in parts]), torch.cat(points) if points else None)

    def _frames(
        self, layers: Sequence[Float[Tensor, "N P C2"]], size_hw: tuple[int, int], with_points: bool
    ) -> InstanceBranchOutput:
        with torch.autocast(layers[0].device.type, enabled=False):
            layers = [layer.to(self.part_adaptor.norm.weight.dtype) for layer in layers]  # never half precision
            scratch, raw = self.point_head.scratch, None
            points: Sequence[Tensor] = []
            if with_points or self.part_head.fusion:
                points = scratch.fusion_maps(self.point_head.layer_maps(layers, size_hw))
            if with_points:
                raw = self.point_head.finish(scratch.output_conv1(points[0]), size_hw)
            return InstanceBranchOutput(self.part_head(self.part_adaptor(layers, size_hw), points, size_hw), raw)


def patch_layers(features: Float[Tensor, "N C h w"], num_layers: int) -> list[Float[Tensor, "N P C2"]]:
    """Patch tokens of every kept layer, from an encoder's patch features."""
    return list(rearrange(features, "n (l c) h w -> l n (h w) c", l=num_layers).unbind(0))
