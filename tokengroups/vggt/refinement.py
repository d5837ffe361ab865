"""Refining predicted cameras and depth against matched pixels.

The heads of a small VGGT regress poses to a few degrees, focal lengths and depth to some per cent; matched pixels tell
them better. Poses and focal length come first: from the cells of the matching head, which pair every view with view 0,
then from many small patches found near where the cameras put them, also between neighbouring views. Then depth joins
in, smoothly corrected to what two views of the same patch triangulate (`adjustment`).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import transform_points
from tokengroups.types import Cameras
from tokengroups.vggt.adjustment import Estimate, RefinementSettings, ViewMatches, adjust
from tokengroups.vggt.correspondences import (
    PixelMatches,
    SearchedPhoto,
    cell_matches,
    grid_pixels,
    patch_matches,
)
from tokengroups.vggt.frames import Frame
from tokengroups.vggt.reprojection import Noise

MANY_VIEWS = 4  # from here on, looking one way is enough for poses


@torch.no_grad()
def refine_geometry(
    images: Float[Tensor, "B V 3 H W"],
    cameras: Cameras,
    depth: Float[Tensor, "B V H W"],
    match_logits: Float[Tensor, "B V Q R"],
    settings: RefinementSettings = RefinementSettings(),  # noqa: B008 (frozen)
) -> tuple[Cameras, Float[Tensor, "B V H W"]]:
    """Adjust poses, one factor on all focal lengths, and depth; view 0 stays the world, a lone view as it is.

    Args:
        images: Photos in [0, 1], in the order in which they were taken where there is one.
        cameras: Predicted, batch axes B V; the pose of view 0 is the identity.
        depth: Predicted depth.
        match_logits: Cells of every view against the cells of view 0, row-major on a grid over the image.
        settings: Noise model and prior.
    """
    if images.shape[1] == 1:
        return cameras, depth
    poses, intrinsics, depths = [], [], []
    with torch.autocast(images.device.type, enabled=False):
        for scene in range(len(images)):
            views = zip(images[scene], depth[scene], cameras.intrinsics[scene], strict=True)
            frames = [Frame(*view) for view in views]
            refined = _refine(frames, cameras.cam_from_world[scene], match_logits[scene], settings)
            poses.append(refined.poses)
            frames = refined.frames(frames)
            intrinsics.append(torch.stack([frame.intrinsics for frame in frames]))
            depths.append(torch.stack([frame.depth for frame in frames]))
    return Cameras(torch.stack(poses), torch.stack(intrinsics), cameras.size_hw), torch.stack(depths)


def _refine(
    predicted: list[Frame],
    poses: Float[Tensor, "V 4 4"],
    match_logits: Float[Tensor, "V Q R"],
    settings: RefinementSettings,
) -> Estimate:
    """All views of one scene together: cells, then patches around where they should be, then depth as well."""
    nodes = poses.new_zeros(len(poses), settings.correction_nodes**2)
    start = estimate = Estimate(poses, poses.new_zeros(()), nodes)
    noise = Noise(settings.cell_noise_px, settings.cell_evidence, settings.depth_noise)
    matches = _match_cells(predicted, match_logits)
    estimate = adjust(predicted, start, estimate, matches, noise, settings)
    photos = [SearchedPhoto.of(frame.image) for frame in predicted]

    def match(radius: int, both_ways: bool) -> list[ViewMatches]:
        frames = estimate.frames(predicted)
        return _match_patches(photos, frames, estimate, radius, settings.patch_step_px, both_ways)

    settled_focal = None
    for stage, (radius, pixel) in enumerate(zip(settings.search_px, settings.patch_noise_px, strict=True)):
        rigid = stage < settings.rigid_stages
        matches = match(radius, both_ways=not rigid)
        if stage == 0 and _share_found(matches, predicted, settings) < settings.lost_share:
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


def _match_cells(frames: list[Frame], match_logits: Float[Tensor, "V Q R"]) -> list[ViewMatches]:
    """Of every view with view 0, both ways."""
    size_hw = (frames[0].depth.shape[0], frames[0].depth.shape[1])
    matches = []
    for view, logits in enumerate(match_logits[1:], 1):
        found = cell_matches(logits, size_hw)
        matches.append(ViewMatches(0, view, found))
        matches.append(ViewMatches(view, 0, PixelMatches(found.target, found.source, found.weight)))
    return matches


def _match_patches(
    photos: list[SearchedPhoto],
    frames: list[Frame],
    estimate: Estimate,
    radius: int,
    step: int,
    both_ways: bool,
) -> list[ViewMatches]:
    """Of every view with view 0 and with the view before it, near where the cameras put them.

    One way, view 0's patches are looked for in every view, and every view's in the one before.
    """
    views = range(1, len(frames))
    pairs = [(0, view) for view in views] + [(view, before) for before, view in pairwise(views)]
    if both_ways or len(frames) < MANY_VIEWS:
        pairs = [ends for one, other in pairs for ends in ((one, other), (other, one))]
    pixels = grid_pixels(frames[0].depth, step)
    matches = []
    for source, target in pairs:
        seen = transform_points(estimate.relative(source, target), frames[source].lift(pixels))
        expected = frames[target].project(seen)
        found = patch_matches(photos[source], photos[target], pixels, expected, radius)
        matches.append(ViewMatches(source, target, found.believed()))
    return matches


def _share_found(matches: list[ViewMatches], frames: list[Frame], settings: RefinementSettings) -> float:
    """Mean weight of all patches that were looked for."""
    looked_for = len(grid_pixels(frames[0].depth, settings.patch_step_px)) * len(matches)
    return float(sum(match.pixels.weight.sum() for match in matches)) / looked_for
