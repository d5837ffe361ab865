"""The objective of a geometry encoder: VGGT's losses, and the matching loss where an encoder matches cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

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

    matching: float = 0.2  # of encoders that predict match descriptors


def encoder_losses(output: VGGTOutput, batch: Views, weights: EncoderLossWeights) -> LossTerms:
    """Mean over the scenes of a batch: outlier filters and pixel counts must not mix scenes."""
    named: dict[str, list[Tensor]] = {}
    for scene in range(batch.images.shape[0]):
        for name, value in _scene_losses(_scene(output, scene), _scene(batch, scene), weights).items():
            named.setdefault(name, []).append(value)
    terms = {name: torch.stack(values).mean() for name, values in named.items()}
    return LossTerms(terms.pop("total"), terms)


def _scene_losses(output: VGGTOutput, views: Views, weights: EncoderLossWeights) -> dict[str, Tensor]:
    named = geometry_losses(output, views, weights).named()
    if isinstance(output, VGGTTinyOutput) and output.match_descriptors is not None:
        logits = match_logits(output.match_descriptors)
        named["matching"] = matching_cells_loss(logits, cell_targets(views, logits.shape[2]))
        named["total"] = named["total"] + weights.matching * named["matching"]
    return named


def _scene(batch: T, index: int) -> T:
    """One scene of a batch, as a batch of one."""
    return batch.map(lambda tensor: tensor[index : index + 1])
