"""The training objective of token groups: rendering plus Hungarian-matched masks with a warm-up (paper A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.geometry import median_distance_ratio, relative_cameras, transform_points, world_points
from tokengroups.hungarian import match_groups
from tokengroups.losses.contrastive import supervised_contrastive_loss
from tokengroups.losses.masks import MaskLosses, MaskLossWeights, instance_ids, mask_costs, mask_losses
from tokengroups.render import RenderOutput, render
from tokengroups.systems.token_groups.decoder import TokenGroupsOutput
from tokengroups.types import Cameras, Views

PerceptualLoss = Callable[[Float[Tensor, "M 3 H W"], Float[Tensor, "M 3 H W"]], Float[Tensor, " M"]]


@dataclass(frozen=True)
class TokenGroupsLossWeights:
    """Weights of the objective; the paper does not publish its own."""

    rendering: float = 1.0  # 0 = render nothing, learn from masks on the anchors alone: faster
    lpips: float = 0.05
    segmentation: float = 0.05
    segmentation_warmup_steps: int = 1500  # linear, from the paper
    anchors: float = 0.0  # share of the mask losses on the anchors themselves, an addition to the paper
    contrastive: float = 0.0  # share of the contrastive loss on the anchors' keys, another one
    distillation: float = 0.0  # of a teacher's features into the groups' semantics
    masks: MaskLossWeights = field(default_factory=MaskLossWeights)

    def __post_init__(self) -> None:
        if self.rendering == 0 and self.anchors == 0:
            raise ValueError("losses: with rendering 0, anchors must be positive, or nothing is learned")


@dataclass(frozen=True)
class TokenGroupsLosses:
    """Unweighted terms, each the mean over the scenes of the batch; 0 where a term is not computed."""

    mse: Float[Tensor, ""]
    lpips: Float[Tensor, ""]
    bce: Float[Tensor, ""]
    dice: Float[Tensor, ""]
    anchor_bce: Float[Tensor, ""]
    anchor_dice: Float[Tensor, ""]
    contrastive: Float[Tensor, ""]

    def named(self) -> dict[str, Tensor]:
        """Terms by name, for logs."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def total(self, weights: TokenGroupsLossWeights, step: int) -> Float[Tensor, ""]:
        """L_mse + lambda_lpips L_lpips + lambda_seg(step) (lambda_bce L_bce + lambda_dice L_dice).

        `rendering` scales the first two terms, `anchors` and `contrastive` what the anchors add to the last one.
        """
        segmentation = MaskLosses(self.bce, self.dice).total(weights.masks)
        on_anchors = MaskLosses(self.anchor_bce, self.anchor_dice).total(weights.masks)
        segmentation = segmentation + weights.anchors * on_anchors + weights.contrastive * self.contrastive
        photometric = self.mse + weights.lpips * self.lpips
        return weights.rendering * photometric + segmentation_weight(weights, step) * segmentation


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


def anchor_instances(context: Views, anchor_pixels: Int64[Tensor, "B K 3"]) -> Int64[Tensor, "B K"]:
    """True instance at the photo pixel of every anchor; -1 = unlabelled."""
    scenes = torch.arange(len(anchor_pixels), device=anchor_pixels.device)[:, None]
    return context.group_ids[(scenes, *anchor_pixels.unbind(-1))]


def anchor_losses(
    output: TokenGroupsOutput, anchor_ids: Int64[Tensor, "B K"], weights: TokenGroupsLossWeights
) -> TokenGroupsLosses:
    """The mask losses on the anchors, with their own matching; nothing is rendered.

    Photometric terms are zero, still attached to the Gaussians: distributed training wants every parameter used.

    Args:
        output: Decoded token groups.
        anchor_ids: True instances of the anchors.
        weights: Its mask weights enter the matching cost.
    """
    nothing = output.gaussians.means.sum() * 0
    per_scene = []
    for assignment, ids in zip(output.assignment, anchor_ids, strict=True):
        as_pixels, as_ids = assignment[None, :, None], ids[None, :, None]
        pairs = match_groups(mask_costs(as_pixels, as_ids, weights.masks))
        per_scene.append(mask_losses(as_pixels, as_ids, *pairs))
    return TokenGroupsLosses(
        mse=nothing,
        lpips=nothing,
        bce=nothing,
        dice=nothing,
        anchor_bce=torch.stack([losses.bce for losses in per_scene]).mean(),
        anchor_dice=torch.stack([losses.dice for losses in per_scene]).mean(),
        contrastive=contrastive_loss(output.anchor_keys, anchor_ids, weights),
    )


