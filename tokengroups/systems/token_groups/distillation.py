"""Distillation of a teacher's features into decoded semantics, per rendered pixel and per matched group (the paper)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.hungarian import match_groups
from tokengroups.losses.masks import MaskLossWeights, instance_ids, mask_costs
from tokengroups.losses.semantics import (
    TeacherTargets,
    calibration_loss,
    group_distillation_loss,
    mask_means,
    pixel_distillation_loss,
    plurality,
)
from tokengroups.losses.terms import LossTerms
from tokengroups.render import render
from tokengroups.systems.token_groups.model import TokenGroupsOutput
from tokengroups.systems.token_groups.semantic_head import DecodedSemantics
from tokengroups.types import Cameras

SAME_NAME = 0.9999  # cosine of two embeddings of one text


def render_semantics(output: TokenGroupsOutput, cameras: Cameras) -> Float[Tensor, "B V H W n"]:
    """Channels [group probabilities, residual] of all scenes; gradients reach the residuals alone."""
    assert output.semantics is not None
    channels = torch.cat([output.assignment.detach(), output.semantics.residuals], dim=-1)
    rendered = render(
        output.gaussians.detach(),
        cameras.cam_from_world,
        cameras.intrinsics,
        cameras.size_hw,
        anchor_ids=output.anchor_ids,
        anchor_features=channels,
    ).features
    assert rendered is not None
    return rendered


def distillation_losses(
    output: TokenGroupsOutput,
    cameras: Cameras,
    group_ids: Int64[Tensor, "B V H W"],
    targets: Sequence[TeacherTargets],
    weights: MaskLossWeights,
) -> LossTerms:
    """Cosine distance of rendered features to the teacher's, and of matched groups to its mean over their masks.

    A third term calibrates the cosine of group and class name: every group with a visible pixel against every name
    of the batch, right where the group's most frequent class is.

    Geometry and grouping are not disturbed: only the semantic head's parameters get gradients.

    Args:
        output: Decoded token groups with semantics.
        cameras: Views to render, batch axes B V.
        group_ids: True instances of their pixels; -1 = unlabelled.
        targets: The teacher's features of the same views, one per scene.
        weights: Of the cost that matches groups with instances, all views of a scene together.
    """
    assert output.semantics is not None
    num_groups = output.assignment.shape[-1]
    pixels, groups, classes = [], [], []
    for scene, channels in enumerate(render_semantics(output, cameras)):
        teacher, ids = targets[scene], group_ids[scene]
        index = teacher.pixel_idx.flatten()
        basis = output.semantics.basis(scene)
        pixels.append(pixel_distillation_loss(channels.flatten(0, 2), basis, teacher.features, index))
        group_idx, instance_idx = match_groups(mask_costs(channels[..., :num_groups].detach(), ids, weights))
        known = index >= 0
        means = mask_means(teacher.features[index[known]], ids.flatten()[known], instance_ids(ids)[instance_idx])
        taught = means.norm(dim=1) > 0  # the teacher has no feature for the others
        matched = output.semantics.embeddings[scene, group_idx]
        groups.append(group_distillation_loss(matched[taught], means[taught]))
        best = channels[..., :num_groups].argmax(dim=-1).flatten()
        classes.append(plurality(best, teacher.name_idx.flatten(), num_groups, len(teacher.names)))
    terms = {"pixels": torch.stack(pixels).mean(), "groups": torch.stack(groups).mean()}
    terms["calibration"] = _calibration_loss(output.semantics, targets, classes)
    # The calibration shares no parameter with the others, so its weight has no effect.
    return LossTerms(terms["pixels"] + terms["groups"] + terms["calibration"], terms)


def _calibration_loss(
    semantics: DecodedSemantics, targets: Sequence[TeacherTargets], classes: Sequence[Int64[Tensor, " L"]]
) -> Float[Tensor, ""]:
    names = torch.cat([teacher.names for teacher in targets])
    if len(names) == 0:
        return semantics.calibration.sum() * 0
    own, cosines = [], []
    for teacher, embeddings, of_group in zip(targets, semantics.embeddings, classes, strict=True):
        known = of_group >= 0
        own.append(teacher.names[of_group[known]])
        cosines.append(embeddings[known] @ names.T)
    same = torch.cat(own) @ names.T > SAME_NAME  # two scenes may have the same class
    return calibration_loss(torch.cat(cosines), same, semantics.calibration[0])
