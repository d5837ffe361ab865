"""The objective of a geometry encoder: VGGT's losses, and the matching loss where an encoder matches cells.

The targets are ground truth, or the answer of a frozen encoder to the same photos (SegVGGT).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from tokengroups.bounds import Share, Weight
from tokengroups.encoders import Geometry
from tokengroups.encoders.vggt import VGGTOutput
from tokengroups.encoders.vggt_tiny import VGGTTinyOutput
from tokengroups.losses.cell_matching import cell_targets, match_logits, matching_cells_loss
from tokengroups.losses.geometry import (
    GeometryLossWeights,
    GeometryTargets,
    geometry_losses,
    geometry_targets,
    target_losses,
)
from tokengroups.losses.terms import LossTerms
from tokengroups.types import TensorFields, Views

T = TypeVar("T", bound=TensorFields)


@dataclass(frozen=True)
class EncoderLossWeights(GeometryLossWeights):
    """Weights of VGGT's losses, and that of the matching loss."""

    matching: Weight = 0.2  # of encoders that predict match descriptors


@dataclass(frozen=True)
class TeacherLossWeights(GeometryLossWeights):
    """Weights of VGGT's losses, and two points that the paper leaves open (both unknown)."""

    scale: Literal["teacher", "normalised"] = "teacher"  # a student that starts as the teacher has no error at first
    uncertain: Share = 0.0  # of a scene's depths that are left out, those of least confidence


def encoder_losses(output: VGGTOutput, batch: Views, weights: EncoderLossWeights) -> LossTerms:
    """Mean over the scenes of a batch: outlier filters and pixel counts must not mix scenes."""
    scenes = range(len(batch.images))
    return _mean([_scene_losses(_scene(output, index), _scene(batch, index), weights) for index in scenes])


def teacher_losses(output: VGGTOutput, teacher: Geometry, weights: TeacherLossWeights) -> LossTerms:
    """VGGT's losses against a frozen encoder's cameras and depth; mean over the scenes of a batch.

    Args:
        output: Predictions for the photos that the teacher saw, at the same resolution; gradients flow to it alone.
        teacher: Its answer for the batch.
        weights: Weights and open points.
    """
    targets = teacher_targets(teacher, weights)
    scenes = range(len(teacher.depth))
    return _mean([target_losses(_scene(output, index), _scene(targets, index), weights) for index in scenes])


@torch.no_grad()
def teacher_targets(teacher: Geometry, weights: TeacherLossWeights) -> GeometryTargets:
    """A frozen encoder's answer as targets; the least certain depths of every scene are unknown."""
    confidence = teacher.confidence.flatten(1)
    rank = 1 + round(weights.uncertain * (confidence.shape[1] - 1))
    least = confidence.kthvalue(rank, dim=1).values[:, None, None, None]
    depth = torch.where(teacher.confidence >= least, teacher.depth, 0.0)
    return geometry_targets(teacher.cameras, depth, normalise=weights.scale == "normalised")


def _mean(scenes: list[LossTerms]) -> LossTerms:
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