def contrastive_loss(
    anchor_keys: Float[Tensor, "B K D"], anchor_ids: Int64[Tensor, "B K"], weights: TokenGroupsLossWeights
) -> Float[Tensor, ""]:
    """Mean over the scenes; zero where its weight is."""
    if weights.contrastive == 0:
        return anchor_keys.sum() * 0
    pairs = zip(anchor_keys, anchor_ids, strict=True)
    return torch.stack([supervised_contrastive_loss(keys, ids) for keys, ids in pairs]).mean()


def token_groups_losses(
    rendered: RenderOutput,
    targets: Views,
    weights: TokenGroupsLossWeights,
    perceptual: PerceptualLoss | None,
    output: TokenGroupsOutput,
    anchor_ids: Int64[Tensor, "B K"],
) -> TokenGroupsLosses:
    """Compare rendered views with the photos and instance masks of the target views.

    Groups are matched to instances once per scene over all its views together; unlabelled pixels are ignored.

    Args:
        rendered: From `render_groups`, cameras of `targets`.
        targets: Photos and instance ids.
        weights: Its mask weights enter the matching cost.
        perceptual: Per-image LPIPS, or None to leave the term out.
        output: What was rendered.
        anchor_ids: True instances of the anchors; only used if `weights.anchors` or `weights.contrastive` is positive.
    """
    photos = rearrange(rendered.colors, "b v h w c -> b v c h w")
    mse = (photos - targets.images).square().mean()
    lpips = mse.new_zeros(())
    if perceptual is not None:
        lpips = perceptual(photos.flatten(0, 1), targets.images.flatten(0, 1)).mean()
    assert rendered.features is not None
    scenes = zip(rendered.features, targets.group_ids, output.assignment, anchor_ids, strict=True)
    on_views, on_anchors = zip(*(scene_mask_losses(*scene, weights) for scene in scenes), strict=True)
    return TokenGroupsLosses(
        mse=mse,
        lpips=lpips,
        bce=torch.stack([losses.bce for losses in on_views]).mean(),
        dice=torch.stack([losses.dice for losses in on_views]).mean(),
        anchor_bce=torch.stack([losses.bce for losses in on_anchors]).mean(),
        anchor_dice=torch.stack([losses.dice for losses in on_anchors]).mean(),
        contrastive=contrastive_loss(output.anchor_keys, anchor_ids, weights),
    )


def scene_mask_losses(
    probabilities: Float[Tensor, "V H W L"],
    ids: Int64[Tensor, "V H W"],
    assignment: Float[Tensor, "K L"],
    anchor_ids: Int64[Tensor, " K"],
    weights: TokenGroupsLossWeights,
) -> tuple[MaskLosses, MaskLosses]:
    """Mask losses of one scene on its rendered views and on its anchors, by one matching.

    Rendered masks are blurred by every error of the predicted points, anchors are not: their photo pixel's instance
    says directly which of them belong together. With a positive weight they take part in the matching too.
    """
    cost, instances = mask_costs(probabilities, ids, weights.masks), instance_ids(ids)
    if weights.anchors == 0:
        nothing = assignment.sum() * 0
        return mask_losses(probabilities, ids, *match_groups(cost)), MaskLosses(nothing, nothing)
    anchor_ids = torch.where(
        torch.isin(anchor_ids, instances), anchor_ids, -1
    )  # others have no rendered mask
    anchored = instance_ids(anchor_ids)
    as_pixels, as_ids = assignment[None, :, None], anchor_ids[None, :, None]
    columns = torch.searchsorted(instances, anchored)
    cost[:, columns] += weights.anchors * mask_costs(as_pixels, as_ids, weights.masks)
    group_idx, instance_idx = match_groups(cost)
    kept = torch.isin(instances[instance_idx], anchored)
    anchored_idx = torch.searchsorted(anchored, instances[instance_idx[kept]])
    on_anchors = mask_losses(as_pixels, as_ids, group_idx[kept], anchored_idx)
    return mask_losses(probabilities, ids, group_idx, instance_idx), on_anchors
