"""Bundle adjustment of predicted cameras and depth on matched pixels, in stages.

A small network regresses poses to a few degrees, focal lengths and depth to some per cent; matched pixels constrain
them better. Covisible views are adjusted to each other, independent of the order of the photos: a photo that shares
nothing with the first one is tied to others. Poses and focal length come first, from matches of cells where an encoder
gives descriptors, then from many small patches found near where the cameras predict them. Then depth is adjusted too,
smoothly corrected to what two views of the same patch triangulate (`gauss_newton`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.geometry import rigid, transform_points
from tokengroups.postprocess.bundle_adjustment.covisibility import covisible_pairs, directions, overlap_shares
from tokengroups.postprocess.bundle_adjustment.fine_stages import fine_focal_std, fine_sizes, refine_finely
from tokengroups.postprocess.bundle_adjustment.frames import Frame
from tokengroups.postprocess.bundle_adjustment.gauss_newton import (
    CORRECTION_NODES,
    BundleAdjustmentSettings,
    Estimate,
    ViewMatches,
    adjust,
)
from tokengroups.postprocess.bundle_adjustment.patch_matching import (
    PATCH_RADIUS,
    PixelMatches,
    SearchedPhoto,
    cell_matches,
    grid_pixels,
    inside_by,
    patch_matches,
)
from tokengroups.postprocess.bundle_adjustment.residuals import (
    CORRECTED_DEPTH_STD,
    DEPTH_CONSISTENCY_STD,
    DEPTH_CONSISTENCY_WEIGHT,
    DEPTH_STD,
    Noise,
)
from tokengroups.postprocess.full_photos import reduced_photos
from tokengroups.postprocess.mutual_matches import cells_that_count, mutual_shares
from tokengroups.types import Cameras

CELL_STD_PX = 2.0  # of a cell's match
PATCH_STEP_PX = 4  # between the patches of a view
MANY_VIEWS_PATCH_STEP_PX = 5  # where many views see each patch
WIDE_SEARCH_RADIUS_PX = 16
WIDE_SEARCH_STD_PX = 2.0
MANY_VIEWS = 4  # from here on, searching patches in one direction is enough for poses, and fewer patches are
MAX_UNIT_POWER = 8


@torch.no_grad()
def refine_geometry(
    images: Float[Tensor, "B V 3 H W"],
    cameras: Cameras,
    depth: Float[Tensor, "B V H W"],
    descriptors: Float[Tensor, "B V Q D"] | None = None,
    settings: BundleAdjustmentSettings = BundleAdjustmentSettings(),  # noqa: B008 (frozen)
    mask: Bool[Tensor, "B V H W"] | None = None,
    full_photos: Float[Tensor, "B V 3 F G"] | None = None,
) -> tuple[Cameras, Float[Tensor, "B V H W"]]:
    """Adjust poses, one factor on all focal lengths, and depth; view 0 stays the world, a single view is unchanged.

    Args:
        images: Photos in [0, 1].
        cameras: Predicted, batch axes B V; the pose of view 0 is the identity.
        depth: Predicted depth.
        descriptors: Match descriptors of the cells of a grid over every image, row-major; None: covisibility comes
            from depth and cameras, and matches from patches alone.
        settings: Noise model and prior.
        mask: Pixels that may be matched; None = all.
        full_photos: The photos with more pixels, for further stages on finer patches; None = no such stages.
    """
    if images.shape[1] == 1:
        return cameras, depth
    sizes = fine_sizes(settings, images, full_photos)
    poses, intrinsics, depths = [], [], []
    with torch.autocast(images.device.type, enabled=False):
        for scene in range(len(images)):
            unit = _unit(depth[scene])
            views = zip(images[scene], depth[scene] / unit, cameras.intrinsics[scene], strict=True)
            frames = [Frame(*view) for view in views]
            start = _scaled(cameras.cam_from_world[scene], 1 / unit)
            own = None if descriptors is None else descriptors[scene]
            counts = None if mask is None else mask[scene]
            used = replace(settings, focal_prior_std=fine_focal_std(settings, frames, start)) if sizes else settings
            refined = _refine(frames, start, own, used, counts)
            for size in sizes:
                assert full_photos is not None
                refined = refine_finely(frames, refined, reduced_photos(full_photos[scene], size), used, counts)
            poses.append(_scaled(refined.poses, unit))
            frames = refined.frames(frames)
            intrinsics.append(torch.stack([frame.intrinsics for frame in frames]))
            depths.append(torch.stack([frame.depth for frame in frames]) * unit)
    return Cameras(torch.stack(poses), torch.stack(intrinsics), cameras.size_hw), torch.stack(depths)


def _unit(depth: Float[Tensor, "V H W"]) -> float:
    """Unit of the priors: a power of 16 near the median depth, so 1 for VGGT's scale. Division by it is exact."""
    median = float(depth.median())
    power = round(math.log(median, 16)) if 0 < median < math.inf else 0
    return 16.0 ** min(max(power, -MAX_UNIT_POWER), MAX_UNIT_POWER)


