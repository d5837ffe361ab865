"""Token groups as a system: photos in, scenes of token groups out; trained on a frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokengroups.alignment import align_cameras
from tokengroups.checkpoint import find_weights, load_state_strict, load_weights
from tokengroups.data.example import Example
from tokengroups.encoders import Encoder, load_encoder
from tokengroups.errors import UserError
from tokengroups.losses.perceptual import LpipsConfig, build_lpips
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.nn.precision import Precision, autocast
from tokengroups.postprocess import Draft, Prediction, Step, StepSpec, build_steps
from tokengroups.systems.base import SceneSystem
from tokengroups.systems.token_groups.config import TokenGroupsConfig
from tokengroups.systems.token_groups.model import TokenGroupModel, TokenGroupsOutput
from tokengroups.systems.token_groups.objective import TokenGroupsLossWeights, TokenGroupsObjective
from tokengroups.systems.weights import save_system
from tokengroups.text.teachers import SemanticsConfig, load_teacher
from tokengroups.types import Semantics


@dataclass(frozen=True)
class TokenGroupsSettings:
    """The keys of a configuration with ``task: token_groups``, beside ``training`` and ``data``."""

    encoder: str = "vggt_tiny"  # shipped name, weight folder, VGGT-1B (file, folder or hub id), or module:Class
    model: TokenGroupsConfig = field(default_factory=TokenGroupsConfig)
    losses: TokenGroupsLossWeights = field(default_factory=TokenGroupsLossWeights)
    perceptual: LpipsConfig = field(default_factory=LpipsConfig)
    semantics: SemanticsConfig = field(default_factory=SemanticsConfig)
    postprocess: tuple[StepSpec, ...] = ()  # of evaluation and of the weights; those before decoding train too
    start_from: str | None = None  # shipped name or weight folder of the same system to start from

    def __post_init__(self) -> None:
        """Refuse to train nothing."""
        if self.semantics.only and (self.losses.distillation <= 0 or self.start_from is None):
            raise ValueError(
                "semantics.only trains the semantic head alone: "
                "set start_from to token groups, and losses.distillation above 0"
            )


class TokenGroups(SceneSystem):
    """A frozen encoder and the token-group model; only the model is trained.

    Args:
        encoder: The encoder.
        config: Shape of the model.
        steps: Post-processing of ``postprocess="default"``.
    """

    network: TokenGroupModel
    config_class: type[TokenGroupsConfig] = TokenGroupsConfig
    settings_class: type[TokenGroupsSettings] = TokenGroupsSettings
    objective_class: type[TokenGroupsObjective] = TokenGroupsObjective
    optional_parts: tuple[str, ...] = ("semantic_head.",)  # may be missing in weights that a training starts from

    def __init__(self, encoder: Encoder, config: TokenGroupsConfig, steps: Sequence[Step] = ()) -> None:
        super().__init__(encoder, steps, config.context_patch)
        self.network = self.build_network(config, encoder)
        self.text_encoder = config.text_encoder
        self.encoder_source = ""
        self.objective: TokenGroupsObjective | None = None

    @staticmethod
    def build_network(config: TokenGroupsConfig, encoder: Encoder) -> TokenGroupModel:
        """The untrained model that fits an encoder."""
        return TokenGroupModel(config, encoder.feature_dim)

    @classmethod
    def for_training(cls, settings: TokenGroupsSettings) -> TokenGroups:
        """Build the system with its objective.

        Raises:
            UserError: Weights, encoders or steps that do not fit.
        """
        teacher, config = None, settings.model
        if settings.losses.distillation > 0:
            teacher = load_teacher(settings.semantics)
            text = teacher.cache.encoder
            config = replace(config, semantic_dim=text.dim, text_encoder=text.name)
        encoder = load_encoder(settings.encoder)
        try:
            system = cls(encoder, config, build_steps(settings.postprocess, "postprocess"))
        except ValueError as error:
            raise UserError(f"{settings.encoder} does not fit the model: {error}") from None
        system.encoder_source = settings.encoder
        if settings.start_from is not None:
            system.load_start(settings.start_from)
        if settings.semantics.only:
            for name, parameter in system.network.named_parameters():
                parameter.requires_grad_(name.startswith("semantic_head."))
        perceptual = build_lpips(settings.perceptual, settings.losses.lpips)
        system.objective = cls.objective_class(settings.losses, perceptual, teacher, settings.semantics)
        return system

    def load_start(self, source: str) -> None:
        """Load weights to start from; optional parts that they do not have stay as they are.

        Raises:
            UserError: They do not fit otherwise.
        """
        tensors = load_weights(find_weights(source) or source)[0]
        own = self.network.state_dict()
        for part in self.optional_parts:
            if not any(name.startswith(part) for name in tensors):
                tensors |= {name: own[name] for name in own if name.startswith(part)}
        load_state_strict(self.network, tensors, source)

    def decode(self, draft: Draft) -> Draft:
        """Predict token groups from the geometry of one scene."""
        geometry = draft.geometry.map(lambda tensor: tensor[None])
        output = self.network(draft.photos[None], geometry, draft.fps_start)
        return replace(draft, prediction=self._prediction(output))

    def losses(self, example: Example, step: int, precision: Precision) -> LossTerms:
        """The objective, with encoder and model under autocast."""
        assert self.objective is not None, "built without an objective; use for_training"
        images = example.context.images
        if isinstance(self.objective.perceptual, torch.nn.Module):
            self.objective.perceptual.to(images.device)
        with autocast(precision, images.device):
            geometry = self.encode_batch(images)
            output = self.network(images, geometry)
        cameras, _ = align_cameras(example.targets.cameras, example.context, geometry.points)
        return self.objective(output, example, cameras, step)

    def parameter_groups(self, weight_decay: float, muon: bool) -> list[dict[str, Any]]:
        """Weight decay on matrices alone; Muon, if chosen, for the decoders and the keys."""
        network = self.network
        hidden = [network.anchor_decoder, network.group_decoder, network.assignment]
        return decay_groups(network, weight_decay, hidden=hidden if muon else ())

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a weight folder of token groups."""
        save_system(folder, state, self, self.network.config, self.encoder_source)

    def _prediction(self, output: TokenGroupsOutput) -> Prediction:
        """The only scene of a batch."""
        semantics = None
        if output.semantics is not None:
            semantics = Semantics(**vars(output.semantics.map(lambda tensor: tensor[0])), encoder=self.text_encoder)
        return Prediction(
            gaussians=output.gaussians.map(lambda tensor: tensor[0]),
            anchor_ids=output.anchor_ids,
            anchors=output.anchors[0],
            anchor_pixels=output.anchor_pixels[0],
            anchor_stride=self.network.config.anchor_stride,
            assignment=output.assignment[0],
            group_tokens=output.group_tokens[0],
            semantics=semantics,
        )
