"""What object queries are trained for: the instances of a scene on the grid of the mask features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.bounds import Count, Settings
from tokengroups.types import TensorFields


@dataclass(frozen=True)
class QueryTargetConfig(Settings):
    """How photos' masks become targets.

    The paper says nothing about it. Tags: [T] a reproduction does it so, [?] unknown.
    """

    resizing: Literal["majority", "mean"] = "majority"  # [T] cells of which over half is the instance's, or its share
    frame_counts: Literal["masks", "photos"] = "masks"  # [?] pixels of which a frame's share is one: resized or not
    min_cells: Count = 1  # [T] instances with smaller resized masks, over all frames, are left out


@dataclass(frozen=True)
class InstanceTargets(TensorFields):
    """The instances of one scene that a class is known of, by ascending id."""

    ids: Int64[Tensor, " M"]
    classes: Int64[Tensor, " M"]  # -1 = it trains masks alone
    masks: Float[Tensor, "M V h w"]  # in [0, 1]
    frame_shares: Float[Tensor, "M V"]  # of its pixels; rows sum to 1, exactly 0 where it is not seen

    def labels(self) -> Int64[Tensor, "V h w"]:
        """Index of the instance that fills over half of a cell, -1 = none does."""
        if len(self.masks) == 0:
            return torch.full(self.masks.shape[1:], -1, device=self.masks.device)
        share, instance = self.masks.max(dim=0)
        return torch.where(share > 0.5, instance, -1)


@torch.no_grad()
def instance_targets(
    ids: Int64[Tensor, "V H W"],
    classes: Mapping[int, int],
    size_hw: tuple[int, int],
    config: QueryTargetConfig = QueryTargetConfig(),  # noqa: B008 (frozen)
) -> InstanceTargets:
    """Masks, classes and shares of the frames; all other pixels are no instance, which masks must not cover.

    Args:
        ids: Instance of every pixel, the same id in all frames; -1 = unlabelled.
        classes: Index of the class of each instance; those without one, such as walls on ScanNet, are no instance. -1
            stands for a class that is not to be learnt.
        size_hw: Of the mask features.
        config: Open points of the paper.

    Example:
        >>> import torch
        >>> from tokengroups.losses.query_targets import instance_targets
        >>> ids = torch.tensor([[[7, 7, -1, 3], [7, 7, 3, 3]], [[-1, -1, 3, 3], [-1, 5, 3, 3]]])
        >>> targets = instance_targets(ids, {3: 0, 5: 1, 7: 0}, (1, 2))
        >>> targets.ids, targets.masks.flatten(1)  # 5 vanishes
        (tensor([3, 7]), tensor([[0., 1., 0., 1.],
                [1., 0., 0., 0.]]))
        >>> targets.frame_shares
        tensor([[0.5000, 0.5000],
                [1.0000, 0.0000]])
    """
    known = [instance for instance in ids.unique().tolist() if instance in classes]
    found = [_resized(ids == instance, size_hw, config.resizing) for instance in known]
    masks = torch.stack(found) if found else torch.zeros(0, len(ids), *size_hw, device=ids.device)
    kept = masks.sum(dim=(1, 2, 3)) >= config.min_cells
    instances = torch.tensor(known, dtype=torch.int64, device=ids.device)[kept]
    indices = torch.tensor([classes[instance] for instance in instances.tolist()], dtype=torch.int64, device=ids.device)
    masks = masks[kept]
    counts = masks.sum(dim=(2, 3)) if config.frame_counts == "masks" else _photo_counts(ids, instances)
    return InstanceTargets(instances, indices, masks, counts / counts.sum(dim=1, keepdim=True))


def _resized(mask: Bool[Tensor, "V H W"], size_hw: tuple[int, int], rule: str) -> Float[Tensor, "V h w"]:
    shares = functional.adaptive_avg_pool2d(mask.float(), size_hw)
    return shares if rule == "mean" else (shares > 0.5).float()


def _photo_counts(ids: Int64[Tensor, "V H W"], instances: Int64[Tensor, " M"]) -> Float[Tensor, "M V"]:
    counts = [(ids == instance).sum(dim=(1, 2)) for instance in instances.tolist()]
    return torch.stack(counts).float() if counts else torch.zeros(0, len(ids), device=ids.device)
