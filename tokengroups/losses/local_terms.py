"""Losses on local differences of predicted maps: the third term of VGGT's dense heads."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

LIMIT = 100.0  # errors beyond it are clamped
GRADIENT_STRIDES, NORMAL_STRIDES = (1, 2, 4, 8), (1, 2, 4)
MIN_NORMALS = 10  # a scale with fewer valid normals does not count


def gradient_loss(
    predicted: Float[Tensor, "N H W C"], target: Float[Tensor, "N H W C"], valid: Bool[Tensor, "N H W"]
) -> Float[Tensor, ""]:
    """Mean differences between neighbours in the error field, averaged over the strides."""
    total = predicted.new_zeros(())
    error = torch.where(valid[..., None], predicted - target, 0.0)
    for step in GRADIENT_STRIDES:
        field, mask = error[:, ::step, ::step], valid[:, ::step, ::step]
        horizontal = (field[:, :, 1:] - field[:, :, :-1]).abs().clamp(max=LIMIT)
        vertical = (field[:, 1:] - field[:, :-1]).abs().clamp(max=LIMIT)
        both = (horizontal * (mask[:, :, 1:] & mask[:, :, :-1])[..., None]).sum()
        both = both + (vertical * (mask[:, 1:] & mask[:, :-1])[..., None]).sum()
        total = total + both / (mask.sum() * predicted.shape[-1]).clamp(min=1)
    return total / len(GRADIENT_STRIDES)


def normal_loss(
    predicted: Float[Tensor, "N H W 3"], target: Float[Tensor, "N H W 3"], valid: Bool[Tensor, "N H W"]
) -> Float[Tensor, ""]:
    """1 - cosine between the normals that neighbours span, averaged over the strides."""
    total = predicted.new_zeros(())
    for step in NORMAL_STRIDES:
        at = (slice(None), slice(None, None, step), slice(None, None, step))
        mask = neighbour_masks(valid[at])
        if mask.sum() < MIN_NORMALS:
            continue
        cosine = (neighbour_normals(predicted[at]) * neighbour_normals(target[at])).sum(dim=-1)
        error = 1 - cosine.clamp(-1 + 1e-8, 1 - 1e-8)
        total = total + torch.where(mask, error, 0.0).sum() / mask.sum()
    return total / len(NORMAL_STRIDES)


def neighbour_normals(points: Float[Tensor, "N H W 3"]) -> Float[Tensor, "4 N h w 3"]:
    """Unit normals at inner pixels from the pairs up-left, left-down, down-right, right-up."""
    centre = points[:, 1:-1, 1:-1]
    up, down = points[:, :-2, 1:-1] - centre, points[:, 2:, 1:-1] - centre
    left, right = points[:, 1:-1, :-2] - centre, points[:, 1:-1, 2:] - centre
    pairs = [(up, left), (left, down), (down, right), (right, up)]
    return functional.normalize(torch.stack([torch.linalg.cross(a, b) for a, b in pairs]), dim=-1, eps=1e-12)


def neighbour_masks(valid: Bool[Tensor, "N H W"]) -> Bool[Tensor, "4 N h w"]:
    """Masks of the normals of `neighbour_normals` that rest on three valid pixels."""
    centre = valid[:, 1:-1, 1:-1]
    up, down = valid[:, :-2, 1:-1] & centre, valid[:, 2:, 1:-1] & centre
    left, right = valid[:, 1:-1, :-2] & centre, valid[:, 1:-1, 2:] & centre
    return torch.stack([up & left, left & down, down & right, right & up])
