"""Pixel-aligned Gaussians as a system: rendering loss and VGGT's losses adapt an encoder; the encoder is exported.

VGGT's own losses stay on beside the rendering, so that the encoder is adapted and not destroyed. The head that made
the Gaussians is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.alignment import align_cameras
from tokengroups.bounds import Positive, Settings, Weight
from tokengroups.data.example import Example, stack_examples
from tokengroups.encoders import Geometry
from tokengroups.encoders.vggt import VGGT, VGGTOutput
from tokengroups.encoders.weights import freeze_unused, load_vggt, save_encoder
from tokengroups.evaluation.evaluate import nearest_view_psnr
from tokengroups.evaluation.geometry_metrics import encoder_metrics
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.evaluation.scene_numbers import summarise
from tokengroups.losses.encoder import EncoderLossWeights, encoder_losses
from tokengroups.losses.perceptual import LpipsConfig, build_lpips
from tokengroups.losses.photometric import mse, psnr
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import Precision, autocast
from tokengroups.render import render
from tokengroups.systems.pixel_gaussians.head import PixelGaussianHead, PixelGaussiansConfig
from tokengroups.types import Gaussians, TensorFields

TRUNK = ("aggregator", "matching")  # what `encoder_lr_scale` slows down; the encoder's other parts are heads
MUON = ("aggregator", "camera_head")  # as in the geometry task
ENCODER = "encoder."


@dataclass(frozen=True)
class PixelGaussiansLossWeights(Settings):
    """Weights of the objective, beside 1 for the MSE of the rendered views."""

    lpips: Weight = 0.05
    geometry: Weight = 1.0  # of VGGT's losses on the photos; 0 = rendering alone, which trains no confidences
    terms: EncoderLossWeights = field(default_factory=EncoderLossWeights)  # inside VGGT's losses


@dataclass(frozen=True)
class PixelGaussiansSettings(Settings):
    """The keys of a configuration with ``task: pixel_gaussians``, beside ``training`` and ``data``."""

    start_from: str = "vggt_tiny"  # shipped name, weight folder, or VGGT-1B (file, folder or hub id)
    encoder_lr_scale: Positive = 0.1  # learning rate of the encoder's trunk over that of its heads
    gaussians_lr_scale: Positive = 1.0  # of the new head, likewise
    model: PixelGaussiansConfig = field(default_factory=PixelGaussiansConfig)
    losses: PixelGaussiansLossWeights = field(default_factory=PixelGaussiansLossWeights)
    perceptual: LpipsConfig = field(default_factory=LpipsConfig)


@dataclass(frozen=True)
class PixelGaussiansOutput(TensorFields):
    """Predictions for a batch of photo sets, and the Gaussians on their points."""

    encoded: VGGTOutput
    geometry: Geometry  # with gradients
    gaussians: Gaussians  # batch axis B; views in order, cells row by row


class PixelGaussianNetwork(nn.Module):
    """An encoder and the auxiliary head, both trained.

    Args:
        encoder: A VGGT, frozen or not; it is unfrozen.
        config: Shape of the head.

    Raises:
        ValueError: The encoder has no depth head.
    """

    def __init__(self, encoder: VGGT, config: PixelGaussiansConfig) -> None:
        super().__init__()
        if not encoder.config.enable_depth:
            raise ValueError("pixel-aligned Gaussians need an encoder with a depth head")
        self.encoder = encoder.unfreeze()
        self.head = PixelGaussianHead(config, encoder.feature_dim)

    def forward(self, images: Float[Tensor, "B V 3 H W"]) -> PixelGaussiansOutput:
        """Predict Gaussians from photos in [0, 1]; autocast reaches the networks, never points and Gaussians."""
        encoded = self.encoder(images)
        geometry = self.encoder.geometry(images, encoded)
        return PixelGaussiansOutput(encoded, geometry, self.head(images, geometry))


class PixelGaussians:
    """The system; see `tokengroups.systems.System`."""

    settings_class = PixelGaussiansSettings

    def __init__(self, settings: PixelGaussiansSettings) -> None:
        self.settings = settings
        self.network = PixelGaussianNetwork(load_vggt(settings.start_from), settings.model)
        self.size_multiple = math.lcm(self.network.encoder.patch_size, settings.model.stride)
        freeze_without_loss(self.network.encoder, settings.losses)
        self.perceptual = build_lpips(settings.perceptual, settings.losses.lpips)

    @classmethod
    def for_training(cls, settings: PixelGaussiansSettings) -> PixelGaussians:
        """Build encoder, head and objective; raises UserError for weights that cannot be loaded."""
        return cls(settings)

    def losses(self, example: Example, step: int, precision: Precision) -> LossTerms:
        """Rendered target views against the true ones, and VGGT's losses on the photos."""
        del step
        weights, photos = self.settings.losses, example.targets.images
        with autocast(precision, example.context.images.device):
            output = self.network(example.context.images)
        rendered = render_targets(output, example)
        total = mse(rendered, photos).mean()
        terms = {"mse": total}
        if self.perceptual is not None:
            self.perceptual.to(photos.device)
            terms["lpips"] = self.perceptual(rendered.flatten(0, 1), photos.flatten(0, 1)).mean()
            total = total + weights.lpips * terms["lpips"]
        with torch.set_grad_enabled(torch.is_grad_enabled() and weights.geometry > 0):
            geometry = encoder_losses(output.encoded, example.context, weights.terms)
        if weights.geometry > 0:
            total = total + weights.geometry * geometry.total
        return LossTerms(total, terms | {"geometry": geometry.total} | dict(geometry.terms))

    def evaluate(self, examples: Iterable[Example], data: EvaluationData) -> dict[str, float]:
        """Geometry metrics, matching accuracy, and PSNR of held-out views beside that of the nearest photo."""
        del data
        device = next(self.network.parameters()).device
        scenes = []
        for example in examples:
            batch = stack_examples([example]).to(device)
            output = self.network(batch.context.images)
            images = render_targets(output, batch).clamp(0, 1)
            quality = {
                "psnr": float(psnr(images, batch.targets.images).mean()),
                "psnr_nearest_view": nearest_view_psnr(example.context, example.targets),
            }
            scenes.append(quality | encoder_metrics(output.geometry, batch.context))
        return summarise(scenes)

    def parameter_groups(self, weight_decay: float, muon: bool) -> list[dict[str, Any]]:
        """Weight decay on matrices alone, a slower trunk; Muon, if chosen, where the geometry task has it."""
        scale = self.settings.encoder_lr_scale
        groups = decay_groups(self.network.head, weight_decay, self.settings.gaussians_lr_scale)
        for name, part in self.network.encoder.named_children():
            hidden = [part] if muon and name in MUON else []
            groups += decay_groups(part, weight_decay, scale if name in TRUNK else 1.0, hidden)
        return groups

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write an encoder's weight folder, without the auxiliary head."""
        encoder = {name.removeprefix(ENCODER): tensor for name, tensor in state.items() if name.startswith(ENCODER)}
        save_encoder(folder, encoder, self.network.encoder.config)


def render_targets(output: PixelGaussiansOutput, example: Example) -> Float[Tensor, "B V 3 H W"]:
    """Render the target views in float32, from their true cameras in the predicted world.

    The scale is detached: a median passes its gradient to a single pixel.
    """
    cameras, _ = align_cameras(example.targets.cameras, example.context, output.geometry.points.detach())
    rendered = render(output.gaussians, cameras.cam_from_world, cameras.intrinsics, cameras.size_hw)
    return rearrange(rendered.colors, "b v h w c -> b v c h w")


def freeze_without_loss(encoder: VGGT, weights: PixelGaussiansLossWeights) -> None:
    """Freeze what no loss depends on: processes would wait for its gradients, and weight decay wear it away."""
    freeze_unused(encoder)
    if encoder.point_head is not None and weights.geometry * weights.terms.points == 0:
        encoder.point_head.requires_grad_(False)
    if weights.geometry == 0 and encoder.config.camera_iterations > 1:
        # Only the first iteration sees them, and only the last one places the Gaussians.
        encoder.camera_head.empty_pose_tokens.requires_grad_(False)
