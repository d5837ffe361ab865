"""The training of SegVGGT: its settings, and the objective of queries and geometry."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.bounds import Settings, Weight
from tokengroups.data.example import Example
from tokengroups.encoders.vggt import VGGT
from tokengroups.encoders.vggt.model import VGGTOutput
from tokengroups.losses.encoder import TeacherLossWeights, teacher_losses
from tokengroups.losses.query_masks import Matching, QueryLossConfig, QueryPredictions, query_losses
from tokengroups.losses.query_targets import InstanceTargets, instance_targets
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.precision import Precision, autocast
from tokengroups.postprocess import StepSpec
from tokengroups.systems.segvggt.config import SegVGGTModelConfig
from tokengroups.systems.segvggt.network import SegVGGTOutput
from tokengroups.systems.segvggt.open_head import (
    OpenClasses,
    open_calibration_loss,
    open_class_loss,
    open_distillation_loss,
)
from tokengroups.systems.segvggt.queries import Reading
from tokengroups.text.teachers import SemanticsConfig, load_teacher

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegVGGTSettings(Settings):
    """The keys of a configuration with ``task: segvggt``, beside ``training`` and ``data``."""

    encoder: str = "facebook/VGGT-1B"  # a VGGT to start from: shipped name, weight folder, file or hub id
    # What is trained of it: LoRA and all but the patch embedding and the adapted layers (the paper), LoRA, nothing.
    trunk: Literal["paper", "lora", "frozen"] = "paper"
    trunk_lr_scale: Weight = 0.3  # of what the encoder had before; 6e-5 beside 2e-4 [T-P]
    lora_lr_scale: Weight = 1.0  # [?] which of the two rates LoRA has
    model: SegVGGTModelConfig = field(default_factory=SegVGGTModelConfig)
    losses: QueryLossConfig = field(default_factory=QueryLossConfig)
    geometry: Weight = 1.0  # of VGGT's losses against the encoder as it was, if any of it is trained
    teacher: TeacherLossWeights = field(default_factory=TeacherLossWeights)
    open_classes: Weight = 0.5  # [own] of the open head's class loss, where that head is beside the closed one
    open_distillation: Weight = 0.5  # [own] of 1 - cosine of the open head's queries with their class names
    text_encoder: str = "minilm"  # [own] of the open head; or a folder or hub id of CLIP or SigLIP
    masks_only: tuple[str, ...] = ()  # [own] classes of `model.class_names` that both heads never see; masks do
    checkpoint_blocks: bool = False  # compute blocks again in the backward pass: less memory, more time
    postprocess: tuple[StepSpec, ...] = ()

    def __post_init__(self) -> None:
        """Refuse unknown names, and a training without a class."""
        super().__post_init__()
        unknown = sorted(set(self.masks_only) - set(self.model.class_names))
        if unknown:
            raise ValueError(f"masks_only must be names of model.class_names, got {', '.join(unknown)}")
        if set(self.masks_only) == set(self.model.class_names):
            raise ValueError("masks_only must leave a class to learn")


def trained_model(settings: SegVGGTSettings) -> tuple[SegVGGTModelConfig, Float[Tensor, "K D"] | None]:
    """What is built, and for an open head the text embeddings of its class names.

    Classes that train masks alone are left out, and LoRA is where the trunk is frozen.

    Raises:
        UserError: There is no such text encoder.
    """
    network = settings.model.network
    names = tuple(name for name in settings.model.class_names if name not in settings.masks_only)
    rank = 0 if settings.trunk == "frozen" else network.lora_rank
    model = replace(settings.model, network=replace(network, num_classes=len(names), lora_rank=rank), class_names=names)
    if network.open_head.use == "none":
        return model, None
    text = load_teacher(SemanticsConfig(settings.text_encoder)).cache
    network = replace(model.network, open_head=replace(network.open_head, text_dim=text.dim))
    return replace(model, network=network, text_encoder=text.name), text.encode_text(list(names))


class SegVGGTObjective:
    """Losses of a batch.

    Args:
        settings: Weights.
        class_names: Of the network's classes.
        teacher: The encoder as it was; None = geometry is not trained.
        patch_size: Side of the encoder's patches.
    """

    def __init__(
        self, settings: SegVGGTSettings, class_names: Sequence[str], teacher: VGGT | None, patch_size: int
    ) -> None:
        self.settings, self.class_names = settings, tuple(class_names)
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval()
        self.patch_size, self._told = patch_size, set[str]()

    def __call__(self, network: nn.Module, example: Example, precision: Precision) -> LossTerms:
        """The objective of the queries, that of the open head, and VGGT's against the encoder as it was."""
        config, images = self.settings.losses, example.context.images
        reading = Reading(states=config.deep_supervision > 0, frame_attention=config.attention > 0)
        with autocast(precision, images.device):
            output, found = network(images, reading)
        targets = self.targets(example, found.features.shape[2:4])
        answer = query_losses(_predictions(found), targets, config)
        self._warn(images, targets, answer.unmatched)
        total, terms = answer.losses.total, dict(answer.losses.terms)
        if found.open_classes is not None:
            opened = self._open_terms(found.open_classes, answer.matches, targets)
            terms |= {name: term for name, (_, term) in opened.items()}
            total = total + sum(weight * term for weight, term in opened.values())
        geometry = self._geometry(output, images, precision)
        if geometry is not None:
            terms |= {"geometry": geometry.total, **geometry.terms}
            total = total + self.settings.geometry * geometry.total
        return LossTerms(total, terms)

    def targets(self, example: Example, size_hw: Sequence[int]) -> list[InstanceTargets]:
        """Instances of the photos of a batch; those of unknown classes are none."""
        rows = {name: row for row, name in enumerate(self.class_names)} | dict.fromkeys(self.settings.masks_only, -1)
        grid, config = (size_hw[0], size_hw[1]), self.settings.losses.targets
        known = [{key: rows[name] for key, name in classes.items() if name in rows} for classes in example.classes]
        return [
            instance_targets(ids, classes, grid, config)
            for ids, classes in zip(example.context.group_ids, known, strict=True)
        ]

    def _warn(self, images: Tensor, targets: Sequence[InstanceTargets], unmatched: int) -> None:
        """Say once each what keeps queries from learning."""
        queries = self.settings.model.network.queries
        patches = images.shape[1] * math.prod(side // self.patch_size for side in images.shape[-2:])
        faults = {
            "scenes have more instances than the %d queries: the others are not learnt": unmatched > 0,
            "photos have fewer patches than the %d queries that start from them: some queries are copies": (
                queries.start == "sampled" and queries.number > patches
            ),
            "scenes show no instance of model.class_names: their %d queries learn 'no object' alone": (
                not all(len(target.ids) for target in targets)
            ),
        }
        for fault in (text for text, holds in faults.items() if holds and text not in self._told):
            self._told.add(fault)
            _log.warning(fault, queries.number)

    def _open_terms(
        self, found: OpenClasses, matches: Sequence[Matching], targets: Sequence[InstanceTargets]
    ) -> dict[str, tuple[float, Tensor]]:
        """Weights and terms of the open head; where it is in place of the closed one, the class term is its own."""
        settings = self.settings
        terms = {
            "open_distillation": (settings.open_distillation, open_distillation_loss(found, matches, targets)),
            "open_calibration": (1.0, open_calibration_loss(found, matches, targets)),  # of parameters of its own
        }
        if settings.model.network.open_head.use == "beside":
            loss = open_class_loss(found, matches, targets, settings.losses.no_object)
            terms["open_class"] = (settings.open_classes, loss)
        return terms

    def _geometry(self, output: VGGTOutput, images: Tensor, precision: Precision) -> LossTerms | None:
        if self.teacher is None:
            return None
        self.teacher.to(images.device)
        with torch.no_grad(), autocast(precision, images.device):
            truth = self.teacher.encode(images)
        return teacher_losses(output, truth, self.settings.teacher)


def _predictions(found: SegVGGTOutput) -> QueryPredictions:
    return QueryPredictions(
        found.queries, found.features, found.class_logits, found.frame_attention, found.layer_queries,
        found.layer_class_logits,
    )  # fmt: skip
