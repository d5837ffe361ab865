"""VGGT: aggregator, camera head, depth head and point head put together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders.base import Geometry, geometry_of
from tokengroups.encoders.vggt.aggregator import Aggregator
from tokengroups.encoders.vggt.camera_head import CameraHead
from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.encoders.vggt.dense import DEPTH_CHANNELS, POINT_CHANNELS, predict_depth, predict_points, run_in_chunks
from tokengroups.encoders.vggt.dpt_head import DPTHead
from tokengroups.encoders.vggt.kept_tokens import KeptTokens
from tokengroups.encoders.vggt.pose_encoding import decode_pose
from tokengroups.nn.blocks import init_transformer_weights
from tokengroups.nn.half import widen
from tokengroups.nn.precision import autocast
from tokengroups.types import Cameras, TensorFields

LayerVisitor = Callable[[int, Tensor], None]  # takes a layer's index and its global block's output [B V P C]


@dataclass(frozen=True)
class VGGTOutput(TensorFields):
    """The raw predictions for a batch of photo sets; world = camera of the first photo."""

    tokens: tuple[Float[Tensor, "B V P C2"], ...]  # per kept layer: special tokens first, then patches
    pose_encodings: tuple[Float[Tensor, "B V 9"], ...]  # one per camera-head iteration; the last one counts
    depth: Float[Tensor, "B V H W"] | None = None
    depth_confidence: Float[Tensor, "B V H W"] | None = None
    points: Float[Tensor, "B V H W 3"] | None = None  # the point head's, in the world of view 0
    points_confidence: Float[Tensor, "B V H W"] | None = None
    features: Float[Tensor, "B V C h w"] | None = None  # the tokens of patches side by side, in the same memory


@dataclass(frozen=True)
class Embedding:
    """The input of the alternating-attention layers."""

    tokens: Float[Tensor, "B V P C"]  # camera token, registers, patches in row-major order
    grid_hw: tuple[int, int]  # rows and columns of patches


class VGGT(nn.Module):
    """Photos of one place, in any order, to cameras, depth and points in the world of the first camera.

    Parameters have the official names (Wang et al., CVPR 2025). It is an `Encoder`.
    """

    half_suits: ClassVar[bool] = True  # the published weights were made for a trunk in bfloat16
    aggregator_class: type[Aggregator] = Aggregator
    dense_head_class: type[DPTHead] = DPTHead
    evidence_dims: Mapping[str, tuple[int, ...]] = {}

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        self.config = config
        self.image_size, self.patch_size, self.feature_dim = config.image_size, config.patch_size, config.feature_dim
        self.frozen = self.in_half = False
        self.aggregator = self.aggregator_class(config)
        self.camera_head = CameraHead(config)
        self.point_head = self.dense_head_class(config, POINT_CHANNELS + 1) if config.enable_point else None
        self.depth_head = self.dense_head_class(config, DEPTH_CHANNELS + 1) if config.enable_depth else None
        self._build_more(config)
        init_transformer_weights(self)
        self.camera_head.init_weights()

    def _build_more(self, config: VGGTConfig) -> None:
        """Build the parts that a relative of VGGT adds, before weights are drawn."""

    def drop_point_head(self) -> None:
        """Leave the point head out, as if the configuration had said so."""
        self.point_head, self.config = None, replace(self.config, enable_point=False)

    def forward(
        self, images: Float[Tensor, "B V 3 H W"], after_layer: LayerVisitor | None = None, *, with_points: bool = True
    ) -> VGGTOutput:
        """Predict poses, depth and points.

        Args:
            images: In [0, 1]; H and W multiples of the patch size.
            after_layer: Called after every layer.
            with_points: Whether to run the point head, if there is one.

        Returns:
            Tokens of `config.dpt_layers` (frame block's output, then global block's), pose encodings of every
            camera iteration, and the outputs of the enabled heads. Depths and points share one free scale.
        """
        with self._trunk_precision(images.device):
            kept, camera_tokens = self.run_layers(self.embed(images), after_layer)
        return self.predict(kept, camera_tokens, (), (images.shape[-2], images.shape[-1]), with_points)

    def predict(
        self,
        kept: Float[Tensor, "B V P C"],
        camera_tokens: Float[Tensor, "B V C2"],
        extras: Sequence[Tensor],
        size_hw: tuple[int, int],
        with_points: bool,
    ) -> VGGTOutput:
        """Run the heads; the dense ones read the kept tokens, layer by layer, and `extras`."""
        layers = kept.chunk(len(self.config.dpt_layers), dim=-1)
        inputs, point_head = [*layers, *extras], self.point_head if with_points else None
        depth, depth_confidence = predict_depth(self._run_head(self.depth_head, inputs, size_hw))
        points, points_confidence = predict_points(self._run_head(point_head, inputs, size_hw))
        return VGGTOutput(
            tokens=layers,
            pose_encodings=self.predict_poses(camera_tokens),
            depth=depth,
            depth_confidence=depth_confidence,
            points=points,
            points_confidence=points_confidence,
            features=self.patch_features(kept, size_hw),
        )

    def encode(
        self, images: Float[Tensor, "B V 3 H W"], intrinsics: Float[Tensor, "B V 3 3"] | None = None
    ) -> Geometry:
        """Encode photos as `Encoder` says; autocast reaches the network, never cameras and points.

        The point head does not run: depth and cameras give better points.
        """
        return self.geometry(images, self(images, with_points=False), intrinsics)

    def geometry(
        self, images: Float[Tensor, "B V 3 H W"], output: VGGTOutput, intrinsics: Float[Tensor, "B V 3 3"] | None = None
    ) -> Geometry:
        """Turn the raw predictions for `images` into cameras, depth, points and patch features."""
        assert output.depth is not None and output.depth_confidence is not None, "needs a depth head"
        assert output.features is not None
        size_hw = (images.shape[-2], images.shape[-1])
        with torch.autocast(images.device.type, enabled=False):
            poses, predicted = decode_pose(output.pose_encodings[-1].float(), size_hw)
            return geometry_of(
                output.features,
                output.depth.float(),
                output.depth_confidence.float(),
                Cameras(poses, predicted if intrinsics is None else intrinsics, size_hw),
            )

    def embed(self, images: Float[Tensor, "B V 3 H W"]) -> Embedding:
        """Embed every frame and add its special tokens."""
        grid_hw = self.patch_grid(images)
        return Embedding(self.aggregator.add_special_tokens(self.aggregator.embed_patches(images)), grid_hw)

    def patch_grid(self, images: Float[Tensor, "B V 3 H W"]) -> tuple[int, int]:
        """Rows and columns of patches; raises ValueError if the image sides are no multiples of a patch."""
        patch = self.config.patch_size
        height, width = images.shape[-2:]
        if height % patch or width % patch:
            raise ValueError(f"image sides must be multiples of {patch}, got {height}x{width}")
        return height // patch, width // patch

    def run_layers(
        self, embedding: Embedding, after_layer: LayerVisitor | None = None
    ) -> tuple[Float[Tensor, "B V P C"], Float[Tensor, "B V C2"]]:
        """Run all layers: the tokens of `config.dpt_layers` side by side, and the last layer's camera tokens.

        Of each layer there is the frame block's output, then the global block's.
        """
        tokens, grid_hw = embedding.tokens, embedding.grid_hw
        del embedding  # its tokens are not needed after the first layer
        kept, camera_tokens = KeptTokens(self.config.dpt_layers), []
        for index in range(self.config.depth):
            camera_tokens = []
            for half, mix in enumerate((self.aggregator.mix_frames, self.aggregator.mix_scenes)):
                tokens = mix(index, tokens, grid_hw)
                kept.add(index, half, tokens)
                camera_tokens.append(tokens[:, :, 0])
            if after_layer is not None:
                after_layer(index, tokens)
        return kept.joined(), torch.cat(camera_tokens, dim=-1)

    def predict_poses(self, camera_tokens: Float[Tensor, "B V C"]) -> tuple[Float[Tensor, "B V 9"], ...]:
        """Pose encodings of every camera-head iteration, in float32."""
        with torch.autocast(camera_tokens.device.type, enabled=False):
            return self.camera_head(camera_tokens.float())

    def patch_features(self, kept: Float[Tensor, "B V P C"], size_hw: tuple[int, int]) -> Float[Tensor, "B V C h w"]:
        """Frame and global halves of every kept layer, per patch: a view of the tokens if they are float32."""
        patches = kept[:, :, self.config.num_special :].float()
        return rearrange(patches, "b v (h w) c -> b v c h w", h=size_hw[0] // self.config.patch_size)

    @property
    def fast(self) -> bool:
        """Whether attention among many photos is approximate (see `merging`); may be set, for inference."""
        return self.aggregator.fast

    @fast.setter
    def fast(self, value: bool) -> None:
        self.aggregator.fast = value

    def hold_in_half(self) -> VGGT:
        """Hold the matrices of the trunk in bfloat16, for inference: it runs under autocast from now on.

        The results are those of autocast with float32 weights; norms, residuals, heads and cameras stay float32.
        """
        for module in self.aggregator.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.to(torch.bfloat16)
        self.in_half = True
        return self

    def _trunk_precision(self, device: torch.device) -> contextlib.AbstractContextManager[Any]:
        return autocast("bf16", device) if self.in_half else contextlib.nullcontext()

    def freeze(self) -> VGGT:
        """Use as a fixed encoder: no gradients, and evaluation mode that `train()` does not leave."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> VGGT:
        """Train all parameters again in float32, those included that no output depends on."""
        self.frozen = False
        widen(self)
        self.requires_grad_(True)
        return self.train()

    def train(self, mode: bool = True) -> VGGT:
        """Set the training mode, unless frozen."""
        return super().train(mode and not self.frozen)

    def _run_head(
        self, head: DPTHead | None, layers: Sequence[Tensor], size_hw: tuple[int, int]
    ) -> Float[Tensor, "B V D H W"] | None:
        """Raw maps of a dense head in float32; None without the head."""
        if head is None:
            return None
        with torch.autocast(layers[0].device.type, enabled=False):
            return run_in_chunks(head, layers, size_hw, self.config.dpt_chunk)
