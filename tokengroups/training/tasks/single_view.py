"""Training task of the tiny encoder's single-view network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tokengroups.bounds import Channels, ChannelsOrNone, Layers, NumFrames, Settings
from tokengroups.data.augment import collate
from tokengroups.data.stream import DataConfig, PathStream, held_out_views
from tokengroups.encoders.vggt_tiny import SingleViewNetwork, SingleViewPrediction, VGGTTiny, VGGTTinyConfig
from tokengroups.encoders.vggt_tiny.model import with_single_view
from tokengroups.encoders.weights import load_vggt, save_encoder
from tokengroups.errors import UserError
from tokengroups.losses.single_view import (
    SingleViewLossWeights,
    pair_affinity_loss,
    single_view_losses,
    single_view_targets,
)
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import autocast
from tokengroups.training.config import TrainingConfig
from tokengroups.types import Views

SCENE = 4  # what is drawn: keeps the random streams of one seed apart
EVALUATION_PATH = 5  # frames of a held-out room, all evaluated


@dataclass(frozen=True)
class SingleViewDataConfig(DataConfig):
    """Training photos, chosen from the frames of a path."""

    photos_per_room: NumFrames = 2

    def __post_init__(self) -> None:
        """Refuse more photos than a path has."""
        super().__post_init__()
        if not 1 <= self.photos_per_room <= self.num_frames:
            counts = f"{self.photos_per_room} and {self.num_frames}"
            raise ValueError(f"data: need 1 <= photos_per_room <= num_frames, got {counts}")


@dataclass(frozen=True)
class SingleViewConfig(Settings):
    """Shape of the network; see `SingleViewNetwork`."""

    channels: tuple[Channels, ...] = (24, 48, 96, 192)
    depth: Layers = 3
    details: ChannelsOrNone = 0  # channels of the detail map; a resumed network without one gets it

    def __post_init__(self) -> None:
        """Refuse an empty network, and shapes that the encoder's configuration refuses."""
        super().__post_init__()
        if not self.channels:
            raise ValueError("model.channels must not be empty")
        with_single_view(VGGTTinyConfig(), self.channels, self.depth, self.details)


@dataclass(frozen=True)
class SingleViewExperiment:
    """A configuration file with ``task: single_view``."""

    training: TrainingConfig
    data: SingleViewDataConfig
    encoder: str = "vggt_tiny"  # shipped name or weight folder of the VGGT that gets the network
    resume_network: bool = False  # train the encoder's own single-view network further, instead of a new one (`model`)
    model: SingleViewConfig = field(default_factory=SingleViewConfig)
    losses: SingleViewLossWeights = field(default_factory=SingleViewLossWeights)


class SingleViewTask:
    """Training of the tiny encoder's single-view network; a `tokengroups.training.task.Task`.

    Raises:
        UserError: An encoder that cannot be loaded, or that has no network to resume.
    """

    settings_class = SingleViewExperiment

    def __init__(self, experiment: SingleViewExperiment) -> None:
        torch.manual_seed(experiment.training.seed)
        self.experiment = experiment
        encoder = load_vggt(experiment.encoder)
        if not isinstance(encoder, VGGTTiny):
            raise UserError(f"encoder: {experiment.encoder} is no vggt_tiny, which alone has a single-view network")
        self.encoder = encoder
        self.shape = experiment.model
        if experiment.resume_network:
            self.shape = self._resumed_shape()
        self.model = SingleViewNetwork(self.shape.channels, self.shape.depth, self.shape.details)
        if experiment.resume_network:
            assert self.encoder.single_view is not None
            self.model.load_state_dict(self.model.state_dict() | self.encoder.single_view.state_dict())
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] # as the photos
        self.stream = PathStream(experiment.data, experiment.training.seed)

    def _resumed_shape(self) -> SingleViewConfig:
        """Shape of the encoder's network, with a detail map as configured if it has none."""
        if self.encoder.single_view is None:
            raise UserError(f"encoder: {self.experiment.encoder} has no single-view network to resume")
        config = self.encoder.config
        details = config.single_view_details or self.experiment.model.details
        return SingleViewConfig(config.single_view_channels, config.single_view_depth, details)

    def batch(self, step: int, slots: range) -> Views:
        """Draw some photos of a room for every slot."""
        return collate([self.scene(step, slot) for slot in slots])

    def scene(self, step: int, slot: int) -> Views:
        """Draw augmented photos of one room."""
        data, training = self.experiment.data, self.experiment.training
        rng = np.random.default_rng([SCENE, training.seed, step, slot])
        path = self.stream.path(step * training.batch_size + slot)
        frames = rng.choice(data.num_frames, data.photos_per_room, replace=False)
        return self.stream.views(path, frames.tolist(), self.stream.shape(step), rng)

    def losses(self, batch: Views, step: int) -> LossTerms:
        """Compute the losses of single photos."""
        del step
        with autocast(self.experiment.training.precision, batch.images.device):
            prediction = self.model(batch.images.flatten(0, 1))
        targets = single_view_targets(batch, prediction.log_depth.shape[-1])
        return single_view_losses(prediction, targets, self.experiment.losses)

    def evaluate(self) -> dict[str, float]:
        """Measure mean errors on held-out rooms."""
        device = next(self.model.parameters()).device
        rows = []
        for path in held_out_views(self.experiment.data, EVALUATION_PATH):
            views = collate([path]).to(device)
            rows.append(prediction_errors(self.model(views.images.flatten(0, 1)), views))
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices alone; Muon, if chosen, for the transformer's layers."""
        training = self.experiment.training
        hidden = [self.model.blocks] if training.optimizer == "muon" else []
        return decay_groups(self.model, training.weight_decay, hidden=hidden)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write the weight folder of the whole encoder with this network."""
        shape = self.shape
        config = with_single_view(self.encoder.config, shape.channels, shape.depth, shape.details)
        kept = {
            name: tensor for name, tensor in self.encoder.state_dict().items() if not name.startswith("single_view.")
        }
        save_encoder(folder, kept | {f"single_view.{name}": tensor for name, tensor in state.items()}, config)


def prediction_errors(prediction: SingleViewPrediction, views: Views) -> dict[str, float]:
    """Mean errors of the predictions for one room's photos.

    Errors of focal lengths are those of their logarithm; ``focal_of_room`` is the error of their mean.
    """
    targets = single_view_targets(views, prediction.log_depth.shape[-1])
    off = prediction.log_focal - targets.log_focal
    tilt = functional.cosine_similarity(prediction.up, targets.up, dim=-1).clamp(-1, 1).acos()
    turn = functional.cosine_similarity(prediction.normals, targets.normals, dim=1).clamp(-1, 1).acos()
    numbers = {
        "focal": float(off.abs().mean()),
        "focal_of_room": float(off.mean().abs()),
        "focal_expected": float(prediction.deviation.mean()),
        "up_deg": math.degrees(tilt.mean()),
        "normals_deg": math.degrees(turn[targets.valid].mean()),
    }
    if prediction.pair_affinity is not None:
        loss = pair_affinity_loss(prediction.pair_affinity, targets.group_ids)
        numbers["pair_affinity"] = float(loss)
    return numbers
