"""The objective of token groups with additions for small models: mask and contrastive losses on the anchors.

Rendered masks are blurred by every error of the predicted points; anchors are not: the instance at an anchor's photo
pixel says directly which anchors belong together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.bounds import Weight
from tokengroups.data.example import Example
from tokengroups.hungarian import match_groups
from tokengroups.losses.contrastive import supervised_contrastive_loss
from tokengroups.losses.masks import MaskLosses, instance_ids, mask_costs, mask_losses
from tokengroups.systems.token_groups.model import TokenGroupsOutput
from tokengroups.systems.token_groups.objective import (
    TokenGroupsLossWeights,
    TokenGroupsObjective,
    matched_mask_losses,
    mean_of,
    render_groups,
)
from tokengroups.types import Cameras, Views


@dataclass(frozen=True)
class TokenGroupsTinyLossWeights(TokenGroupsLossWeights):
    """Weights of the objective; the last three are additions to the paper's."""

    rendering: Weight = 1.0  # of MSE and LPIPS; 0 = render nothing, learn from the anchors alone: faster
    anchors: Weight = 0.0  # of the mask losses on the anchors, inside the segmentation term
    contrastive: Weight = 0.0  # of the contrastive loss on the anchors' keys, inside the segmentation term

    def __post_init__(self) -> None:
        """Refuse an objective that learns nothing."""
        super().__post_init__()
        if self.rendering == 0 and self.anchors == 0:
            raise ValueError("losses: with rendering 0, anchors must be positive, or nothing is learned")


class TokenGroupsTinyObjective(TokenGroupsObjective):
    """The paper's objective, and losses on the anchors; arguments as there."""

    weights: TokenGroupsTinyLossWeights

    def scene_losses(
        self, output: TokenGroupsOutput, example: Example, cameras: Cameras, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Rendering, mask and contrastive losses: the weighted total and the unweighted terms, 0 where left out."""
        weights = self.weights
        anchor_ids = anchor_instances(example.context, output.anchor_pixels)
        if weights.rendering == 0:
            # Still attached to the Gaussians: distributed training wants every parameter used.
            nothing = output.gaussians.means.sum() * 0
            terms, on_views = {"mse": nothing, "lpips": nothing}, MaskLosses(nothing, nothing)
            pairs = zip(output.assignment, anchor_ids, strict=True)
            on_anchors = mean_of(
                [
                    matched_mask_losses(assignment[None, :, None], ids[None, :, None], weights.masks)
                    for assignment, ids in pairs
                ]
            )
        else:
            rendered = render_groups(output, cameras)
            terms = self.photometric(rendered, example)
            assert rendered.features is not None
            ids = example.targets.group_ids
            scenes = zip(rendered.features, ids, output.assignment, anchor_ids, strict=True)
            both = [joint_mask_losses(*scene, weights) for scene in scenes]
            on_views, on_anchors = mean_of([pair[0] for pair in both]), mean_of([pair[1] for pair in both])
        contrastive = contrastive_loss(output.anchor_keys, anchor_ids, weights.contrastive)
        segmentation = on_views.total(weights.masks)
        segmentation = segmentation + weights.anchors * on_anchors.total(weights.masks)
        segmentation = segmentation + weights.contrastive * contrastive
        photometric = terms["mse"] + weights.lpips * terms["lpips"]
        at_step = weights.segmentation_at(step)
        total = weights.rendering * photometric + at_step * segmentation
        return total, terms | {
            "bce": on_views.bce,
            "dice": on_views.dice,
            "anchor_bce": on_anchors.bce,
            "anchor_dice": on_anchors.dice,
            "contrastive": contrastive,
            "segmentation_weight": total.new_tensor(at_step),
        }


def anchor_instances(context: Views, anchor_pixels: Int64[Tensor, "B K 3"]) -> Int64[Tensor, "B K"]:
    """True instance at the photo pixel of every anchor; -1 = unlabelled."""
    scenes = torch.arange(len(anchor_pixels), device=anchor_pixels.device)[:, None]
    return context.group_ids[(scenes, *anchor_pixels.unbind(-1))]


def contrastive_loss(
    anchor_keys: Float[Tensor, "B K D"], anchor_ids: Int64[Tensor, "B K"], weight: float
) -> Float[Tensor, ""]:
    """Mean over the scenes; zero where its weight is."""
    if weight == 0:
        return anchor_keys.sum() * 0
    pairs = zip(anchor_keys, anchor_ids, strict=True)
    return torch.stack([supervised_contrastive_loss(keys, ids) for keys, ids in pairs]).mean()


def joint_mask_losses(
    probabilities: Float[Tensor, "V H W L"],
    ids: Int64[Tensor, "V H W"],
    assignment: Float[Tensor, "K L"],
    anchor_ids: Int64[Tensor, " K"],
    weights: TokenGroupsTinyLossWeights,
) -> tuple[MaskLosses, MaskLosses]:
    """Mask losses of one scene on its rendered views and on its anchors, by one matching.

    With a positive weight the anchors take part in the matching.
    """
    cost, instances = mask_costs(probabilities, ids, weights.masks), instance_ids(ids)
    if weights.anchors == 0:
        nothing = assignment.sum() * 0
        return mask_losses(probabilities, ids, *match_groups(cost)), MaskLosses(nothing, nothing)
    # Instances without a rendered mask do not count.
    anchor_ids = torch.where(torch.isin(anchor_ids, instances), anchor_ids, -1)
    anchored = instance_ids(anchor_ids)
    as_pixels, as_ids = assignment[None, :, None], anchor_ids[None, :, None]
    columns = torch.searchsorted(instances, anchored)
    cost[:, columns] += weights.anchors * mask_costs(as_pixels, as_ids, weights.masks)
    group_idx, instance_idx = match_groups(cost)
    kept = torch.isin(instances[instance_idx], anchored)
    anchored_idx = torch.searchsorted(anchored, instances[instance_idx[kept]])
    on_anchors = mask_losses(as_pixels, as_ids, group_idx[kept], anchored_idx)
    return mask_losses(probabilities, ids, group_idx, instance_idx), on_anchors