def _scaled(poses: Float[Tensor, "V 4 4"], factor: float) -> Float[Tensor, "V 4 4"]:
    return rigid(poses[:, :3, :3], poses[:, :3, 3] * factor)


def _refine(
    predicted: list[Frame],
    poses: Float[Tensor, "V 4 4"],
    descriptors: Float[Tensor, "V Q D"] | None,
    settings: BundleAdjustmentSettings,
    mask: Bool[Tensor, "V H W"] | None,
) -> Estimate:
    """Adjust all views of one scene together: to cells, then to patches near their predicted places, then depth too."""
    nodes = poses.new_zeros(len(poses), CORRECTION_NODES**2)
    start = estimate = Estimate(poses, poses.new_zeros(()), nodes)
    if descriptors is None:
        pairs = covisible_pairs(overlap_shares(predicted, poses))
    else:
        counts = None if mask is None else cells_that_count(mask, descriptors.shape[1])
        pairs = covisible_pairs(mutual_shares(descriptors, counts))
        noise = Noise(CELL_STD_PX, settings.cell_weight, DEPTH_STD)
        matches = [match.within(mask) for match in _match_cells(predicted, descriptors, pairs)]
        if not settings.fixed_cameras:
            estimate = adjust(predicted, start, estimate, matches, noise, settings)
    photos = [SearchedPhoto.of(frame.image) for frame in predicted]
    interior = None if mask is None else inside_by(mask, PATCH_RADIUS)
    many = len(poses) >= MANY_VIEWS
    pixels = grid_pixels(predicted[0].depth, MANY_VIEWS_PATCH_STEP_PX if many else PATCH_STEP_PX)

    def match(radius: int, both_ways: bool) -> list[ViewMatches]:
        frames, ways = estimate.frames(predicted), directions(pairs, both_ways or not many)
        found = _match_patches(photos, frames, estimate, ways, pixels, radius)
        return [match.within(interior) for match in found]

    rigid_log_focal = None
    stages = zip(settings.search_radii_px, settings.patch_stds_px, strict=True)
    for stage, (radius, pixel_std) in enumerate(stages):
        rigid_stage = stage < settings.rigid_stages and not settings.fixed_cameras
        matches = match(radius, both_ways=not rigid_stage)
        few = _share_found(matches, len(pixels)) < settings.wide_search_below
        if stage == 0 and few and not settings.fixed_cameras:
            noise = Noise(WIDE_SEARCH_STD_PX, settings.patch_weight, DEPTH_STD)
            wide = match(WIDE_SEARCH_RADIUS_PX, both_ways=False)
            estimate = adjust(predicted, start, estimate, wide, noise, settings)
            matches = match(radius, both_ways=not rigid_stage)
        noise = Noise(pixel_std, settings.patch_weight, DEPTH_STD)
        if not rigid_stage:
            consistency = DEPTH_CONSISTENCY_WEIGHT, DEPTH_CONSISTENCY_STD
            noise = Noise(pixel_std, settings.patch_weight, CORRECTED_DEPTH_STD, *consistency)
            rigid_log_focal = estimate.log_focal if rigid_log_focal is None else rigid_log_focal
        estimate = adjust(predicted, start, estimate, matches, noise, settings, rigid_log_focal)
    return estimate


def _match_cells(
    frames: list[Frame], descriptors: Float[Tensor, "V Q D"], pairs: list[tuple[int, int]]
) -> list[ViewMatches]:
    """Matches of cells of every pair, in both directions."""
    size_hw = (frames[0].depth.shape[0], frames[0].depth.shape[1])
    matches = []
    for first, second in pairs:
        found = cell_matches(descriptors[second] @ descriptors[first].T, size_hw)
        matches.append(ViewMatches(first, second, found))
        matches.append(ViewMatches(second, first, PixelMatches(found.target, found.source, found.weight)))
    return matches


def _match_patches(
    photos: list[SearchedPhoto],
    frames: list[Frame],
    estimate: Estimate,
    directions: list[tuple[int, int]],
    pixels: Float[Tensor, "Q 2"],
    radius: int,
) -> list[ViewMatches]:
    """Search patches of every source in its target, near where the cameras predict them."""
    matches = []
    for source, target in directions:
        seen = transform_points(estimate.relative(source, target), frames[source].lift(pixels))
        expected = frames[target].project(seen)
        found = patch_matches(photos[source], photos[target], pixels, expected, radius)
        matches.append(ViewMatches(source, target, found.with_positive_weight()))
    return matches


def _share_found(matches: list[ViewMatches], looked_for: int) -> float:
    """Mean weight over all patches that were searched for."""
    return float(sum(match.pixels.weight.sum() for match in matches)) / (looked_for * len(matches))
