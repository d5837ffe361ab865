"""Given poses in the place of predicted ones, and the scale that makes predicted depth fit their baselines.

With known poses one number relates depth to baselines. It is found by a sweep: at the right scale, patches of a photo,
lifted by their depth, lie in the other photos where the poses project them. The matches there then refine it by least
squares on one unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import invert_rigid, rigid, transform_points, world_points
from tokengroups.postprocess.bundle_adjustment.covisibility import covisible_pairs, overlap_shares
from tokengroups.postprocess.bundle_adjustment.frames import Frame
from tokengroups.postprocess.bundle_adjustment.patch_matching import (
    PATCH_RADIUS,
    PixelMatches,
    SearchedPhoto,
    grid_pixels,
    inside_by,
    patch_matches,
)
from tokengroups.postprocess.draft import Draft, KnownPoses
from tokengroups.types import Cameras

SWEEP_LOG_RANGE, SWEEP_LOG_STEP = 2.0, 0.125  # around the ratio of predicted to given distances of the cameras
SWEEP_RADIUS_PX = 4
SWEEP_PATCHES = 20  # along the longer side of a photo
REFINEMENT_RADII_PX = (6, 4, 3, 3)
MATCH_STD_PX = 1.0  # under Cauchy's loss
MOST_PAIRS = 12
SAME_PLACE = 1e-6  # of the median depth at the predicted scale: cameras that are closer have no baseline


@dataclass(frozen=True)
class _Pair:
    """Patches of one photo to be found in another."""

    source: Frame
    target: Frame
    photos: tuple[SearchedPhoto, SearchedPhoto]
    pixels: Float[Tensor, "Q 2"]
    relative: Float[Tensor, "4 4"]  # target from source, baselines in the user's unit

    def expected(self, scale: float) -> Float[Tensor, "Q 2"]:
        """Where the patches should be, if a unit of the user is so long in the geometry's unit."""
        return self.target.project(self._seen(scale))

    def found(self, scale: float, radius: int) -> PixelMatches:
        """Patches near their expected places."""
        return patch_matches(*self.photos, self.pixels, self.expected(scale), radius)

    def normal_equation(self, scale: float, radius: int) -> tuple[float, float]:
        """J^T J and J^T r of the logarithm of the scale."""
        matches, seen = self.found(scale, radius), self._seen(scale)
        motion = (scale * self.relative[:3, 3]).expand(len(seen), 3)[..., None]
        slope = self.target.project_motions(seen, motion)[..., 0] / MATCH_STD_PX
        residual = (matches.target - self.target.project(seen)) / MATCH_STD_PX
        trust = matches.weight / (1 + residual.square().sum(dim=1))
        return float((trust * slope.square().sum(dim=1)).sum()), float((trust * (slope * residual).sum(dim=1)).sum())

    def _seen(self, scale: float) -> Float[Tensor, "Q 3"]:
        relative = rigid(self.relative[:3, :3], scale * self.relative[:3, 3])
        return transform_points(relative, self.source.lift(self.pixels))


def place(draft: Draft, known: KnownPoses) -> Draft:
    """Put given poses in the place of the predicted ones, in the unit of the predicted depth."""
    first = known.cam_from_world[0]
    relative = known.cam_from_world @ invert_rigid(first)
    geometry = draft.geometry
    scale = baseline_scale(draft, relative.to(geometry.depth))
    poses = rigid(relative[:, :3, :3], relative[:, :3, 3] * (scale or 1.0)).to(geometry.depth)
    cameras = Cameras(poses, geometry.cameras.intrinsics, geometry.cameras.size_hw)
    points = world_points(geometry.depth, poses, cameras.intrinsics)
    known = replace(known, unit=None if scale is None else 1 / scale)
    return replace(draft, geometry=replace(geometry, cameras=cameras, points=points), known_poses=known)


def baseline_scale(draft: Draft, relative: Float[Tensor, "V 4 4"]) -> float | None:
    """Length of the user's unit in that of the predicted depth; None where no two cameras stand apart.

    Args:
        draft: Photos with predicted geometry.
        relative: Given poses in the world of the first photo, in the user's unit.
    """
    unit = float(draft.geometry.depth.median())
    guess = _ratio_of_distances(draft.geometry.cameras.cam_from_world, relative, unit)
    if guess is None:
        return None
    pairs = _pairs(draft, relative, unit, guess / unit)
    count = round(SWEEP_LOG_RANGE / SWEEP_LOG_STEP)
    candidates = [guess / unit * math.exp(SWEEP_LOG_STEP * index) for index in range(-count, count + 1)]
    scores = [sum(float(pair.found(scale, SWEEP_RADIUS_PX).weight.sum()) for pair in pairs) for scale in candidates]
    scale = candidates[max(range(len(scores)), key=scores.__getitem__)]
    for radius in REFINEMENT_RADII_PX:
        squares, slopes = (sum(parts) for parts in zip(*(p.normal_equation(scale, radius) for p in pairs), strict=True))
        scale *= math.exp(min(max(slopes / max(squares, 1e-6), -SWEEP_LOG_STEP), SWEEP_LOG_STEP))
    return scale * unit


def _ratio_of_distances(predicted: Float[Tensor, "V 4 4"], given: Float[Tensor, "V 4 4"], unit: float) -> float | None:
    """Median ratio of predicted to given distances between cameras; None where those given stand in one place."""
    own, theirs = (torch.pdist(invert_rigid(poses)[:, :3, 3].double()) for poses in (predicted, given))
    apart = theirs > SAME_PLACE * theirs.new_tensor(max(unit, float(theirs.max()) if len(theirs) else 0.0))
    if not bool(apart.any()):
        return None
    ratio = float((own[apart] / theirs[apart]).median())
    return ratio if ratio > 0 else unit / float(theirs.max())


def _pairs(draft: Draft, relative: Float[Tensor, "V 4 4"], unit: float, scale: float) -> list[_Pair]:
    """Covisible photos, those with the longest baselines first."""
    geometry = draft.geometry
    frames = [
        Frame(*parts) for parts in zip(draft.photos, geometry.depth / unit, geometry.cameras.intrinsics, strict=True)
    ]
    poses = rigid(relative[:, :3, :3], scale * relative[:, :3, 3])
    chosen = covisible_pairs(overlap_shares(frames, poses))
    moves = {(u, v): relative[v] @ invert_rigid(relative[u]) for u, v in chosen}
    longest = sorted(chosen, key=lambda pair: -float(moves[pair][:3, 3].norm()))[:MOST_PAIRS]
    searched = [SearchedPhoto.of(photo) for photo in draft.photos]
    pixels = grid_pixels(draft.photos[0], max(max(frames[0].size_hw) // SWEEP_PATCHES, 1))
    counts = None if geometry.mask is None else inside_by(geometry.mask, PATCH_RADIUS)
    pairs = []
    for u, v in longest:
        rows, columns = pixels[:, 1].long(), pixels[:, 0].long()
        own = pixels if counts is None else pixels[counts[u, rows, columns]]
        pairs.append(_Pair(frames[u], frames[v], (searched[u], searched[v]), own, moves[u, v]))
    return pairs
