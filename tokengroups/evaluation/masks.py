"""Predicted instance masks over all views of a scene, and their average precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokengroups.evaluation.average_precision import MIN_PIXELS, SceneOverlaps, average_precision, count_overlaps
from tokengroups.render import RenderOutput, render
from tokengroups.types import Cameras, TokenScene

ALPHA_THRESHOLD = 0.5  # a pixel with less alpha belongs to no group
STRUCTURE_CLASSES = ("wall", "floor", "ceiling")  # void in `objects`


@dataclass(frozen=True)
class GroupMasks:
    """Disjoint masks of the groups over the flattened pixels of all views, with a score each."""

    masks: Bool[np.ndarray, "L X"]
    confidences: Float[np.ndarray, " L"]

    @property
    def num_large(self) -> int:
        """Number of groups with enough visible pixels to count as a prediction."""
        return int((self.masks.sum(axis=1) >= MIN_PIXELS).sum())


@dataclass(frozen=True)
class GroupOverlaps:
    """Overlaps of one scene with walls, floor and ceiling as instances, and with them as void."""

    all: SceneOverlaps
    objects: SceneOverlaps


def render_features(
    scene: TokenScene, cameras: Cameras, anchor_features: Float[Tensor, "K n"]
) -> tuple[RenderOutput, Float[Tensor, "T H W n"]]:
    """Render a scene with features of its anchors from cameras in its world."""
    rendered = render(
        scene.gaussians,
        cameras.cam_from_world,
        cameras.intrinsics,
        cameras.size_hw,
        anchor_ids=scene.anchor_ids,
        anchor_features=anchor_features,
    )
    assert rendered.features is not None
    return rendered, rendered.features


def group_masks(probabilities: Float[Tensor, "T H W L"], alphas: Float[Tensor, "T H W"]) -> GroupMasks:
    """Assign every covered pixel to its most probable group; a mask's score is its mean probability.

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
    """Count the pixels that predicted masks and true instances have in common.

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


def group_scores(scenes: Sequence[GroupOverlaps]) -> dict[str, float]:
    """AP over a set of scenes, their predictions ranked together: ``ap_all``, ``ap50_all``, ... ``ap25_objects``."""
    kinds = {"all": [scene.all for scene in scenes], "objects": [scene.objects for scene in scenes]}
    found = {kind: average_precision(overlaps) for kind, overlaps in kinds.items()}
    return {f"{level}_{kind}": getattr(ap, level) for kind, ap in found.items() for level in ("ap", "ap50", "ap25")}
