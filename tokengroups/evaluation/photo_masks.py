"""Groups of the photos' pixels, and their scores against true instances: tracking over the photos, and AP.

A system that segments photos is scored by its own masks. Groups of others are rendered at the predicted cameras of
the photos. Beside them stand planes + HDBSCAN on the same anchors, and for an instance field its ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.clustering import planes_hdbscan
from tokengroups.evaluation.masks import ALPHA_THRESHOLD, GroupMasks, render_features
from tokengroups.evaluation.tracking import nearest_true_means, track_scores
from tokengroups.nearest import nearest
from tokengroups.postprocess import PhotoGroups, Reconstruction
from tokengroups.scene.views import select_cameras
from tokengroups.types import TokenScene, Views

CLUSTERED = 4096  # anchors that planes + HDBSCAN see; others join the nearest of them
SUFFIXES = ("", "_planes_hdbscan")


def photo_masks(prediction: Reconstruction, planes: Float[Tensor, "K n"]) -> dict[str, tuple[GroupMasks, Tensor]]:
    """Masks and labels [V, H, W] of every pixel of the photos (-1 = none), by the suffix of the grouping.

    Args:
        prediction: The reconstruction.
        planes: One-hot groups of its anchors by planes + HDBSCAN.
    """
    scene, own = prediction.scene, prediction.photo_groups
    rendered = rendered_groups(scene, [scene.assignment, planes] if own is None else [planes])
    found = dict(zip(SUFFIXES if own is None else SUFFIXES[1:], rendered, strict=True))
    if own is not None:
        found = {"": (own.labels, own.scores), **found}
    return {suffix: (_as_masks(labels, scores), labels) for suffix, (labels, scores) in found.items()}


def names_of_masks(prediction: Reconstruction) -> tuple[str, ...]:
    """Class names of the masks of the model's own grouping, one for each; "" = unnamed, empty = none named."""
    own = prediction.photo_groups
    return prediction.scene.group_names if own is None else own.names


def rendered_groups(
    scene: TokenScene, groupings: Sequence[Float[Tensor, "K _"]]
) -> list[tuple[Int64[Tensor, "V H W"], Float[Tensor, " _"]]]:
    """Column of the most probable group at every pixel of the context views, as a rendering shows it, -1 = none.

    Beside it stand the scores of the groups, of each grouping of the anchors: mean probabilities over their pixels. One
    view is rendered at a time, which bounds the memory.
    """
    widths = [grouping.shape[1] for grouping in groupings]
    labels: list[list[Tensor]] = [[] for _ in widths]
    sums = [torch.zeros(width, dtype=torch.float64) for width in widths]
    counts = [torch.zeros(width, dtype=torch.int64) for width in widths]
    for view in range(len(scene.cameras.intrinsics)):
        camera = select_cameras(scene.cameras, [view])
        rendered, features = render_features(scene, camera, torch.cat(list(groupings), dim=-1))
        for index, part in enumerate(features[0].split(widths, dim=-1)):
            best, column = part.max(dim=-1)
            column = torch.where(rendered.alphas[0] > ALPHA_THRESHOLD, column, -1)
            labels[index].append(column)
            shown = column >= 0
            mine = column[shown].cpu()
            counts[index] += torch.bincount(mine, minlength=widths[index])
            sums[index] += torch.bincount(mine, best[shown].double().cpu(), minlength=widths[index])
    scores = [(total / count.clamp(min=1)).to(scene.assignment) for total, count in zip(sums, counts, strict=True)]
    return list(zip(map(torch.stack, labels), scores, strict=True))


def _as_masks(labels: Int64[Tensor, "V H W"], scores: Float[Tensor, " L"]) -> GroupMasks:
    masks = labels.flatten()[None] == torch.arange(len(scores), device=labels.device)[:, None]
    return GroupMasks(masks.cpu().numpy(), scores.double().cpu().numpy())


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
    if groups is not None and groups.field is not None:
        best = nearest_true_means(groups.field, truth.group_ids)
        ceiling = track_scores(best, truth.group_ids).summary()["t_miou"]
    return numbers | {"t_miou_ceiling": ceiling}
