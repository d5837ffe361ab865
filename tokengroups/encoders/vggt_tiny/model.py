"""The tiny encoder: a small VGGT with a convolutional stem, cell matching and a single-view network beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.encoders.base import (
    MATCH_DESCRIPTORS,
    PAIR_AFFINITY,
    PAIR_OFFSETS,
    SINGLE_VIEW_FEATURES,
    Geometry,
    geometry_of,
)
from tokengroups.encoders.vggt.dense import run_in_chunks
from tokengroups.encoders.vggt.dpt_head import DPTHead
from tokengroups.encoders.vggt.model import VGGT, Embedding, LayerVisitor, VGGTOutput
from tokengroups.encoders.vggt.pose_encoding import decode_pose
from tokengroups.encoders.vggt_tiny.cell_matching import CellMatching
from tokengroups.encoders.vggt_tiny.config import VGGTTinyConfig
from tokengroups.encoders.vggt_tiny.fusion import fuse_depth, fuse_focal
from tokengroups.encoders.vggt_tiny.single_view import SingleViewNetwork, SingleViewPrediction
from tokengroups.encoders.vggt_tiny.stem import StemAggregator, StemDPTHead
from tokengroups.types import Cameras


@dataclass(frozen=True)
class VGGTTinyOutput(VGGTOutput):
    """VGGT's raw predictions, and descriptors of cells."""

    match_descriptors: Float[Tensor, "B V Q D"] | None = None  # products of two views' are matching logits


@dataclass(frozen=True)
class StemEmbedding(Embedding):
    """The input of the alternating-attention layers, and what the heads read beside them."""

    stem_maps: tuple[Float[Tensor, "N _ _ _"], ...] = ()  # N = B * V
    match_descriptors: Float[Tensor, "B V Q D"] | None = None


