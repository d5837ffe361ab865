"""Refining predicted cameras and depth against matched pixels.

The heads of a small VGGT regress poses to a few degrees, focal lengths and depth to some per cent; matched pixels tell
them better. Views that show the same are adjusted to each other, in whatever order they were taken: a photo that shows
nothing of the first one hangs on others. Poses and focal length come first, from the cells of the matching head, then
from many small patches found near where the cameras put them. Then depth joins in, smoothly corrected to what two views
of the same patch triangulate (`adjustment`).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import transform_points
from tokengroups.postprocess.bundle_adjustment.covisibility import covisible_pairs
from tokengroups.postprocess.bundle_adjustment.frames import Frame
from tokengroups.postprocess.bundle_adjustment.gauss_newton import (
    Estimate,
    RefinementSettings,
    ViewMatches,
    adjust,
)
from tokengroups.postprocess.bundle_adjustment.patch_matching import (
    PixelMatches,
    SearchedPhoto,
    cell_matches,
    grid_pixels,
    patch_matches,
)
from tokengroups.postprocess.bundle_adjustment.residuals import Noise
from tokengroups.types import Cameras

MANY_VIEWS = 4  # from here on, looking one way is enough for poses, and fewer patches do


@torch.no_grad()
def refine_geometry(
    images: Float[Tensor, "B V 3 H W"],
    cameras: Cameras,
    depth: Float[Tensor, "B V H W"],
    descriptors: Float[Tensor, "B V Q D"],
    settings: RefinementSettings = RefinementSettings(),  # noqa: B008 (frozen)
) -> tuple[Cameras, Float[Tensor, "B V H W"]]:
    """Adjust poses, one factor on all focal lengths, and depth; view 0 stays the world, a lone view as it is.

    Args:
        images: Photos in [0, 1].
        cameras: Predicted, batch axes B V; the pose of view 0 is the identity.
        depth: Predicted depth.
        descriptors: Of the cells of a grid over every image, row-major: `EncoderOutput.cell_descriptors`.
        settings: Noise model and prior.
    """
    if images.shape[1] == 1:
        return cameras, depth
    poses, intrinsics, depths = [], [], []
    with torch.autocast(images.device.type, enabled=False):
        for scene in range(len(images)):
            views = zip(images[scene], depth[scene], cameras.intrinsics[scene], strict=True)
            frames = [Frame(*view) for view in views]
            refined = _refine(frames, cameras.cam_from_world[scene], descriptors[scene], settings)
            poses.append(refined.poses)
            frames = refined.frames(frames)
            intrinsics.append(torch.stack([frame.intrinsics for frame in frames]))
            depths.append(torch.stack([frame.depth for frame in frames]))
    return Cameras(torch.stack(poses), torch.stack(intrinsics), cameras.size_hw), torch.stack(depths)


def _refine(
    predicted: list[Frame],
    poses: Float[Tensor, "V 4 4"],
    descriptors: Float[Tensor, "V Q D"],
    settings: RefinementSettings,
) -> Estimate:
    """All views of one scene together: cells, then patches around where they should be, then depth as well."""
    nodes = poses.new_zeros(len(poses), settings.correction_nodes**2)
    start = estimate = Estimate(poses, poses.new_zeros(()), nodes)
    noise = Noise(settings.cell_noise_px, settings.cell_evidence, settings.depth_noise)
    pairs = covisible_pairs(descriptors)
    matches = _match_cells(predicted, descriptors, pairs)
    estimate = adjust(predicted, start, estimate, matches, noise, settings)
    photos = [SearchedPhoto.of(frame.image) for frame in predicted]
    many = len(poses) >= MANY_VIEWS
    pixels = grid_pixels(predicted[0].depth, settings.many_patch_step_px if many else settings.patch_step_px)

    def match(radius: int, both_ways: bool) -> list[ViewMatches]:
        frames, ways = estimate.frames(predicted), _directions(pairs, both_ways or not many)
        return _match_patches(photos, frames, estimate, ways, pixels, radius)

    settled_focal = None
    for stage, (radius, pixel) in enumerate(zip(settings.search_px, settings.patch_noise_px, strict=True)):
        rigid = stage < settings.rigid_stages
        matches = match(radius, both_ways=not rigid)
        if stage == 0 and _share_found(matches, len(pixels)) < settings.lost_share:
            noise = Noise(settings.lost_noise_px, settings.patch_evidence, settings.depth_noise)
            wide = match(settings.lost_search_px, both_ways=False)
            estimate = adjust(predicted, start, estimate, wide, noise, settings)
            matches = match(radius, both_ways=not rigid)
        noise = Noise(pixel, settings.patch_evidence, settings.depth_noise)
        if not rigid:
            agreement = settings.agreement_evidence, settings.agreement_noise
            noise = Noise(pixel, settings.patch_evidence, settings.corrected_depth_noise, *agreement)
            settled_focal = estimate.log_focal if settled_focal is None else settled_focal
        estimate = adjust(predicted, start, estimate, matches, noise, settings, settled_focal)
    return estimate


def _match_cells(
    frames: list[Frame], descriptors: Float[Tensor, "V Q D"], pairs: list[tuple[int, int]]
) -> list[ViewMatches]:
    """Of every pair, both ways."""
    size_hw = (frames[0].depth.shape[0], frames[0].depth.shape[1])
    matches = []
    for first, second in pairs:
        found = cell_matches(descriptors[second] @ descriptors[first].T, size_hw)
        matches.append(ViewMatches(first, second, found))
        matches.append(ViewMatches(second, first, PixelMatches(found.target, found.source, found.weight)))
    return matches


def _directions(pairs: list[tuple[int, int]], both_ways: bool) -> list[tuple[int, int]]:
    """Whose patches are looked for in whom: one way, view 0's in the others, and the others' in those before them."""
    if both_ways:
        return [ends for first, second in pairs for ends in ((first, second), (second, first))]
    return [(first, second) if first == 0 else (second, first) for first, second in pairs]


def _match_patches(
    photos: list[SearchedPhoto],
    frames: list[Frame],
    estimate: Estimate,
    directions: list[tuple[int, int]],
    pixels: Float[Tensor, "Q 2"],
    radius: int,
) -> list[ViewMatches]:
    """Patches of sources in targets, near where the cameras put them."""
    matches = []
    for source, target in directions:
        seen = transform_points(estimate.relative(source, target), frames[source].lift(pixels))
        expected = frames[target].project(seen)
        found = patch_matches(photos[source], photos[target], pixels, expected, radius)
        matches.append(ViewMatches(source, target, found.believed()))
    return matches


def _share_found(matches: list[ViewMatches], looked_for: int) -> float:
    """Mean weight of all patches, so many a match, that were looked for."""
    return float(sum(match.pixels.weight.sum() for match in matches)) / (looked_for * len(matches))
