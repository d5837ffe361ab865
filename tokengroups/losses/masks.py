"""Mask losses of token groups: BCE and Dice between rendered group probabilities and instance masks.

One matching serves all rendered views of a scene. Unlabelled pixels (id -1) do not count. A training step is::

    group_idx, instance_idx = match_groups(mask_costs(probabilities, ids))
    losses = mask_losses(probabilities, ids, group_idx, instance_idx)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.bounds import Settings, Weight

# Probabilities are mapped affinely to [EPS, 1 - EPS] before the logarithm. A clamp would stop the gradient exactly
# where the prediction is most wrong.
EPS = 1e-4


@dataclass(frozen=True)
class MaskLossWeights(Settings):
    """Weights of the two terms, the same in the matching cost and in the loss."""

    bce: Weight = 2.0
    dice: Weight = 1.0


@dataclass(frozen=True)
class MaskLosses:
    """Means over the matched pairs of one scene; zero, still attached to the graph, where nothing matched."""

    bce: Float[Tensor, ""]
    dice: Float[Tensor, ""]

    def total(self, weights: MaskLossWeights) -> Float[Tensor, ""]:
        """Weighted sum of the two terms."""
        return weights.bce * self.bce + weights.dice * self.dice


def instance_ids(ids: Int64[Tensor, "*pixels"]) -> Int64[Tensor, " M"]:
    """Ids of the instances seen anywhere, ascending: the columns of `mask_costs`."""
    return ids[ids >= 0].unique()


@torch.no_grad()
def mask_costs(
    probabilities: Float[Tensor, "V H W L"],
    ids: Int64[Tensor, "V H W"],
    weights: MaskLossWeights = MaskLossWeights(),  # noqa: B008 (frozen)
) -> Float[Tensor, "L M"]:
    """Costs of assigning groups to instances: weighted BCE and Dice over the scene's labelled pixels.

    Args:
        probabilities: Rendered group probabilities in [0, 1]; over the groups they sum to the pixel's alpha.
        ids: Ground-truth instance of every pixel, the same id in all views; -1 = unlabelled.
        weights: Weights of the two terms.

    Returns:
        Float32 costs; column m belongs to ``instance_ids(ids)[m]``.
    """
    predicted = rearrange(probabilities, "V H W L -> (V H W) L").float()
    masks, labelled = _masks(ids)
    squeezed = _squeeze(predicted)
    log_p, log_not_p = squeezed.log(), (1 - squeezed).log()
    # sum_x y log p + (1 - y) log(1 - p) = sum_x y (log p - log(1 - p)) + sum_x log(1 - p)
    likelihood = (log_p - log_not_p).T @ masks + (log_not_p.T @ labelled)[:, None]
    bce = -likelihood / labelled.sum().clamp(min=1)
    dice = dice_error(predicted.T @ masks, (predicted.T @ labelled)[:, None], masks.sum(dim=0)[None])
    return weights.bce * bce + weights.dice * dice


def mask_losses(
    probabilities: Float[Tensor, "V H W L"],
    ids: Int64[Tensor, "V H W"],
    group_idx: Int64[Tensor, " N"],
    instance_idx: Int64[Tensor, " N"],
) -> MaskLosses:
    """BCE (mean over labelled pixels) and Dice of the matched pairs, each averaged over the pairs.

    Groups without an instance have no loss of their own: the softmax over groups already lowers their probabilities.
    Dice is 1 - (2 sum(p y) + 1) / (sum(p) + sum(y) + 1).

    Args:
        probabilities: As in `mask_costs`; gradients flow to it.
        ids: As in `mask_costs`.
        group_idx: Group of each pair.
        instance_idx: Instance of each pair, an index into ``instance_ids(ids)``.

    Example:
        >>> import torch
        >>> from tokengroups.hungarian import match_groups
        >>> from tokengroups.losses.masks import mask_costs, mask_losses
        >>> ids = torch.tensor([[[4, 4, 7, -1]]])  # one view of 1 x 4 pixels; the last is unlabelled
        >>> right = torch.tensor([[[[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]]])  # probabilities of two groups
        >>> pairs = match_groups(mask_costs(right, ids))
        >>> pairs  # group 0 is instance 7, group 1 is instance 4
        (tensor([0, 1]), tensor([1, 0]))
        >>> losses = mask_losses(right, ids, *pairs)
        >>> f"{losses.bce:.4f} {losses.dice:.4f}"
        '0.0001 0.0000'
    """
    predicted = rearrange(probabilities[..., group_idx], "V H W N -> (V H W) N").float()
    if len(group_idx) == 0:
        return MaskLosses(bce=probabilities.float().sum() * 0, dice=probabilities.float().sum() * 0)
    masks, labelled = _masks(ids)
    masks = masks[:, instance_idx]
    squeezed = _squeeze(predicted)
    bce = -torch.where(masks > 0, squeezed, 1 - squeezed).log().mean(dim=1) @ labelled / labelled.sum()
    dice = dice_error((predicted * masks).sum(dim=0), predicted.T @ labelled, masks.sum(dim=0)).mean()
    return MaskLosses(bce, dice)


def _masks(ids: Tensor) -> tuple[Float[Tensor, "X M"], Float[Tensor, " X"]]:
    """Instance masks, all zero at unlabelled pixels, and the labelled pixels, as 0 and 1.

    Float32 on purpose, as are all sums here: half precision is too coarse for many thousand pixels.
    """
    flat = ids.flatten()
    return (flat[:, None] == instance_ids(ids)).float(), (flat >= 0).float()


def _squeeze(probabilities: Tensor) -> Tensor:
    return EPS + (1 - 2 * EPS) * probabilities


def dice_error(
    overlap: Float[Tensor, "*n"],
    predicted_size: Float[Tensor, "*#n"],
    mask_size: Float[Tensor, "*#n"],
    smoothing: float = 1,
) -> Float[Tensor, "*n"]:
    """One minus the Dice coefficient of soft masks, by the sums of their products and of their values.

    Args:
        overlap: Sum of the products.
        predicted_size: Sum of the prediction.
        mask_size: Sum of the mask.
        smoothing: Laplace's; what two empty masks agree by.
    """
    return 1 - (2 * overlap + smoothing) / (predicted_size + mask_size + smoothing)
