"""Quality of a fitted scene on photos that were kept out."""

from __future__ import annotations

from tokengroups.evaluation.masks import group_masks, group_overlaps, group_scores
from tokengroups.losses.photometric import psnr
from tokengroups.render import render
from tokengroups.types import Cameras, TokenScene, Views


def score_fit(scene: TokenScene, views: Views, cameras: Cameras) -> dict[str, float | None]:
    """PSNR and mask AP, rounded; None where nothing is labelled.

    Args:
        scene: The fitted scene.
        views: The photos [V, 3, H, W] that were kept out, with their masks.
        cameras: Theirs, in the world of the scene.
    """
    out = render(
        scene.gaussians,
        cameras.cam_from_world,
        cameras.intrinsics,
        cameras.size_hw,
        anchor_ids=scene.anchor_ids,
        anchor_features=scene.assignment,
    )
    assert out.features is not None
    masks = group_masks(out.features, out.alphas)
    scores = group_scores([group_overlaps(masks, views.group_ids.numpy(), {})]).all
    quality = psnr(out.colors.permute(0, 3, 1, 2).clamp(0, 1), views.images).mean()
    return {
        "psnr": round(float(quality), 2),
        **{name: _number(getattr(scores, name)) for name in ("ap", "ap50", "ap25")},
    }


def _number(value: float) -> float | None:
    return round(value, 3) if value == value else None  # NaN: nothing labelled to find
