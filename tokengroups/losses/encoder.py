"""The objective of a geometry encoder: VGGT's losses, and the matching loss where an encoder matches cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch

from tokengroups.bounds import Weight
from tokengroups.encoders.vggt import VGGTOutput
from tokengroups.encoders.vggt_tiny import VGGTTinyOutput
from tokengroups.losses.cell_matching import cell_targets, match_logits, matching_cells_loss
from tokengroups.losses.geometry import GeometryLossWeights, geometry_losses
from tokengroups.losses.terms import LossTerms
from tokengroups.types import TensorFields, Views

T = TypeVar("T", bound=TensorFields)


@dataclass(frozen=True)
class EncoderLossWeights(GeometryLossWeights):
    """Weights of VGGT's losses, and that of the matching loss."""

    matching: Weight = 0.2  # of encoders that predict match descriptors


def encoder_losses(output: VGGTOutput, batch: Views, weights: EncoderLossWeights) -> LossTerms:
    """Mean over the scenes of a batch: outlier filters and pixel counts must not mix scenes."""
    scenes = [_scene_losses(_scene(output, index), _scene(batch, index), weights) for index in range(len(batch.images))]
    terms = {name: torch.stack([scene.terms[name] for scene in scenes]).mean() for name in scenes[0].terms}
    return LossTerms(torch.stack([scene.total for scene in scenes]).mean(), terms)


def _scene_losses(output: VGGTOutput, views: Views, weights: EncoderLossWeights) -> LossTerms:
    losses = geometry_losses(output, views, weights)
    if not isinstance(output, VGGTTinyOutput) or output.match_descriptors is None:
        return losses
    logits = match_logits(output.match_descriptors)
    matching = matching_cells_loss(logits, cell_targets(views, logits.shape[2]))
    return LossTerms(losses.total + weights.matching * matching, {**losses.terms, "matching": matching})


def _scene(batch: T, index: int) -> T:
    """One scene of a batch, as a batch of one."""
    return batch.map(lambda tensor: tensor[index : index + 1])
