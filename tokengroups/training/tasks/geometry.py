"""The encoder's task: a VGGT learns cameras, depth and points of rooms from VGGT's own losses plus matching."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tokengroups.checkpoint import load_state_strict, load_weights
from tokengroups.config import build_config, config_to_dict
from tokengroups.data.augment import collate
from tokengroups.data.stream import DataConfig, PathStream, draw_frames, held_out_paths
from tokengroups.encoders.vggt import VGGT, VGGTConfig, encoder_cameras
from tokengroups.errors import UserError
from tokengroups.evaluation.geometry_metrics import GeometryMetrics, geometry_metrics, summarise
from tokengroups.losses.cell_matching import cell_targets, match_logits, matching_accuracy
from tokengroups.losses.geometry import GeometryLossWeights, geometry_losses
from tokengroups.systems.weights import find_weights, save_encoder
from tokengroups.training.config import TrainingConfig
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.training.task import LossTerms, autocast
from tokengroups.types import Cameras, EncoderOutput, TensorFields, Views

T = TypeVar("T", bound=TensorFields)

FRAME_COUNT, SCENE = range(2)  # what is drawn: keeps the random streams of one seed apart
EVALUATION_PATH = 5  # frames; two of them are the photos, as in `tokengroups evaluate --views 2`
EVALUATION_CONTEXT = (1, 3)


@dataclass(frozen=True)
class GeometryDataConfig(DataConfig):
    """How a room's frames become training scenes."""

    min_frames: int = 2  # of a training scene: one draw a step, so that all processes take equally long
    max_frames: int = 4
    max_gap: int = 3  # frames of the path between neighbours of a training scene


@dataclass(frozen=True)
class GeometryExperiment:
    """A configuration file with ``task: geometry``."""

    training: TrainingConfig
    data: GeometryDataConfig
    model: VGGTConfig = field(default_factory=VGGTConfig)
    losses: GeometryLossWeights = field(default_factory=GeometryLossWeights)
    start_from: str | None = None  # shipped name or weight folder of the same VGGT to start from


class GeometryTask:
    """See `tokengroups.training.task.Task`."""

    def __init__(self, experiment: GeometryExperiment) -> None:
        torch.manual_seed(experiment.training.seed)
        self.experiment = experiment
        if experiment.start_from is None:
            self.model = VGGT(experiment.model)
        else:
            self.model = _started(experiment.model, experiment.start_from)
        freeze_unused(self.model)
        self.stream = PathStream(experiment.data, experiment.training.seed)

    def batch(self, step: int, slots: range) -> Views:
        """Scenes of some slots; the number of frames is the same in all slots of a step."""
        data, seed = self.experiment.data, self.experiment.training.seed
        rng = np.random.default_rng([FRAME_COUNT, seed, step])
        num_frames = int(rng.integers(data.min_frames, data.max_frames + 1))
        return collate([self.scene(step, slot, num_frames) for slot in slots])

    def scene(self, step: int, slot: int, num_frames: int) -> Views:
        """One augmented training scene."""
        data, training = self.experiment.data, self.experiment.training
        rng = np.random.default_rng([SCENE, training.seed, step, slot])
        path = self.stream.path(step * training.batch_size + slot)
        frames = draw_frames(rng, data.num_frames, num_frames, data.max_gap)
        return self.stream.augment(path.views.select(frames), rng)

    def losses(self, batch: Views, step: int) -> LossTerms:
        """VGGT's losses, scene by scene: their outlier filters and pixel counts must not mix scenes."""
        del step
        with autocast(self.experiment.training.precision, batch.images.device):
            output = self.model(batch.images)
        return scene_losses(output, batch, self.experiment.losses)

    def evaluate(self) -> dict[str, float]:
        """Geometry metrics on held-out rooms from two views (one scale a room), and the matching accuracy."""
        device = next(self.model.parameters()).device
        answers = []
        for path in held_out_paths(self.experiment.data, EVALUATION_PATH):
            views = collate([path.views.select(list(EVALUATION_CONTEXT))]).to(device)
            answers.append(answer_metrics(self.model(views.images), views))
        return summarise_answers(answers)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices alone; Muon, if chosen, for the aggregator's and the camera head's layers."""
        training, model = self.experiment.training, self.model
        hidden = [model.aggregator, model.camera_head] if training.optimizer == "muon" else []
        return decay_groups(model, training.weight_decay, hidden=hidden)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write an encoder's weight folder."""
        save_encoder(folder, state, self.model.config)


