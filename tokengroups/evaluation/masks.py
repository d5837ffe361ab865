"""From rendered group probabilities to predicted instance masks over all views of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokengroups.evaluation.average_precision import (
    MIN_PIXELS,
    AveragePrecision,
    SceneOverlaps,
    average_precision,
    count_overlaps,
)

ALPHA_THRESHOLD = 0.5  # a pixel that less of the scene covers belongs to no group
STRUCTURE_CLASSES = ("wall", "floor", "ceiling")  # void in `objects`


@dataclass(frozen=True)
class GroupMasks:
    """Disjoint masks of the groups over the flattened pixels of all views, with a score each."""

    masks: Bool[np.ndarray, "L X"]
    confidences: Float[np.ndarray, " L"]

    def select(self, keep: Bool[np.ndarray, " L"]) -> GroupMasks:
        """Keep some of the groups."""
        return GroupMasks(self.masks[keep], self.confidences[keep])

    @property
    def num_large(self) -> int:
        """Groups that are seen in at least as many pixels as a prediction needs to count."""
        return int((self.masks.sum(axis=1) >= MIN_PIXELS).sum())


@dataclass(frozen=True)
class GroupOverlaps:
    """Overlaps of one scene under both treatments of walls, floor and ceiling."""

    all: SceneOverlaps  # they are instances like any other
    objects: SceneOverlaps  # they are void


@dataclass(frozen=True)
class GroupScores:
    """AP under both treatments of walls, floor and ceiling."""

    all: AveragePrecision
    objects: AveragePrecision


def group_masks(probabilities: Float[Tensor, "T H W L"], alphas: Float[Tensor, "T H W"]) -> GroupMasks:
    """Give every covered pixel to its most probable group; a mask's score is its mean probability.

    Args:
        probabilities: Rendered probabilities; over the groups they sum to at most the pixel's alpha.
        alphas: Accumulated alpha.
    """
    flat = rearrange(probabilities, "t h w l -> (t h w) l")
    best, group = flat.max(dim=-1)
    group = torch.where(alphas.flatten() > ALPHA_THRESHOLD, group, -1)
    masks = group[None] == torch.arange(flat.shape[1], device=flat.device)[:, None]
    scores = (masks.float() @ best) / masks.sum(dim=-1).clamp(min=1)
    return GroupMasks(masks.cpu().numpy(), scores.double().cpu().numpy())


def group_overlaps(
    predicted: GroupMasks, instance_ids: Int[np.ndarray, "T H W"], classes: dict[int, str]
) -> GroupOverlaps:
    """Overlaps with the true instances of the rendered views.

    Args:
        predicted: Masks over the same pixels.
        instance_ids: -1 = unlabelled, which is void.
        classes: Class name of every instance id.
    """
    ids = instance_ids.reshape(-1)
    structure = [instance for instance, name in classes.items() if name in STRUCTURE_CLASSES]
    objects = np.where(np.isin(ids, structure), -1, ids)
    return GroupOverlaps(
        all=count_overlaps(predicted.masks, predicted.confidences, ids),
        objects=count_overlaps(predicted.masks, predicted.confidences, objects),
    )


def group_scores(scenes: list[GroupOverlaps]) -> GroupScores:
    """AP over a set of scenes, predictions of all scenes ranked together."""
    return GroupScores(
        all=average_precision([scene.all for scene in scenes]),
        objects=average_precision([scene.objects for scene in scenes]),
    )
