"""The stage before token groups: a VGGT is adapted to the data by rendering pixel-aligned Gaussians (arXiv 2606.29513).

VGGT's own losses stay on beside the rendering, so that the encoder is adapted and not destroyed. What is exported is
the encoder alone; the head that made the Gaussians has done its work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tokengroups.data.example import Example, stack_examples
from tokengroups.data.stream import ExampleConfig, ExampleStream, held_out_examples
from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.evaluation.evaluate import nearest_view_psnr
from tokengroups.losses.geometry import GeometryLossWeights
from tokengroups.losses.perceptual import LpipsConfig, build_lpips
from tokengroups.losses.photometric import mse, psnr
from tokengroups.render import render
from tokengroups.systems.pixel_gaussians.head import (
    PixelGaussians,
    PixelGaussiansConfig,
    PixelGaussiansOutput,
)
from tokengroups.systems.token_groups.objective import supervision_cameras
from tokengroups.systems.weights import load_encoder, save_encoder
from tokengroups.training.config import TrainingConfig
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.training.task import LossTerms, autocast
from tokengroups.training.tasks.geometry import answer_metrics, freeze_unused, scene_losses, summarise_answers

TRUNK = ("aggregator", "matching")  # what `encoder_lr_scale` slows down; the encoder's other parts are heads
MUON = ("aggregator", "camera_head")  # as in the geometry task
ENCODER = "encoder."


@dataclass(frozen=True)
class PixelGaussiansLossWeights:
    """Weights of the objective, beside 1 for the MSE of the rendered views."""

    lpips: float = 0.05
    geometry: float = 1.0  # of VGGT's losses on the photos; 0 = rendering alone, which teaches no confidences
    terms: GeometryLossWeights = field(default_factory=GeometryLossWeights)  # inside VGGT's losses

    def __post_init__(self) -> None:
        """Refuse negative weights."""
        if min(self.lpips, self.geometry) < 0:
            raise ValueError(f"losses: lpips and geometry must be >= 0, got {self.lpips} and {self.geometry}")


@dataclass(frozen=True)
class PixelGaussiansExperiment:
    """A configuration file with ``task: pixel_gaussians``."""

    training: TrainingConfig
    data: ExampleConfig
    start_from: str = (
        "vggt_tiny"  # shipped name, weight folder, or the published VGGT-1B (file, folder or hub id)
    )
    encoder_lr_scale: float = 0.1  # learning rate of the encoder's trunk over that of its heads
    gaussians_lr_scale: float = 1.0  # of the new head, likewise
    model: PixelGaussiansConfig = field(default_factory=PixelGaussiansConfig)
    losses: PixelGaussiansLossWeights = field(default_factory=PixelGaussiansLossWeights)
    perceptual: LpipsConfig = field(default_factory=LpipsConfig)

    def __post_init__(self) -> None:
        """Refuse learning rates that cannot be."""
        for name in ("encoder_lr_scale", "gaussians_lr_scale"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class PixelGaussiansTask:
    """See `tokengroups.training.task.Task`."""

    def __init__(self, experiment: PixelGaussiansExperiment) -> None:
        torch.manual_seed(experiment.training.seed)
        self.experiment = experiment
        training = experiment.training
        self.examples = ExampleStream(experiment.data, training.seed, training.batch_size)
        self.model = PixelGaussians(load_encoder(experiment.start_from), experiment.model)
        freeze_without_loss(self.model.encoder, experiment.losses)
        self.perceptual = build_lpips(experiment.perceptual, experiment.losses.lpips)

    def batch(self, step: int, slots: range) -> Example:
        """Examples of some slots."""
        return self.examples.batch(step, slots)

    def losses(self, batch: Example, step: int) -> LossTerms:
        """Rendered target views against the true ones, and VGGT's losses on the photos."""
        del step
        weights, photos = self.experiment.losses, batch.targets.images
        with autocast(self.experiment.training.precision, batch.context.images.device):
            output = self.model(batch.context.images)
        rendered = render_targets(output, batch)
        total = mse(rendered, photos).mean()
        terms = {"mse": total}
        if self.perceptual is not None:
            self.perceptual.to(photos.device)
            terms["lpips"] = self.perceptual(rendered.flatten(0, 1), photos.flatten(0, 1)).mean()
            total = total + weights.lpips * terms["lpips"]
        with torch.set_grad_enabled(torch.is_grad_enabled() and weights.geometry > 0):
            geometry = scene_losses(output.encoded, batch.context, weights.terms)
        if weights.geometry > 0:
            total = total + weights.geometry * geometry.total
        return LossTerms(total, terms | {"geometry": geometry.total} | dict(geometry.terms))

    def evaluate(self) -> dict[str, float]:
        """Geometry metrics, matching accuracy, and PSNR of held-out views beside that of the nearest photo."""
        device = next(self.model.parameters()).device
        answers, rendered_psnr, nearest_psnr = [], [], []
        for example in held_out_examples(self.experiment.data):
            batch = stack_examples([example]).to(device)
            output = self.model(batch.context.images)
            answers.append(answer_metrics(output.encoded, batch.context))
            images = render_targets(output, batch).clamp(0, 1)
            rendered_psnr.append(float(psnr(images, batch.targets.images).mean()))
            nearest_psnr.append(nearest_view_psnr(example.context, example.targets))
        numbers = {
            "psnr": float(np.mean(rendered_psnr)),
            "psnr_nearest_view": float(np.mean(nearest_psnr)),
        }
        return numbers | summarise_answers(answers)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices alone, a slower trunk; Muon, if chosen, where the geometry task has it."""
        training, scale = self.experiment.training, self.experiment.encoder_lr_scale
        groups = decay_groups(self.model.head, training.weight_decay, self.experiment.gaussians_lr_scale)
        for name, part in self.model.encoder.named_children():
            hidden = [part] if training.optimizer == "muon" and name in MUON else []
            groups += decay_groups(part, training.weight_decay, scale if name in TRUNK else 1.0, hidden)
        return groups

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write an encoder's weight folder, without the auxiliary head."""
        encoder = {
            name.removeprefix(ENCODER): tensor for name, tensor in state.items() if name.startswith(ENCODER)
        }
        save_encoder(folder, encoder, self.model.encoder.config)


def render_targets(output: PixelGaussiansOutput, batch: Example) -> Float[Tensor, "B V 3 H W"]:
    """The target views in float32, from their true cameras in the predicted world: first camera and one scale.

    The scale is a given: through its median all of a scene's gradient would fall on one pixel.
    """
    cameras = supervision_cameras(batch.targets, batch.context, output.geometry.points.detach())
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


def build_task(experiment: PixelGaussiansExperiment) -> PixelGaussiansTask:
    """The task of a configuration.

    Raises:
        UserError: Paths too short for the views asked for, photos that the encoder's patches do not divide, or weights
            that cannot be loaded.
    """
    task = PixelGaussiansTask(experiment)
    patch, size = task.model.encoder.config.patch_size, experiment.data.size
    if size % patch or size % experiment.model.stride:
        raise UserError(
            f"data.size must be a multiple of the encoder's patch size {patch} "
            f"and of model.stride {experiment.model.stride}, got {size}"
        )
    return task


EXPERIMENT = PixelGaussiansExperiment
