"""Training task of a geometry encoder, with VGGT's losses and, where it matches cells, the matching loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokengroups.bounds import NumFrames
from tokengroups.checkpoint import find_weights, load_state_strict, load_weights
from tokengroups.config import build_config, config_to_dict
from tokengroups.data.augment import collate
from tokengroups.data.stream import DataConfig, PathStream, draw_frames, held_out_views
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.weights import ENCODERS, freeze_unused, save_encoder
from tokengroups.errors import UserError
from tokengroups.evaluation.geometry_metrics import encoder_metrics
from tokengroups.evaluation.scene_numbers import summarise
from tokengroups.losses.encoder import EncoderLossWeights, encoder_losses
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import autocast
from tokengroups.training.config import TrainingConfig
from tokengroups.types import Views

FRAME_COUNT, SCENE = range(2)  # what is drawn: keeps the random streams of one seed apart
EVALUATION_PATH = 5  # frames; two of them are the photos, as in `tokengroups evaluate --views 2`
EVALUATION_CONTEXT = (1, 3)
SINGLE_VIEW_KEYS = "single_view_"


@dataclass(frozen=True)
class GeometryDataConfig(DataConfig):
    """Frames of a training scene, chosen from those of a path."""

    min_frames: NumFrames = 2  # of a training scene: one draw a step, so that all processes take equally long
    max_frames: NumFrames = 4
    max_gap: NumFrames = 3  # frames of the path between neighbours of a training scene

    def __post_init__(self) -> None:
        """Refuse frame counts that a path cannot give."""
        super().__post_init__()
        if not 1 <= self.min_frames <= self.max_frames <= self.num_frames:
            counts = f"{self.min_frames}, {self.max_frames}, {self.num_frames}"
            raise ValueError(f"data: need 1 <= min_frames <= max_frames <= num_frames, got {counts}")


@dataclass(frozen=True)
class GeometryExperiment:
    """A configuration file with ``task: geometry``."""

    training: TrainingConfig
    data: GeometryDataConfig
    architecture: str = "vggt_tiny"  # or vggt
    model: dict[str, Any] = field(default_factory=dict)  # fields of the architecture's configuration
    losses: EncoderLossWeights = field(default_factory=EncoderLossWeights)
    start_from: str | None = None  # shipped name or weight folder of the same architecture to start from


class GeometryTask:
    """Training of an encoder; a `tokengroups.training.task.Task`.

    Raises:
        UserError: An unknown architecture, or weights to start from that do not fit.
    """

    settings_class = GeometryExperiment

    def __init__(self, experiment: GeometryExperiment) -> None:
        torch.manual_seed(experiment.training.seed)
        self.experiment = experiment
        self.model = _build(experiment)
        freeze_unused(self.model)
        self.stream = PathStream(experiment.data, experiment.training.seed, self.model.config.patch_size)

    def batch(self, step: int, slots: range) -> Views:
        """Draw the scenes of some slots; the number of frames is the same in all slots of a step."""
        data, seed = self.experiment.data, self.experiment.training.seed
        rng = np.random.default_rng([FRAME_COUNT, seed, step])
        num_frames = int(rng.integers(data.min_frames, data.max_frames + 1))
        return collate([self.scene(step, slot, num_frames) for slot in slots])

    def scene(self, step: int, slot: int, num_frames: int) -> Views:
        """Draw one augmented training scene."""
        data, training = self.experiment.data, self.experiment.training
        rng = np.random.default_rng([SCENE, training.seed, step, slot])
        path = self.stream.path(step * training.batch_size + slot)
        frames = draw_frames(rng, data.num_frames, num_frames, data.max_gap)
        return self.stream.views(path, frames, self.stream.shape(step), rng)

    def losses(self, batch: Views, step: int) -> LossTerms:
        """Compute the encoder's objective, scene by scene."""
        del step
        with autocast(self.experiment.training.precision, batch.images.device):
            output = self.model(batch.images)
        return encoder_losses(output, batch, self.experiment.losses)

    def evaluate(self) -> dict[str, float]:
        """Measure geometry (one scale a scene) and matching accuracy on two views of every held-out scene."""
        device = next(self.model.parameters()).device
        scenes = []
        for path in held_out_views(self.experiment.data, EVALUATION_PATH):
            views = collate([path.select(list(EVALUATION_CONTEXT))]).to(device)
            scenes.append(encoder_metrics(self.model.encode(views.images), views))
        return summarise(scenes)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices alone; Muon, if chosen, for the aggregator's and the camera head's layers."""
        training, model = self.experiment.training, self.model
        hidden = [model.aggregator, model.camera_head] if training.optimizer == "muon" else []
        return decay_groups(model, training.weight_decay, hidden=hidden)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write an encoder's weight folder."""
        save_encoder(folder, state, self.model.config)


def _build(experiment: GeometryExperiment) -> VGGT:
    """Build the encoder with the given start weights; it keeps the single-view network that they have."""
    if experiment.architecture not in ENCODERS:
        raise UserError(f"architecture must be one of {', '.join(ENCODERS)}, got '{experiment.architecture}'")
    network, config_class = ENCODERS[experiment.architecture]
    config: VGGTConfig = build_config(config_class, experiment.model, "model")
    if experiment.start_from is None:
        return network(config)
    source = experiment.start_from
    tensors, saved = load_weights(find_weights(source) or source)
    values = config_to_dict(config)
    kept = {name: value for name, value in saved.get("config", {}).items() if name.startswith(SINGLE_VIEW_KEYS)}
    if kept and not values.get("single_view_channels"):
        config = build_config(config_class, values | kept, source)
    model = network(config)
    load_state_strict(model, tensors, source)
    return model
