"""VGGT: aggregator, camera head, depth head and point head put together."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.encoders.vggt.aggregator import Aggregator
from tokengroups.encoders.vggt.camera_head import CameraHead
from tokengroups.encoders.vggt.config import VGGTConfig
from tokengroups.encoders.vggt.dpt_head import DPTHead
from tokengroups.encoders.vggt_tiny.cell_matching import CellMatching
from tokengroups.encoders.vggt_tiny.single_view import PerspectiveNetwork
from tokengroups.nn import init_transformer_weights
from tokengroups.types import EncoderOutput, PerspectiveCues

DEPTH_CHANNELS = 1
POINT_CHANNELS = 3


@dataclass(frozen=True)
class Embedding:
    """What enters the trunk."""

    tokens: Float[Tensor, "B V P C"]  # camera token, registers, patches in row-major order
    grid_hw: tuple[int, int]  # rows and columns of patches
    stem_maps: tuple[Float[Tensor, "N _ _ _"], ...] = ()  # of the convolutional stem, N = B * V
    cell_descriptors: Float[Tensor, "B V Q D"] | None = None


class VGGT(nn.Module):
    """Photos of one place, in any order, to cameras, depth and points in the world of the first camera.

    Parameters have the official names; options that are off in the official model have names of their own.
    """

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        self.config = config
        self.frozen = False
        self.aggregator = Aggregator(config)
        self.camera_head = CameraHead(config)
        self.point_head = DPTHead(config, POINT_CHANNELS + 1) if config.enable_point else None
        self.depth_head = DPTHead(config, DEPTH_CHANNELS + 1) if config.enable_depth else None
        self.matching = CellMatching(config) if config.matching else None
        self.perspective = None
        if config.perspective_channels:
            self.perspective = PerspectiveNetwork(
                config.perspective_channels, config.perspective_depth, config.perspective_details
            )
        init_transformer_weights(self)
        self.camera_head.init_weights()

    def forward(self, images: Float[Tensor, "B V 3 H W"]) -> EncoderOutput:
        """Encode photo sets.

        Args:
            images: In [0, 1]; H and W multiples of the patch size.

        Returns:
            Tokens of `config.dpt_layers` (frame block's output, then global block's), pose encodings of every
            camera iteration, and the outputs of the enabled heads. Depths and points share one free scale.
        """
        embedding, layers, camera_tokens = self._trunk(images)
        with torch.autocast(images.device.type, enabled=False):
            pose_encodings = self.camera_head(camera_tokens.float())
        size_hw = (images.shape[-2], images.shape[-1])
        depth, depth_confidence = self.predict_depth(layers, size_hw, embedding.stem_maps)
        points, points_confidence = self.predict_points(layers, size_hw, embedding.stem_maps)
        return EncoderOutput(
            tokens=layers,
            pose_encodings=pose_encodings,
            depth=depth,
            depth_confidence=depth_confidence,
            points=points,
            points_confidence=points_confidence,
            cell_descriptors=embedding.cell_descriptors,
            perspective=self.look_at_perspective(images),
        )

    def kept_tokens(self, images: Float[Tensor, "B V 3 H W"]) -> tuple[Float[Tensor, "B V P C"], ...]:
        """`EncoderOutput.tokens` alone, for those who need no head's answer."""
        return self._trunk(images)[1]

    def _trunk(
        self, images: Float[Tensor, "B V 3 H W"]
    ) -> tuple[Embedding, tuple[Float[Tensor, "B V P C"], ...], Float[Tensor, "B V C"]]:
        """What enters, the tokens of `config.dpt_layers`, and the camera tokens."""
        embedding = self.embed(images)
        tokens, kept, camera_tokens = embedding.tokens, {}, None
        for index in range(self.config.depth):
            in_frames, tokens = self.layer(index, tokens, embedding.grid_hw)
            if index in self.config.dpt_layers:
                kept[index] = torch.cat([in_frames, tokens], dim=-1)
            if index == self.config.depth - 1:
                camera_tokens = torch.cat([in_frames[:, :, 0], tokens[:, :, 0]], dim=-1)
        assert camera_tokens is not None
        return embedding, tuple(kept[index] for index in self.config.dpt_layers), camera_tokens

    def embed(self, images: Float[Tensor, "B V 3 H W"]) -> Embedding:
        """Embed every frame; with `matching`, the patches already know where they moved since view 0."""
        patch = self.config.patch_size
        height, width = images.shape[-2:]
        if height % patch or width % patch:
            raise ValueError(f"image sides must be multiples of {patch}, got {height}x{width}")
        grid_hw = (height // patch, width // patch)
        patches, stem_maps = self.aggregator.embed_patches(images)
        patches = rearrange(patches, "(b v) p c -> b v p c", v=images.shape[1])
        descriptors = None
        if self.matching is not None:
            descriptors, patches = self.matching(patches, stem_maps[self.matching.stage], grid_hw)
        tokens = self.aggregator.add_special_tokens(patches)
        return Embedding(tokens, grid_hw, stem_maps, descriptors)

    def layer(
        self, index: int, tokens: Float[Tensor, "B V P C"], grid_hw: tuple[int, int]
    ) -> tuple[Float[Tensor, "B V P C"], Float[Tensor, "B V P C"]]:
        """Frame block and global block `index`: both outputs; the second is the next layer's input."""
        return self.aggregator.layer(index, tokens, grid_hw)

    def predict_depth(
        self, layers: tuple[Tensor, ...], size_hw: tuple[int, int], stem_maps: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "B V H W"] | None, Float[Tensor, "B V H W"] | None]:
        """Depth = exp(raw), confidence = 1 + exp(raw); None without a depth head."""
        if self.depth_head is None:
            return None, None
        raw = self._run_head(self.depth_head, layers, size_hw, stem_maps)
        return raw[:, :, 0].exp(), 1 + raw[:, :, 1].exp()

    def predict_points(
        self, layers: tuple[Tensor, ...], size_hw: tuple[int, int], stem_maps: tuple[Tensor, ...]
    ) -> tuple[Float[Tensor, "B V H W 3"] | None, Float[Tensor, "B V H W"] | None]:
        """Points = sign(raw) (exp|raw| - 1), confidence = 1 + exp(raw); None without a point head."""
        if self.point_head is None:
            return None, None
        raw = self._run_head(self.point_head, layers, size_hw, stem_maps)
        xyz = rearrange(raw[:, :, :POINT_CHANNELS], "b v c h w -> b v h w c")
        return xyz.sign() * xyz.abs().expm1(), 1 + raw[:, :, POINT_CHANNELS].exp()

    def look_at_perspective(self, images: Float[Tensor, "B V 3 H W"]) -> PerspectiveCues | None:
        """What every photo tells by itself; None without that network, and in the training of the others."""
        if self.perspective is None or self.training:
            return None
        cues = self.perspective(images.flatten(0, 1))
        return cues.map(lambda tensor: tensor.unflatten(0, images.shape[:2]))

    def freeze(self) -> VGGT:
        """Use as a fixed encoder: no gradients, and evaluation mode that `train()` does not leave."""
        self.frozen = True
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> VGGT:
        """Train all parameters again, those included that no output depends on."""
        self.frozen = False
        self.requires_grad_(True)
        return self.train()

    def train(self, mode: bool = True) -> VGGT:
        """Set the training mode, unless frozen."""
        return super().train(mode and not self.frozen)

    def _run_head(
        self,
        head: DPTHead,
        layers: tuple[Tensor, ...],
        size_hw: tuple[int, int],
        stem_maps: tuple[Tensor, ...],
    ) -> Float[Tensor, "B V D H W"]:
        """Raw maps in float32; without gradients a few frames at a time, so that memory stays bounded."""
        batch, views = layers[0].shape[:2]
        frames = [layer.flatten(0, 1) for layer in layers]
        step = batch * views if torch.is_grad_enabled() else self.config.dpt_chunk
        context: AbstractContextManager[object] = nullcontext()
        if not self.config.heads_autocast:
            context = torch.autocast(layers[0].device.type, enabled=False)
            stem_maps = tuple(x.float() for x in stem_maps)
        with context:
            chunks = []
            for start in range(0, batch * views, step):
                at = slice(start, start + step)
                chunks.append(head([x[at] for x in frames], size_hw, [x[at] for x in stem_maps]).float())
        return torch.cat(chunks).unflatten(0, (batch, views))