class VGGTTiny(VGGT):
    """A small relative of VGGT that trains on a CPU; it is an `Encoder`.

    A single-view network, if it has one, predicts focal length and depth from each photo by itself; `encode` fuses
    both predictions. That network is trained by itself (task ``single_view``).
    """

    config: VGGTTinyConfig
    reads_full_photos = True
    half_suits = False  # small, and measured in float32
    aggregator_class = StemAggregator
    dense_head_class = StemDPTHead

    def _build_more(self, config: VGGTTinyConfig) -> None:
        self.matching = CellMatching(config) if config.matching else None
        self.single_view = None
        if config.single_view_channels:
            self.single_view = SingleViewNetwork(
                config.single_view_channels, config.single_view_depth, config.single_view_details
            )

    @property
    def evidence_dims(self) -> Mapping[str, tuple[int, ...]]:
        """Channels of the evidence that `encode` gives."""
        config = self.config
        dims: dict[str, tuple[int, ...]] = {}
        if config.matching:
            dims[MATCH_DESCRIPTORS] = (config.matching_dim,)
        if config.single_view_channels:
            dims[SINGLE_VIEW_FEATURES] = config.single_view_dims
        if config.single_view_details:
            dims[PAIR_AFFINITY] = (len(PAIR_OFFSETS),)
        return dims

    def forward(
        self, images: Float[Tensor, "B V 3 H W"], after_layer: LayerVisitor | None = None, *, with_points: bool = True
    ) -> VGGTTinyOutput:
        """Predict poses, depth, points and match descriptors; arguments and results as VGGT's."""
        embedding = self.embed(images)
        kept, camera_tokens = self.run_layers(embedding, after_layer)
        stem_maps = [x.unflatten(0, images.shape[:2]) for x in embedding.stem_maps]
        size_hw = (images.shape[-2], images.shape[-1])
        output = self.predict(kept, camera_tokens, stem_maps, size_hw, with_points)
        return VGGTTinyOutput(**vars(output), match_descriptors=embedding.match_descriptors)

    def embed(self, images: Float[Tensor, "B V 3 H W"]) -> StemEmbedding:
        """Embed every frame; with `matching`, patch tokens include their displacement since view 0."""
        grid_hw = self.patch_grid(images)
        assert isinstance(self.aggregator, StemAggregator)
        patches, stem_maps = self.aggregator.embed_with_stem(images)
        descriptors = None
        if self.matching is not None:
            descriptors, patches = self.matching(patches, stem_maps[self.matching.stage], grid_hw)
        return StemEmbedding(self.aggregator.add_special_tokens(patches), grid_hw, stem_maps, descriptors)

    def encode(
        self,
        images: Float[Tensor, "B V 3 H W"],
        intrinsics: Float[Tensor, "B V 3 3"] | None = None,
        full_images: Float[Tensor, "B V 3 F G"] | None = None,
    ) -> Geometry:
        """Encode photos as `Encoder` says; the single-view network reads them with more pixels, if there are such."""
        return self.geometry(images, self(images, with_points=False), intrinsics, full_images)

    def geometry(
        self,
        images: Float[Tensor, "B V 3 H W"],
        output: VGGTOutput,
        intrinsics: Float[Tensor, "B V 3 3"] | None = None,
        full_images: Float[Tensor, "B V 3 F G"] | None = None,
    ) -> Geometry:
        """Fuse the heads' and the single-view network's predictions.

        In training mode the single-view network is left out: it passes no gradients to the heads, and a rendering
        loss should see the heads' own errors.
        """
        assert output.depth is not None and output.depth_confidence is not None, "needs a depth head"
        assert output.features is not None
        single = None if self.training else self.predict_single_view(images if full_images is None else full_images)
        size_hw = (images.shape[-2], images.shape[-1])
        with torch.autocast(images.device.type, enabled=False):
            poses, predicted = decode_pose(output.pose_encodings[-1].float(), size_hw)
            depth = output.depth.float()
            if single is not None:
                predicted = fuse_focal(predicted, single, size_hw)
                depth = fuse_depth(depth, single)
            return geometry_of(
                output.features,
                depth,
                output.depth_confidence.float(),
                Cameras(poses, predicted if intrinsics is None else intrinsics, size_hw),
                _evidence(output, single),
            )

    def predict_single_view(self, images: Float[Tensor, "B V 3 H W"]) -> SingleViewPrediction | None:
        """Run the single-view network on every photo; None without one."""
        if self.single_view is None:
            return None
        prediction: SingleViewPrediction = self.single_view(images.flatten(0, 1))
        return prediction.map(lambda tensor: tensor.unflatten(0, images.shape[:2]))

    def _run_head(
        self, head: DPTHead | None, layers: Sequence[Tensor], size_hw: tuple[int, int]
    ) -> Float[Tensor, "B V D H W"] | None:
        if head is None:
            return None
        context = nullcontext()
        if not self.config.heads_autocast:
            context = torch.autocast(layers[0].device.type, enabled=False)
            kept = len(self.config.dpt_layers)
            layers = [*layers[:kept], *(x.float() for x in layers[kept:])]
        with context:
            return run_in_chunks(head, layers, size_hw, self.config.dpt_chunk)


def _evidence(output: VGGTOutput, single: SingleViewPrediction | None) -> dict[str, Tensor | tuple[Tensor, ...]]:
    evidence: dict[str, Tensor | tuple[Tensor, ...]] = {}
    if isinstance(output, VGGTTinyOutput) and output.match_descriptors is not None:
        evidence[MATCH_DESCRIPTORS] = output.match_descriptors.float()
    if single is not None:
        evidence[SINGLE_VIEW_FEATURES] = single.features
        if single.pair_affinity is not None:
            evidence[PAIR_AFFINITY] = single.pair_affinity
    return evidence


def with_single_view(config: VGGTTinyConfig, channels: tuple[int, ...], depth: int, details: int) -> VGGTTinyConfig:
    """The configuration of an encoder with such a single-view network."""
    return replace(config, single_view_channels=channels, single_view_depth=depth, single_view_details=details)
