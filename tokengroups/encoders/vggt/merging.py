"""Attention among many views with similar tokens merged: training-free and approximate.

After FastVGGT (Shen et al., arXiv 2509.02560), which merges tokens as ToMe does (Bolya et al. 2023): the first view,
the special tokens and a grid of patches stay; of all others the most similar ones join one of these. Attention runs
on means, where a mean of n tokens counts n times as a key, and all members take its result.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.nn.blocks import attend

MIN_VIEWS = 8  # fewer are not worth it: attention is a small part of the cost
STRIDE = 3  # of the grid of patches that stay
SHARE = 0.9  # of the other patches, which are merged
_ROWS = 2048  # tokens compared at a time


def merged_attention(
    q: Float[Tensor, "B h N d"],
    k: Float[Tensor, "B h N d"],
    v: Float[Tensor, "B h N d"],
    grid_hw: tuple[int, int],
    num_special: int,
) -> Float[Tensor, "B h N d"]:
    """Approximate `attend` for the tokens of several views, one after the other, first view first."""
    stays = staying_tokens(q.shape[2], grid_hw, num_special, q.device)
    scenes = zip(q.split(1), k.split(1), v.split(1), strict=True)
    return torch.cat([_one_scene(one_q, one_k, one_v, stays) for one_q, one_k, one_v in scenes])


def staying_tokens(count: int, grid_hw: tuple[int, int], num_special: int, device: torch.device) -> Bool[Tensor, " N"]:
    """Which tokens never join another one."""
    rows, columns = (torch.arange(side, device=device) % STRIDE == STRIDE // 2 for side in grid_hw)
    special = torch.ones(num_special, dtype=torch.bool, device=device)
    view = torch.cat([special, (rows[:, None] & columns).flatten()])
    stays = view.repeat(count // len(view))
    stays[: len(view)] = True
    return stays


def _one_scene(
    q: Float[Tensor, "1 h N d"], k: Float[Tensor, "1 h N d"], v: Float[Tensor, "1 h N d"], stays: Bool[Tensor, " N"]
) -> Float[Tensor, "1 h N d"]:
    place, count = merge_plan(k[0], stays)
    sizes = torch.bincount(place, minlength=count)
    mask = sizes.log().to(v.dtype).expand(1, 1, 1, -1)
    q, k, v = (_means(x, place, sizes) for x in (q, k, v))
    return attend(q, k, v, mask)[:, :, place]


@torch.no_grad()
def merge_plan(keys: Float[Tensor, "h N d"], stays: Bool[Tensor, " N"]) -> tuple[Int64[Tensor, " N"], int]:
    """The merged token that each token becomes part of, and their number; most similar by the keys of all heads."""
    tokens = functional.normalize(keys.movedim(0, 1).flatten(1), dim=-1)
    targets, others = stays.nonzero()[:, 0], (~stays).nonzero()[:, 0]
    nearest = [(tokens[part] @ tokens[targets].T).max(dim=1) for part in others.split(_ROWS)]
    likeness, target = (torch.cat([found[i] for found in nearest]) for i in (0, 1))
    order = likeness.argsort(descending=True, stable=True)
    merged, alone = order.tensor_split([round(SHARE * len(others))])
    place = torch.empty_like(stays, dtype=torch.int64)
    place[targets] = torch.arange(len(targets), device=place.device)
    place[others[merged]] = target[merged]
    place[others[alone]] = len(targets) + torch.arange(len(alone), device=place.device)
    return place, len(targets) + len(alone)


def _means(
    x: Float[Tensor, "1 h N d"], place: Int64[Tensor, " N"], sizes: Int64[Tensor, " M"]
) -> Float[Tensor, "1 h M d"]:
    sums = torch.zeros(*x.shape[:2], len(sizes), x.shape[3], device=x.device)
    sums.index_add_(2, place, x.float())
    return (sums / sizes[:, None]).to(x.dtype)
