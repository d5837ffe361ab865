"""Corners of one photo found in another one: precise matches for poses, as in structure from motion.

Patches are compared after the other photo is warped by the current depth and cameras, so that they look alike in spite
of a turn, another distance or a slanted surface. Only corners are looked for (Shi and Tomasi 1994), and a match counts
if no second place in the search is nearly as good (the idea of Lowe's ratio test, 2004).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import pixel_centres, transform_points
from tokengroups.postprocess.bundle_adjustment.frames import Frame
from tokengroups.postprocess.bundle_adjustment.patch_matching import (
    BORDER_PX,
    MIN_VARIANCE,
    PATCH_RADIUS,
    PixelMatches,
    SearchedPhoto,
    box_mean,
    correlate,
    cut_patches,
    peak_of,
)

MIN_CORRELATION = 0.7
SAME_PEAK_PX = 2  # further away is a second place
LEAST_GAP, SURE_GAP = 0.05, 0.2  # of the correlation to that of the second place: weights grow from 0 to 1


def corner_pixels(photo: SearchedPhoto, step: int) -> Float[Tensor, "Q 2"]:
    """The pixel of every `step` x `step` cell whose patch has the strongest structure in its weaker direction."""
    grey, margin = photo.grey, PATCH_RADIUS + int(BORDER_PX) + 1
    across = functional.pad((grey[:, 2:] - grey[:, :-2]) / 2, (1, 1))
    down = functional.pad((grey[2:] - grey[:-2]) / 2, (0, 0, 1, 1))
    xx, xy, yy = box_mean(across.square()), box_mean(across * down), box_mean(down.square())
    weaker = (xx + yy) / 2 - (((xx - yy) / 2).square() + xy.square()).sqrt()
    inner = functional.pad(weaker[margin:-margin, margin:-margin], (margin,) * 4)
    _, index = functional.max_pool2d(inner[None, None], step, return_indices=True)
    index, width = index.flatten(), grey.shape[1]
    return torch.stack([index % width, index // width], dim=-1).to(grey) + 0.5


def corner_matches(
    source: Frame,
    target: Frame,
    target_from_source: Float[Tensor, "4 4"],
    photo: SearchedPhoto,
    other: SearchedPhoto,
    corners: Float[Tensor, "Q 2"],
    radius: int,
) -> PixelMatches:
    """Find corners of a photo in another one, within `radius` of their own pixels from where the cameras expect them.

    Args:
        source: Photo with the current estimate of its depth and intrinsics.
        target: Photo of the same size that is searched.
        target_from_source: Current relative pose.
        photo: Grey values of the source.
        other: Of the target.
        corners: Pixels of the source.
        radius: Of the search.
    """
    warped, inside = _warp(source, target, target_from_source, other)
    patches = cut_patches(photo.grey, corners, PATCH_RADIUS)
    patches = patches - patches.mean(dim=(1, 2), keepdim=True)
    scores = correlate(patches, warped, corners, radius)
    best, offset, counts = peak_of(scores)
    second = scores.masked_fill(_near_peak(scores), -1.0).flatten(1).amax(dim=1)
    moved = corners + offset
    found = target.project(transform_points(target_from_source, source.lift(moved)))
    height, width = source.size_hw
    column, row = moved.floor().long().unbind(-1)
    counts &= inside[row.clamp(0, height - 1), column.clamp(0, width - 1)]
    counts &= (patches.square().mean(dim=(1, 2)) > MIN_VARIANCE) & (best > MIN_CORRELATION)
    weight = ((best - second - LEAST_GAP) / (SURE_GAP - LEAST_GAP)).clamp(0, 1) * counts
    return PixelMatches(corners, found, weight).with_positive_weight()


def _warp(
    source: Frame, target: Frame, target_from_source: Float[Tensor, "4 4"], other: SearchedPhoto
) -> tuple[SearchedPhoto, Bool[Tensor, "H W"]]:
    """The target as the source would show it, and which of its pixels the target shows."""
    height, width = source.size_hw
    pixels = pixel_centres((height, width), other.grey).flatten(0, 1)
    seen = target.project(transform_points(target_from_source, source.lift(pixels)))
    limits = seen.new_tensor([width, height])
    inside = ((seen > BORDER_PX) & (seen < limits - BORDER_PX)).all(dim=-1).view(height, width)
    grid = (seen / limits * 2 - 1).view(1, height, width, 2)
    grey = functional.grid_sample(other.grey[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    return SearchedPhoto.of_grey(grey), inside


def _near_peak(scores: Float[Tensor, "Q s s"]) -> Bool[Tensor, "Q s s"]:
    """Places around the largest score of each search."""
    side = scores.shape[-1]
    index = scores.flatten(1).argmax(dim=1)
    steps = torch.arange(side, device=scores.device)
    rows = (steps - (index // side)[:, None]).abs() <= SAME_PEAK_PX
    columns = (steps - (index % side)[:, None]).abs() <= SAME_PEAK_PX
    return rows[:, :, None] & columns[:, None, :]
