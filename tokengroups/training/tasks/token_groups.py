"""The token groups' task: decoders on a frozen encoder learn to render rooms and to tell their instances apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokengroups.checkpoint import load_state_strict, load_weights
from tokengroups.data.example import Example
from tokengroups.data.stream import ExampleConfig, ExampleStream, held_out_examples
from tokengroups.errors import UserError
from tokengroups.evaluation.evaluate import evaluate_scenes
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.losses.perceptual import LpipsConfig, build_lpips
from tokengroups.systems.token_groups.decoder import TokenGroupDecoder, TokenGroupsConfig, TokenGroupsOutput
from tokengroups.systems.token_groups.distillation import DistillationLosses, distillation_losses
from tokengroups.systems.token_groups.objective import (
    TokenGroupsLossWeights,
    anchor_instances,
    anchor_losses,
    render_groups,
    segmentation_weight,
    supervision_cameras,
    token_groups_losses,
)
from tokengroups.systems.token_groups.system import TokenGroups
from tokengroups.systems.token_groups_tiny.single_view_features import photo_feature_dims
from tokengroups.systems.weights import find_weights, load_encoder, save_decoder
from tokengroups.text import TextEncoder
from tokengroups.training.config import TrainingConfig
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.training.task import LossTerms, autocast
from tokengroups.text.teachers import SemanticsConfig, load_teacher
from tokengroups.types import Cameras

ADDED_LATER = (
    "semantic_head.",
    "context_photo.",
    "anchor_photo.",
)  # to token groups that were trained without


@dataclass(frozen=True)
class TokenGroupsExperiment:
    """A configuration file with ``task: token_groups``."""

    training: TrainingConfig
    data: ExampleConfig
    encoder: str = (
        "vggt_tiny"  # shipped name, weight folder, or the published VGGT-1B (file, folder or hub id)
    )
    model: TokenGroupsConfig = field(default_factory=TokenGroupsConfig)
    losses: TokenGroupsLossWeights = field(default_factory=TokenGroupsLossWeights)
    perceptual: LpipsConfig = field(default_factory=LpipsConfig)
    semantics: SemanticsConfig = field(default_factory=SemanticsConfig)
    start_from: str | None = None  # shipped name or weight folder of the same token groups to start from


class TokenGroupsTask:
    """See `tokengroups.training.task.Task`."""

    def __init__(self, experiment: TokenGroupsExperiment) -> None:
        torch.manual_seed(experiment.training.seed)
        training = experiment.training
        self.examples = ExampleStream(experiment.data, training.seed, training.batch_size)
        self.teacher = None
        if experiment.losses.distillation > 0:
            self.teacher = load_teacher(experiment.semantics)
            experiment = with_semantics(experiment, self.teacher.cache.encoder)
        self.experiment = experiment
        encoder = load_encoder(experiment.encoder)
        if experiment.model.photo_features and not photo_feature_dims(encoder.config):
            raise UserError(
                f"model.photo_features: {experiment.encoder} has no perspective network; "
                "set it to false, or name an encoder with one"
            )
        if experiment.model.border_rounds and not encoder.config.perspective_details:
            raise UserError(
                f"model.border_rounds: {experiment.encoder} tells no borders of objects (perspective_details); "
                "set it to 0, or name an encoder that does"
            )
        self.groups = TokenGroups(encoder, experiment.model)
        self.model = self.groups.decoder
        if experiment.start_from is not None:
            load_start(self.model, experiment.start_from)
        if experiment.semantics.only:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name.startswith("semantic_head."))
        self.perceptual = build_lpips(experiment.perceptual, experiment.losses.lpips)

    def batch(self, step: int, slots: range) -> Example:
        """Examples of some slots."""
        return self.examples.batch(step, slots)

    def losses(self, batch: Example, step: int) -> LossTerms:
        """The objective of `systems.token_groups.objective`, with the encoder and decoders under autocast."""
        weights = self.experiment.losses
        images = batch.context.images
        self.groups.encoder.to(images.device)
        if self.perceptual is not None:
            self.perceptual.to(images.device)
        with autocast(self.experiment.training.precision, images.device):
            geometry = self.groups.encode(images)
            output = self.model(images, geometry)
        cameras = supervision_cameras(batch.targets, batch.context, geometry.points)
        total, terms = output.gaussians.means.sum() * 0, {}
        if not self.experiment.semantics.only:
            total, terms = self._scene_losses(batch, output, cameras, step)
        if self.teacher is not None:
            distilled = self._distillation(batch, output, cameras)
            terms |= {f"distill_{name}": value for name, value in vars(distilled).items()}
            total = total + weights.distillation * distilled.total()
        return LossTerms(total, terms)

    def _scene_losses(
        self, batch: Example, output: TokenGroupsOutput, cameras: Cameras, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Rendering and masks: the weighted total and the named terms."""
        weights = self.experiment.losses
        anchor_ids = anchor_instances(batch.context, output.anchor_pixels)
        if weights.rendering == 0:
            losses = anchor_losses(output, anchor_ids, weights)
        else:
            perceptual = self.perceptual if weights.lpips > 0 else None
            rendered = render_groups(output, cameras)
            losses = token_groups_losses(rendered, batch.targets, weights, perceptual, output, anchor_ids)
        terms = losses.named()
        terms["segmentation_weight"] = losses.mse.new_tensor(segmentation_weight(weights, step))
        return losses.total(weights, step), terms

    def _distillation(
        self, batch: Example, output: TokenGroupsOutput, cameras: Cameras
    ) -> DistillationLosses:
        assert self.teacher is not None
        count = batch.targets.images.shape[1]
        wanted = self.experiment.semantics.views or count
        chosen = sorted(set(np.linspace(0, count - 1, wanted).round().astype(int).tolist()))
        views = batch.targets.select(chosen)
        targets = [
            self.teacher.targets(views.map(lambda tensor, i=scene: tensor[i]), classes)
            for scene, classes in enumerate(batch.classes)
        ]
        cameras = Cameras(cameras.cam_from_world[:, chosen], cameras.intrinsics[:, chosen], cameras.size_hw)
        masks = self.experiment.losses.masks
        return distillation_losses(output, cameras, views.group_ids, targets, masks)

    def evaluate(self) -> dict[str, float]:
        """The numbers of `tokengroups evaluate` on a few held-out scenes."""
        device, data = next(self.model.parameters()).device, self.experiment.data
        result = evaluate_scenes(
            lambda photos: self.groups.predict(photos.to(device)),
            held_out_examples(data),
            EvaluationData(data.dataset, data.plan),
            weights=self.experiment.training.output,
        )
        return {name: value for name, value in result.to_json().items() if isinstance(value, float)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weight decay on matrices alone; Muon, if chosen, for the decoders and the keys."""
        training, model = self.experiment.training, self.model
        hidden = [model.anchor_decoder, model.group_decoder, model.anchor_key, model.group_key]
        return decay_groups(
            model, training.weight_decay, hidden=hidden if training.optimizer == "muon" else ()
        )

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a weight folder of token groups."""
        save_decoder(folder, state, self.experiment.model, self.experiment.encoder)


def with_semantics(experiment: TokenGroupsExperiment, encoder: TextEncoder) -> TokenGroupsExperiment:
    """The experiment with a semantic head that fits the encoder."""
    model = replace(experiment.model, semantic_dim=encoder.dim, text_encoder=encoder.name)
    return replace(experiment, model=model)


def load_start(model: TokenGroupDecoder, source: str) -> None:
    """Load weights to start from; of the parts in `ADDED_LATER`, those that they do not have stay as they are.

    Raises:
        UserError: They do not fit otherwise.
    """
    tensors = load_weights(find_weights(source) or source)[0]
    own = model.state_dict()
    for part in ADDED_LATER:
        if not any(name.startswith(part) for name in tensors):
            tensors |= {name: own[name] for name in own if name.startswith(part)}
    load_state_strict(model, tensors, source)


def build_task(experiment: TokenGroupsExperiment) -> TokenGroupsTask:
    """The task of a configuration.

    Raises:
        UserError: Paths too short for the views asked for, or weights that do not fit.
    """
    if experiment.semantics.only and (experiment.losses.distillation <= 0 or experiment.start_from is None):
        raise UserError(
            "semantics.only trains the semantic head alone: "
            "set start_from to token groups, and losses.distillation above 0"
        )
    return TokenGroupsTask(experiment)


EXPERIMENT = TokenGroupsExperiment
