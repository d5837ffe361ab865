"""SegVGGT (Qu et al., ECCV 2026): a VGGT whose tokens instance queries read, and a dense head for their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tokengroups.encoders import Geometry
from tokengroups.encoders.base import SINGLE_VIEW_FEATURES
from tokengroups.encoders.vggt import VGGT, VGGTConfig, VGGTOutput
from tokengroups.encoders.vggt.dense import run_in_chunks
from tokengroups.encoders.vggt_tiny import VGGTTiny
from tokengroups.systems.segvggt.config import SegVGGTConfig
from tokengroups.systems.segvggt.lora import add_lora
from tokengroups.systems.segvggt.open_head import OpenClasses, OpenHead
from tokengroups.systems.segvggt.queries import PLAIN, InstanceQueries, Reading
from tokengroups.systems.segvggt.semantic_head import SemanticHead
from tokengroups.types import TensorFields

LayerTokens = Sequence[Float[Tensor, "B S P C"]]


@dataclass(frozen=True)
class SegVGGTOutput(TensorFields):
    """Masks and classes of Q queries over the S photos of a scene, before any activation."""

    queries: Float[Tensor, "B Q E"]  # projected
    features: Float[Tensor, "B S h w E"]  # half the photos' resolution, corner cells on corner pixels
    class_logits: Float[Tensor, "B Q K1"]  # the last one is "no object"; of the closed head, if there is one
    open_classes: OpenClasses | None = None  # of the open head
    # After every layer (L), if asked for; the last ones are those above.
    layer_queries: Float[Tensor, "L B Q E"] | None = None
    layer_class_logits: Float[Tensor, "L B Q K1"] | None = None
    frame_attention: Float[Tensor, "L B Q S"] | None = None  # mean over heads and a frame's tokens
    region_attention: Float[Tensor, "L B Q G"] | None = None

    def mask_logits(self, queries: Float[Tensor, "B q E"] | None = None) -> Float[Tensor, "B q S h w"]:
        """Mask logits of these projected queries, of some or of another layer; None = all of the last one."""
        chosen = self.queries if queries is None else queries
        return einsum(chosen, self.features, "b q e, b s h w e -> b q s h w")


class QueryBranch(nn.Module):
    """Queries and semantic head; parameters have official names, hence `aggregator`.

    Args:
        encoder: Sizes of the VGGT.
        config: Sizes of the branch.
        single_view_dims: Channels of the encoder's single-view maps.
    """

    def __init__(self, encoder: VGGTConfig, config: SegVGGTConfig, single_view_dims: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.patch_size, self.chunk = encoder.patch_size, encoder.dpt_chunk
        self.semantic_head = SemanticHead(encoder, config, single_view_dims)
        self.aggregator = InstanceQueries(encoder, config.queries, self.semantic_head.mask_dim)
        self.closed, self.open_head = config.open_head.use != "instead", None
        if config.open_head.use != "none":
            self.open_head = OpenHead(self.semantic_head.mask_dim, config.open_head, config.num_classes)

    def forward(
        self,
        layers: LayerTokens,
        head_inputs: Sequence[Float[Tensor, "B S ..."]],
        size_hw: tuple[int, int],
        reading: Reading = PLAIN,
    ) -> SegVGGTOutput:
        """Run the head on the finished tokens, then the queries.

        Args:
            layers: Global blocks' outputs of the layers that the queries read.
            head_inputs: As for `SemanticHead`, of a batch of scenes.
            size_hw: Pixels of the photos.
            reading: What to return, and how the queries read.
        """
        with torch.autocast(layers[0].device.type, enabled=False):
            inputs = [x.to(self.semantic_head.norm.weight.dtype) for x in head_inputs]
            features = self.aggregator.features(run_in_chunks(self.semantic_head, inputs, size_hw, self.chunk))
        found = self.aggregator(layers, lambda: self._patch_features(features, size_hw), reading)
        queries = found.projected if reading.states else found.projected[-1:]
        with torch.autocast(layers[0].device.type, enabled=False):
            logits = self._classify(queries)
            opened = None if self.open_head is None else self.open_head(queries[-1])
        return SegVGGTOutput(
            queries=queries[-1],
            features=rearrange(features, "b s e h w -> b s h w e"),
            class_logits=logits[-1],
            open_classes=opened,
            layer_queries=queries if reading.states else None,
            layer_class_logits=logits if reading.states else None,
            frame_attention=found.frame_attention,
            region_attention=found.region_attention,
        )

    def _classify(self, queries: Float[Tensor, "L B Q E"]) -> Float[Tensor, "L B Q K1"]:
        """Class logits of the closed head, or of the open one in its place."""
        if self.closed or self.open_head is None:
            return self.semantic_head.classify(queries)
        return self.open_head(queries).logits

    def _patch_features(self, features: Float[Tensor, "B S E h w"], size_hw: tuple[int, int]) -> Float[Tensor, "B M E"]:
        """Mean features of every patch."""
        grid = (size_hw[0] // self.patch_size, size_hw[1] // self.patch_size)
        pooled = functional.adaptive_avg_pool2d(features.flatten(0, 1), grid)
        return rearrange(pooled, "(b s) e h w -> b (s h w) e", b=len(features))


class SegVGGTNetwork(nn.Module):
    """Encoder and query branch in one forward pass.

    Tokens never see the queries, so geometry and features do not depend on them.

    Args:
        encoder: A VGGT or one of its relatives. It is changed: its point head goes, and its trunk gets LoRA, which
            renames qkv and proj as in the published checkpoint.
        config: Sizes.

    Raises:
        ValueError: Sizes that do not fit the encoder.
    """

    def __init__(self, encoder: VGGT, config: SegVGGTConfig) -> None:
        super().__init__()
        self.config = config
        encoder.drop_point_head()
        if config.lora_rank:
            add_lora(encoder.aggregator, config.lora_rank, config.lora_alpha)
        self.encoder = encoder
        self.branch = QueryBranch(encoder.config, config, encoder.evidence_dims.get(SINGLE_VIEW_FEATURES, ()))

    def recompute_blocks(self) -> None:
        """Keep no inner values of the trunk's layers and of the queries' blocks for the backward pass."""
        self.encoder.aggregator.recompute = self.branch.aggregator.recompute = True

    def forward(self, images: Float[Tensor, "B S 3 H W"], reading: Reading = PLAIN) -> tuple[VGGTOutput, SegVGGTOutput]:
        """Raw geometry, masks and classes."""
        output, layers = self.run_trunk(images)
        return output, self.read(images, output, layers, reading)

    def read(
        self, images: Float[Tensor, "B S 3 H W"], output: VGGTOutput, layers: LayerTokens, reading: Reading = PLAIN
    ) -> SegVGGTOutput:
        """Masks and classes from what `run_trunk` gave."""
        single_view = ()
        if isinstance(self.encoder, VGGTTiny) and self.config.head.single_view_features:
            with torch.no_grad():  # it is trained by itself
                prediction = self.encoder.predict_single_view(images)
            single_view = () if prediction is None else prediction.features
        return self._segment(images, output, layers, single_view, reading)

    @torch.no_grad()
    def encode(
        self,
        images: Float[Tensor, "B S 3 H W"],
        intrinsics: Float[Tensor, "B S 3 3"] | None = None,
        full_images: Float[Tensor, "B S 3 F G"] | None = None,
        reading: Reading = PLAIN,
    ) -> tuple[Geometry, SegVGGTOutput]:
        """Geometry as `Encoder.encode` gives it, masks and classes: inference in one pass."""
        output, layers = self.run_trunk(images)
        if isinstance(self.encoder, VGGTTiny):
            geometry = self.encoder.geometry(images, output, intrinsics, full_images)
        else:
            geometry = self.encoder.geometry(images, output, intrinsics)
        single_view = geometry.evidence.get(SINGLE_VIEW_FEATURES, ())
        assert isinstance(single_view, tuple)
        return geometry, self._segment(images, output, layers, single_view, reading)

    def run_trunk(self, images: Float[Tensor, "B S 3 H W"]) -> tuple[VGGTOutput, LayerTokens]:
        """Raw geometry, and what the queries read."""
        tokens: dict[int, Tensor] = {}
        wanted = self.branch.aggregator.layers
        output = self.encoder(
            images, lambda index, x: tokens.update({index: x} if index in wanted else {}), with_points=False
        )
        return output, [tokens[index] for index in wanted]

    def _segment(
        self,
        images: Float[Tensor, "B S 3 H W"],
        output: VGGTOutput,
        layers: LayerTokens,
        single_view: tuple[Float[Tensor, "B S _ _ _"], ...],
        reading: Reading,
    ) -> SegVGGTOutput:
        head = self.config.head
        extras = [images, *(single_view if head.single_view_features else ())] if head.stem else []
        return self.branch(layers, [*output.tokens, *extras], (images.shape[-2], images.shape[-1]), reading)
