"""The stage that gives a small encoder its perspective network: single photos of rooms, their cameras and surfaces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tokengroups.data.augment import collate
from tokengroups.data.stream import DataConfig, PathStream, held_out_paths
from tokengroups.encoders.vggt import VGGTConfig
from tokengroups.encoders.vggt_tiny.single_view import REACHES, PerspectiveNetwork
from tokengroups.errors import UserError
from tokengroups.losses.single_view import (
    PerspectiveLossWeights,
    perspective_losses,
    perspective_targets,
    same_object_loss,
    with_same_object,
)
from tokengroups.systems.weights import load_encoder, save_encoder
from tokengroups.training.config import TrainingConfig
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.training.task import LossTerms, autocast
from tokengroups.types import PerspectiveCues, Views

SCENE = 4  # what is drawn: keeps the random streams of one seed apart
EVALUATION_PATH = 5  # frames of a held-out room, all of them looked at


@dataclass(frozen=True)
class PerspectiveDataConfig(DataConfig):
    """How a room's frames become training photos."""

    photos_per_room: int = 2


@dataclass(frozen=True)
class PerspectiveConfig:
    """Shape of the network; see `PerspectiveNetwork`."""

    channels: tuple[int, ...] = (24, 48, 96, 192)
    depth: int = 3
    details: int = 0  # a network that goes on gets them if it has none

    def __post_init__(self) -> None:
        """Refuse what the encoder's configuration refuses, and no network at all."""
        if not self.channels:
            raise ValueError("model.channels must not be empty")
        self.written_into(VGGTConfig())

    def written_into(self, config: VGGTConfig) -> VGGTConfig:
        """The configuration of an encoder with such a network."""
        return replace(
            config,
            perspective_channels=self.channels,
            perspective_depth=self.depth,
            perspective_details=self.details,
        )


@dataclass(frozen=True)
class PerspectiveExperiment:
    """A configuration file with ``task: perspective``."""

    training: TrainingConfig
    data: PerspectiveDataConfig
    encoder: str = "vggt_tiny"  # shipped name or weight folder of the VGGT that gets the network
    go_on: bool = False  # train the network that this encoder has further, instead of a new one (`model`)
    model: PerspectiveConfig = field(default_factory=PerspectiveConfig)
    losses: PerspectiveLossWeights = field(default_factory=PerspectiveLossWeights)


class PerspectiveTask:
    """See `tokengroups.training.task.Task`."""

    def __init__(self, experiment: PerspectiveExperiment) -> None:
        torch.manual_seed(experiment.training.seed)
        self.experiment = experiment
        self.encoder = load_encoder(experiment.encoder)
        self.shape = experiment.model
        if experiment.go_on:
            self.shape = self._shape_to_go_on_with()
        self.model = PerspectiveNetwork(self.shape.channels, self.shape.depth, self.shape.details)
        if experiment.go_on:
            assert self.encoder.perspective is not None
            self.model.load_state_dict(self.model.state_dict() | self.encoder.perspective.state_dict())
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] # as the photos
        self.stream = PathStream(experiment.data, experiment.training.seed)

    def _shape_to_go_on_with(self) -> PerspectiveConfig:
        """The encoder's network's, with the details that were asked for if it has none."""
        if self.encoder.perspective is None:
            raise UserError(f"encoder: {self.experiment.encoder} has no perspective network to go on with")
        config = self.encoder.config
        details = config.perspective_details or self.experiment.model.details
        return PerspectiveConfig(config.perspective_channels, config.perspective_depth, details)

    def batch(self, step: int, slots: range) -> Views:
        """Some photos of a room for every slot."""
        return collate([self.scene(step, slot) for slot in slots])

    def scene(self, step: int, slot: int) -> Views:
        """Augmented photos of one room."""
        data, training = self.experiment.data, self.experiment.training
        rng = np.random.default_rng([SCENE, training.seed, step, slot])
        path = self.stream.path(step * training.batch_size + slot)
        frames = rng.choice(data.num_frames, data.photos_per_room, replace=False)
        return self.stream.augment(path.views.select([int(frame) for frame in frames]), rng)

    def losses(self, batch: Views, step: int) -> LossTerms:
        """Every photo by itself."""
        del step
        with autocast(self.experiment.training.precision, batch.images.device):
            cues = self.model(batch.images.flatten(0, 1))
        weights = self.experiment.losses
        losses = perspective_losses(cues, perspective_targets(batch, cues.log_depth.shape[-1]), weights)
        if cues.same_object is not None:
            losses = with_same_object(losses, cues.same_object, batch.group_ids, REACHES, weights.same_object)
        terms = {name: value for name, value in vars(losses).items() if name != "total" and value is not None}
        return LossTerms(losses.total, terms)

    def evaluate(self) -> dict[str, float]:
        """Mean errors on held-out rooms; `focal_of_room` is that of the mean over a room's photos."""
        device = next(self.model.parameters()).device
        rows = []
        for path in held_out_paths(self.experiment.data, EVALUATION_PATH):
            views = collate([path.views]).to(device)
            rows.append(cue_errors(self.model(views.images.flatten(0, 1)), views))
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices alone; Muon, if chosen, for the transformer's layers."""
        training = self.experiment.training
        hidden = [self.model.blocks] if training.optimizer == "muon" else []
        return decay_groups(self.model, training.weight_decay, hidden=hidden)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write the whole encoder's weight folder, the network in it."""
        config = self.shape.written_into(self.encoder.config)
        kept = {
            name: tensor
            for name, tensor in self.encoder.state_dict().items()
            if not name.startswith("perspective.")
        }
        save_encoder(folder, kept | {f"perspective.{name}": tensor for name, tensor in state.items()}, config)


def cue_errors(cues: PerspectiveCues, views: Views) -> dict[str, float]:
    """How far the cues of one room's photos are off: focal lengths by their logarithm, directions in degrees."""
    targets = perspective_targets(views, cues.log_depth.shape[-1])
    off = cues.log_focal - targets.log_focal
    tilt = functional.cosine_similarity(cues.up, targets.up, dim=-1).clamp(-1, 1).acos()
    turn = functional.cosine_similarity(cues.normals, targets.normals, dim=1).clamp(-1, 1).acos()
    numbers = {
        "focal": float(off.abs().mean()),
        "focal_of_room": float(off.mean().abs()),
        "focal_expected": float(cues.deviation.mean()),
        "up_deg": math.degrees(tilt.mean()),
        "normals_deg": math.degrees(turn[targets.valid].mean()),
    }
    if cues.same_object is not None:
        loss = same_object_loss(cues.same_object, views.group_ids.flatten(0, -3), REACHES)
        numbers["same_object"] = float(loss)
    return numbers


def build_task(experiment: PerspectiveExperiment) -> PerspectiveTask:
    """The task of a configuration.

    Raises:
        UserError: More photos a room than its path has, or an encoder that cannot be loaded or has no network to go
            on with.
    """
    data = experiment.data
    if not 1 <= data.photos_per_room <= data.num_frames:
        raise UserError(
            f"data: need 1 <= photos_per_room <= num_frames, got {data.photos_per_room} and {data.num_frames}"
        )
    return PerspectiveTask(experiment)


EXPERIMENT = PerspectiveExperiment
