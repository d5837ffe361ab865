"""Groups of the photos' pixels, and their scores against true instances: tracking over the photos, and AP.

A system that segments photos is scored by its own masks. Groups of others are rendered at the predicted cameras of
the photos. Beside them stand planes + HDBSCAN on the same anchors, and for an instance field its ceiling.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.clustering import planes_hdbscan
from tokengroups.evaluation.masks import ALPHA_THRESHOLD, GroupMasks, group_masks, render_features
from tokengroups.evaluation.tracking import nearest_true_means, track_scores
from tokengroups.nearest import nearest
from tokengroups.postprocess import PhotoGroups, Reconstruction
from tokengroups.types import Views

CLUSTERED = 4096  # anchors that planes + HDBSCAN see; others join the nearest of them
SUFFIXES = ("", "_planes_hdbscan")


def photo_masks(prediction: Reconstruction, planes: Float[Tensor, "K n"]) -> dict[str, tuple[GroupMasks, Tensor]]:
    """Masks and labels [V, H, W] of every pixel of the photos (-1 = none), by the suffix of the grouping.

    Args:
        prediction: The reconstruction.
        planes: One-hot groups of its anchors by planes + HDBSCAN.
    """
    scene = prediction.scene
    channels = [scene.assignment, planes]
    rendered, features = render_features(scene, scene.cameras, torch.cat(channels, dim=-1))
    parts = features.split([part.shape[1] for part in channels], dim=-1)
    found = {}
    for suffix, part in zip(SUFFIXES, parts, strict=True):
        labels = torch.where(rendered.alphas > ALPHA_THRESHOLD, part.argmax(dim=-1), -1)
        found[suffix] = (group_masks(part, rendered.alphas), labels)
    if prediction.photo_groups is not None:
        found[""] = _own_masks(prediction.photo_groups)
    return found


def _own_masks(groups: PhotoGroups) -> tuple[GroupMasks, Tensor]:
    labels = groups.labels
    masks = labels.flatten()[None] == torch.arange(len(groups.scores), device=labels.device)[:, None]
    return GroupMasks(masks.cpu().numpy(), groups.scores.double().cpu().numpy()), labels


def planes_of(anchors: Float[Tensor, "K 3"]) -> Float[Tensor, "K n"]:
    """One-hot groups of anchors by planes + HDBSCAN; of many anchors, evenly chosen ones are clustered."""
    if len(anchors) <= CLUSTERED:
        labels = torch.from_numpy(planes_hdbscan(anchors.cpu().numpy()))
    else:
        chosen = anchors[torch.linspace(0, len(anchors) - 1, CLUSTERED).round().long()]
        labels = torch.from_numpy(planes_hdbscan(chosen.cpu().numpy()))[nearest(anchors, chosen, 1)[1][:, 0].cpu()]
    return functional.one_hot(labels).float().to(anchors.device)


def track_numbers(
    labels: dict[str, Int64[Tensor, "V H W"]], groups: PhotoGroups | None, truth: Views
) -> dict[str, float]:
    """``t_miou``, ``t_miou_all_views`` and ``t_sr`` of every grouping, and ``t_miou_ceiling`` of an instance field."""
    numbers = {}
    for suffix, each in labels.items():
        numbers |= {f"{name}{suffix}": value for name, value in track_scores(each, truth.group_ids).summary().items()}
    ceiling = float("nan")
    if groups is not None:
        best = nearest_true_means(groups.field, truth.group_ids)
        ceiling = track_scores(best, truth.group_ids).summary()["t_miou"]
    return numbers | {"t_miou_ceiling": ceiling}
