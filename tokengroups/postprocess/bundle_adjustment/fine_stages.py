"""Further stages of bundle adjustment on photos with more pixels than the encoder reads."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.geometry import invert_rigid
from tokengroups.postprocess.bundle_adjustment.corner_matching import corner_matches, corner_pixels
from tokengroups.postprocess.bundle_adjustment.covisibility import covisible_pairs, directions, overlap_shares
from tokengroups.postprocess.bundle_adjustment.frames import Frame
from tokengroups.postprocess.bundle_adjustment.gauss_newton import (
    BundleAdjustmentSettings,
    Estimate,
    ViewMatches,
    adjust,
)
from tokengroups.postprocess.bundle_adjustment.patch_matching import PATCH_RADIUS, SearchedPhoto, inside_by
from tokengroups.postprocess.bundle_adjustment.residuals import (
    CORRECTED_DEPTH_STD,
    DEPTH_CONSISTENCY_STD,
    DEPTH_CONSISTENCY_WEIGHT,
    DEPTH_STD,
    Noise,
)
from tokengroups.postprocess.full_photos import resized_mask

FINE_PARTNERS = 4  # of every view
CORNER_CELLS = 32  # along the longer side of a photo, with one corner each
PARALLAX_SHARE = 0.15  # of a photo's longer side: `fine_focal_prior_std` is for so much or less, and grows beyond
LARGEST_PARALLAX_FACTOR = 4.0
CORNER_STD_PX = 1.0  # of the match of a corner


def fine_sizes(settings: BundleAdjustmentSettings, images: Tensor, full_photos: Tensor | None) -> list[int]:
    """Sides of further stages: those of the settings, above the photos' own and up to the full photos'."""
    if full_photos is None:
        return []
    own, largest = max(images.shape[-2:]), max(full_photos.shape[-2:])
    return sorted({min(size, largest) for size in settings.fine_sizes if min(size, largest) > own})


def fine_focal_std(settings: BundleAdjustmentSettings, frames: list[Frame], poses: Float[Tensor, "V 4 4"]) -> float:
    """Standard deviation of the prior on the focal length where many matches of fine photos are to come.

    Their noise hardly counts, but what is common to all of them does, such as lens distortion: it moves the focal
    length the more, the less parallax there is between covisible photos.
    """
    centres = invert_rigid(poses)[:, :3, 3]
    shares = []
    for first, second in covisible_pairs(overlap_shares(frames, poses)):
        distance = torch.stack([frames[view].depth.median() for view in (first, second)]).mean()
        baseline = (centres[first] - centres[second]).norm()
        shares.append(baseline / distance * frames[first].focal[0] / max(frames[first].size_hw))
    factor = (float(torch.stack(shares).median()) / PARALLAX_SHARE) ** 2
    std = settings.fine_focal_prior_std * min(max(factor, 1.0), LARGEST_PARALLAX_FACTOR)
    return min(settings.focal_prior_std, std)


def refine_finely(
    predicted: list[Frame],
    estimate: Estimate,
    photos: Float[Tensor, "V 3 F G"],
    settings: BundleAdjustmentSettings,
    mask: Bool[Tensor, "V H W"] | None,
) -> Estimate:
    """Go on with corners of photos that have more pixels, poses first, then depth too.

    Priors of poses and depths start anew, that of the focal length does not: what is not observed would drift.
    """
    size_hw = (photos.shape[-2], photos.shape[-1])
    nodes = torch.zeros_like(estimate.nodes)
    corrected = replace(estimate, log_focal=torch.zeros_like(estimate.log_focal)).frames(predicted)
    frames = [frame.resized(photo) for frame, photo in zip(corrected, photos, strict=True)]
    start = Estimate(estimate.poses, torch.zeros_like(estimate.log_focal), nodes)
    fine = Estimate(estimate.poses, estimate.log_focal, nodes)
    pairs = covisible_pairs(overlap_shares(fine.frames(frames), estimate.poses), FINE_PARTNERS)
    searched = [SearchedPhoto.of(photo) for photo in photos]
    corners = [corner_pixels(photo, max(size_hw) // CORNER_CELLS) for photo in searched]
    if mask is not None:
        mask = inside_by(resized_mask(mask, size_hw), PATCH_RADIUS)
    for stage, radius in enumerate(settings.fine_search_radii_px):
        now, matches = fine.frames(frames), []
        for source, target in directions(pairs, both_ways=True):
            ends, motion = (now[source], now[target]), fine.relative(source, target)
            grey = searched[source], searched[target]
            found = corner_matches(*ends, motion, *grey, corners[source], radius)
            matches.append(ViewMatches(source, target, found).within(mask))
        if stage < len(settings.fine_search_radii_px) - 1 and not settings.fixed_cameras:
            noise = Noise(CORNER_STD_PX, settings.corner_weight, DEPTH_STD)
            fine = adjust(frames, start, fine, matches, noise, settings)
        else:
            consistency = DEPTH_CONSISTENCY_WEIGHT, DEPTH_CONSISTENCY_STD
            noise = Noise(CORNER_STD_PX, settings.corner_weight, CORRECTED_DEPTH_STD, *consistency)
            fine = adjust(frames, start, fine, matches, noise, settings, fine.log_focal)
    return replace(fine, nodes=estimate.nodes + fine.nodes)
