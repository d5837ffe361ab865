"""SegVGGT's semantic head: VGGT's dense head to features of half the photos' resolution, and the class MLP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.encoders.vggt.dpt_head import DPTHead, add_uv_, resize
from tokengroups.systems.photo_skips import PhotoSkips
from tokengroups.systems.segvggt.config import SegVGGTConfig

RATIO = 2  # sides of the photos over those of the features


class SemanticHead(DPTHead, PhotoSkips):
    """Tokens of four trunk layers to the masks' features; parameters have official names.

    Args:
        encoder: Sizes of the VGGT.
        config: Sizes of the head, and the number of classes.
        single_view_dims: Channels of the encoder's single-view maps; they are read if the configuration says so.

    Raises:
        ValueError: The configuration asks for single-view features and there are none.
    """

    def __init__(self, encoder: VGGTConfig, config: SegVGGTConfig, single_view_dims: tuple[int, ...] = ()) -> None:
        head = config.head
        channels, features = head.channels or encoder.dpt_channels, head.features or encoder.dpt_features
        super().__init__(replace(encoder, dpt_channels=channels, dpt_features=features), out_channels=1)
        self.mask_dim = features // 2
        del self.scratch.output_conv2
        if config.open_head.use != "instead":
            self.scratch.output_instance = nn.Sequential(
                nn.Linear(self.mask_dim, head.class_hidden),
                nn.ReLU(),
                nn.Linear(head.class_hidden, config.num_classes + 1),  # the last one is "no object"
            )
        self.has_skips = bool(head.stem)
        if self.has_skips:
            single_view = single_view_dims if head.single_view_features else None
            self.build_skips(head.stem, channels[0], self.mask_dim, single_view)

    def forward(self, inputs: Sequence[Float[Tensor, "N ..."]], size_hw: tuple[int, int]) -> Float[Tensor, "N E h w"]:
        """Features of N frames.

        Args:
            inputs: Tokens of the four kept layers; then, for skips alone, the photos and their single-view maps.
            size_hw: Pixels of the photos.
        """
        count = len(self.projects)
        tokens, photos, single_view = inputs[:count], inputs[count : count + 1], tuple(inputs[count + 1 :])
        maps = self.layer_maps(tokens, size_hw)
        if self.has_skips:
            fine, coarse = self.stem_maps(photos[0])
            maps[0] = self.add_coarse(maps[0], coarse, single_view, size_hw)
            fused = self.add_fine(self.scratch.output_conv1(self.scratch.fuse(maps)), fine)
        else:
            fused = self.scratch.output_conv1(self.scratch.fuse(maps))
        # The position is added at full resolution: at half of it, the features would differ by a percent.
        full = add_uv_(resize(fused, size_hw), size_hw[1] / size_hw[0])
        return resize(full, (size_hw[0] // RATIO, size_hw[1] // RATIO))

    def classify(self, queries: Float[Tensor, "*b Q E"]) -> Float[Tensor, "*b Q K1"]:
        """Class logits of projected queries; the last one is "no object"."""
        return self.scratch.get_submodule("output_instance")(queries)
