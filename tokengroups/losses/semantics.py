"""Distillation of a teacher's features into group embeddings and anchor residuals (token-groups paper).

A pixel's feature F = sum_l S_l s_l + W_r R is a combination of n = L + d basis vectors, the group embeddings and the
columns of W_r. Its cosine with a teacher's feature needs only inner products of the basis, so that no image of
D-vectors is ever built for teachers that are a short table (label embeddings).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.types import TensorFields

EPS = 1e-6  # of a squared length: empty pixels have feature 0 and cosine 0


@dataclass(frozen=True)
class TeacherTargets(TensorFields):
    """A teacher's features for the views of one scene: a table of unit features and its row for every pixel.

    A label teacher's table has a row per class. A dense teacher's has a row per cell of its grid, and only the pixels
    at the cells' centres point there: its features describe cells, not pixels.
    """

    features: Float[Tensor, "C D"]
    pixel_idx: Int64[Tensor, "V H W"]  # row of the table; -1 = unknown
    names: Float[Tensor, "N D"]  # unit text embeddings of the class names
    name_idx: Int64[Tensor, "V H W"]  # class of every pixel; -1 = unnamed


def combination_cosines(
    coefficients: Float[Tensor, "P n"],
    basis: Float[Tensor, "n D"],
    targets: Float[Tensor, "C D"],
    target_idx: Int64[Tensor, " P"],
) -> Float[Tensor, " P"]:
    """Cosine of every combination of the basis with its target.

    Args:
        coefficients: Per pixel: rendered group probabilities, then the rendered residual.
        basis: Group embeddings, then the rows of W_r^T.
        targets: Table of teacher features.
        target_idx: Row of the table for each pixel.
    """
    targets = functional.normalize(targets.float(), dim=-1)
    coefficients, basis = coefficients.float(), basis.float()
    products = (coefficients @ (basis @ targets.T)).gather(1, target_idx[:, None]).squeeze(1)
    squared = ((coefficients @ (basis @ basis.T)) * coefficients).sum(dim=-1)
    return products * (squared.clamp_min(0) + EPS).rsqrt()


def pixel_distillation_loss(
    coefficients: Float[Tensor, "P n"],
    basis: Float[Tensor, "n D"],
    targets: Float[Tensor, "C D"],
    target_idx: Int64[Tensor, " P"],
) -> Float[Tensor, ""]:
    """Mean of 1 - cosine over the pixels whose target is known; index -1 = unknown. Zero where none is."""
    known = target_idx >= 0
    if not known.any():
        return (coefficients.sum() + basis.sum()) * 0
    return (1 - combination_cosines(coefficients[known], basis, targets, target_idx[known])).mean()


def group_distillation_loss(embeddings: Float[Tensor, "N D"], teacher_means: Float[Tensor, "N D"]) -> Float[Tensor, ""]:
    """Mean of 1 - cosine between the embeddings of matched groups and the teacher's mean over their masks."""
    if len(embeddings) == 0:
        return embeddings.sum() * 0
    return (1 - functional.cosine_similarity(embeddings.float(), teacher_means.float(), dim=-1)).mean()


def calibration_loss(
    cosines: Float[Tensor, "L N"], matches: Bool[Tensor, "L N"], calibration: Float[Tensor, "2"]
) -> Float[Tensor, ""]:
    """Cross-entropy of p = sigmoid(a (cosine - b)): the proper score that makes p a probability (Platt, 1999).

    Args:
        cosines: Groups with texts; no gradient flows to them.
        matches: The text applies to the group.
        calibration: (a, b).
    """
    if matches.numel() == 0:
        return calibration.sum() * 0
    logits = calibration[0] * (cosines.detach() - calibration[1])
    return functional.binary_cross_entropy_with_logits(logits, matches.float())


def plurality(
    group_idx: Int64[Tensor, " P"], class_idx: Int64[Tensor, " P"], num_groups: int, num_classes: int
) -> Int64[Tensor, " L"]:
    """Class that most of each group's pixels have; -1 for groups without a pixel of known class."""
    known = class_idx >= 0
    pairs = group_idx[known] * num_classes + class_idx[known]
    counts = torch.bincount(pairs, minlength=num_groups * num_classes).view(num_groups, num_classes)
    return torch.where(counts.sum(dim=1) > 0, counts.argmax(dim=1), -1)


def mask_means(
    features: Float[Tensor, "P D"], ids: Int64[Tensor, " P"], instances: Int64[Tensor, " N"]
) -> Float[Tensor, "N D"]:
    """Mean of the unit features over each instance's pixels; zero for one without pixels."""
    member = (ids == instances[:, None]).float()
    unit = functional.normalize(features.float(), dim=-1)
    return member @ unit / member.sum(dim=1, keepdim=True).clamp_min(1)