def scene_losses(output: EncoderOutput, batch: Views, weights: GeometryLossWeights) -> LossTerms:
    """VGGT's losses as the mean over the scenes of a batch; no term mixes their pixels."""
    named: dict[str, list[Tensor]] = {}
    for scene in range(batch.images.shape[0]):
        parts = geometry_losses(_scene(output, scene), _scene(batch, scene), weights)
        for name, value in parts.named().items():
            named.setdefault(name, []).append(value)
    terms = {name: torch.stack(values).mean() for name, values in named.items()}
    return LossTerms(terms.pop("total"), terms)


def answer_metrics(output: EncoderOutput, views: Views) -> tuple[GeometryMetrics, float | None]:
    """Accuracy of an encoder's answer to one scene (batch of one), and of its matches if it makes any."""
    assert output.depth is not None, "geometry metrics need a depth head"
    cameras = encoder_cameras(output, views.cameras.size_hw)
    metrics = geometry_metrics(output.depth[0], _first(cameras), views.depth[0], _first(views.cameras))
    if output.cell_descriptors is None:
        return metrics, None
    logits = match_logits(output.cell_descriptors)
    return metrics, float(matching_accuracy(logits, cell_targets(views, logits.shape[2])))


def summarise_answers(answers: Sequence[tuple[GeometryMetrics, float | None]]) -> dict[str, float]:
    """Numbers over all scenes: `summarise`, and the mean matching accuracy."""
    right = [accuracy for _, accuracy in answers if accuracy is not None]
    numbers = summarise([metrics for metrics, _ in answers])
    return numbers | ({"match_accuracy": float(np.mean(right))} if right else {})


def _started(config: VGGTConfig, source: str) -> VGGT:
    """A VGGT with given weights; a perspective network among them stays with it as it is."""
    tensors, saved = load_weights(find_weights(source) or source)
    kept = {name: value for name, value in saved.get("config", {}).items() if name.startswith("perspective_")}
    if kept and not config.perspective_channels:
        config = build_config(VGGTConfig, config_to_dict(config) | kept, source)
    model = VGGT(config)
    load_state_strict(model, tensors, source)
    return model


def freeze_unused(model: VGGT) -> None:
    """Parameters that no loss of geometry depends on: not trained, so never waited for."""
    for name, parameter in model.named_parameters():
        if name.endswith("mask_token") or name.startswith("perspective."):
            parameter.requires_grad_(False)


def _scene(batch: T, index: int) -> T:
    """One scene of a batch, as a batch of one."""
    return batch.map(lambda tensor: tensor[index : index + 1])


def _first(cameras: Cameras) -> Cameras:
    return Cameras(cameras.cam_from_world[0], cameras.intrinsics[0], cameras.size_hw)


def build_task(experiment: GeometryExperiment) -> GeometryTask:
    """The task of a configuration.

    Raises:
        UserError: Frame counts that the rooms' paths cannot give, or weights to start from that do not fit.
    """
    data = experiment.data
    if not 1 <= data.min_frames <= data.max_frames <= data.num_frames:
        raise UserError(
            "data: need 1 <= min_frames <= max_frames <= num_frames, "
            f"got {data.min_frames}, {data.max_frames}, {data.num_frames}"
        )
    return GeometryTask(experiment)


EXPERIMENT = GeometryExperiment
