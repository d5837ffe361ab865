"""Quality of a fitted scene on held-out photos."""

from __future__ import annotations

import math

from tokengroups.evaluation.masks import group_masks, group_overlaps, group_scores, render_features
from tokengroups.losses.photometric import psnr
from tokengroups.types import Cameras, TokenScene, Views


def score_fit(scene: TokenScene, views: Views, cameras: Cameras) -> dict[str, float | None]:
    """PSNR and mask AP, rounded; None where nothing is labelled.

    Args:
        scene: The fitted scene.
        views: The held-out photos [V, 3, H, W] with their masks; the PSNR is of the pixels of `mask`.
        cameras: Cameras of these photos in the world of the scene.
    """
    rendered, probabilities = render_features(scene, cameras, scene.assignment)
    masks = group_masks(probabilities, rendered.alphas)
    scores = group_scores([group_overlaps(masks, views.group_ids.numpy(), {})])
    quality = psnr(rendered.colors.permute(0, 3, 1, 2).clamp(0, 1), views.images, views.mask).mean()
    numbers: dict[str, float | None] = {"psnr": round(float(quality), 2)}
    for name in ("ap", "ap50", "ap25"):
        value = scores[f"{name}_all"]
        numbers[name] = None if math.isnan(value) else round(value, 3)
    return numbers
