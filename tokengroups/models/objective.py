"""The training objective of token groups: rendering plus Hungarian-matched masks with a warm-up (paper A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import median_distance_ratio, relative_cameras, transform_points, world_points
from tokengroups.losses.masks import MaskLosses, MaskLossWeights, mask_costs, mask_losses
from tokengroups.matching import match_groups
from tokengroups.models.token_groups import TokenGroupsOutput
from tokengroups.render import RenderOutput, render
from tokengroups.types import Cameras, Views

PerceptualLoss = Callable[[Float[Tensor, "M 3 H W"], Float[Tensor, "M 3 H W"]], Float[Tensor, " M"]]


@dataclass(frozen=True)
class TokenGroupsLossWeights:
    """Weights of the objective; the paper does not publish its own."""

    lpips: float = 0.05
    segmentation: float = 0.05
    segmentation_warmup_steps: int = 1500  # linear, from the paper
    masks: MaskLossWeights = field(default_factory=MaskLossWeights)


@dataclass(frozen=True)
class TokenGroupsLosses:
    """Unweighted terms, each the mean over the scenes of the batch; `lpips` is 0 when it is not computed."""

    mse: Float[Tensor, ""]
    lpips: Float[Tensor, ""]
    bce: Float[Tensor, ""]
    dice: Float[Tensor, ""]

    def total(self, weights: TokenGroupsLossWeights, step: int) -> Float[Tensor, ""]:
        """L_mse + lambda_lpips L_lpips + lambda_seg(step) (lambda_bce L_bce + lambda_dice L_dice)."""
        segmentation = MaskLosses(self.bce, self.dice).total(weights.masks)
        return self.mse + weights.lpips * self.lpips + segmentation_weight(weights, step) * segmentation


def segmentation_weight(weights: TokenGroupsLossWeights, step: int) -> float:
    """lambda_seg at a step: rises linearly to its value over the warm-up."""
    if weights.segmentation_warmup_steps == 0:
        return weights.segmentation
    return weights.segmentation * min(1.0, step / weights.segmentation_warmup_steps)


def supervision_cameras(
    targets: Views, context: Views, predicted_points: Float[Tensor, "B V H W 3"]
) -> Cameras:
    """Ground-truth cameras of the target views in the world of the prediction: first camera and one scale.

    The scale is the median over context pixels of the predicted point's distance from the first camera over the
    true point's. No target pixel is used.
    """
    first = context.cameras.cam_from_world[:, 0]
    true_points = world_points(context.depth, context.cameras.cam_from_world, context.cameras.intrinsics)
    true_points = transform_points(first, rearrange(true_points, "b v h w c -> b (v h w) c"))
    predicted = rearrange(predicted_points, "b v h w c -> b (v h w) c")
    scale = median_distance_ratio(predicted, true_points, context.depth.flatten(1) > 0)
    cam_from_first = relative_cameras(targets.cameras.cam_from_world, first, scale)
    return Cameras(cam_from_first, targets.cameras.intrinsics, targets.cameras.size_hw)


def render_groups(output: TokenGroupsOutput, cameras: Cameras) -> RenderOutput:
    """Render colours and group probabilities of all scenes from their cameras."""
    return render(
        output.gaussians,
        cameras.cam_from_world,
        cameras.intrinsics,
        cameras.size_hw,
        anchor_ids=output.anchor_ids,
        anchor_features=output.assignment,
    )


def token_groups_losses(
    rendered: RenderOutput, targets: Views, weights: TokenGroupsLossWeights, perceptual: PerceptualLoss | None
) -> TokenGroupsLosses:
    """Compare rendered views with the photos and instance masks of the target views.

    Groups are matched to instances once per scene over all its views together; unlabelled pixels are ignored.

    Args:
        rendered: From `render_groups`, cameras of `targets`.
        targets: Photos and instance ids.
        weights: Its mask weights enter the matching cost.
        perceptual: Per-image LPIPS, or None to leave the term out.
    """
    photos = rearrange(rendered.colors, "b v h w c -> b v c h w")
    mse = (photos - targets.images).square().mean()
    lpips = mse.new_zeros(())
    if perceptual is not None:
        lpips = perceptual(photos.flatten(0, 1), targets.images.flatten(0, 1)).mean()
    assert rendered.features is not None
    per_scene = []
    for probabilities, ids in zip(rendered.features, targets.group_ids, strict=True):
        group_idx, instance_idx = match_groups(mask_costs(probabilities, ids, weights.masks))
        per_scene.append(mask_losses(probabilities, ids, group_idx, instance_idx))
    bce = torch.stack([losses.bce for losses in per_scene]).mean()
    dice = torch.stack([losses.dice for losses in per_scene]).mean()
    return TokenGroupsLosses(mse, lpips, bce, dice)
