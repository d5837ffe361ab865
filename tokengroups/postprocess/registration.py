"""Which photos of a set have found their place among the others, by geometry alone.

Where cameras and depth are right, patches of a photo lie in the other photos where the cameras project them, and at the
depth that is predicted there. Wrong ones do so by chance: in a few per cent of the patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokengroups.encoders import Geometry
from tokengroups.geometry import invert_rigid, rigid, transform_points
from tokengroups.postprocess.bundle_adjustment.frames import MIN_DEPTH, Frame
from tokengroups.postprocess.bundle_adjustment.patch_matching import (
    BORDER_PX,
    MIN_VARIANCE,
    PATCH_RADIUS,
    SearchedPhoto,
    grid_pixels,
    inside_by,
    patch_matches,
)

REGISTERED = 0.08  # score of a pair that belongs together; see benchmarks/registration.py
SCORED_SIZE_PX = 128  # longer side of the photos that are compared: the threshold is for this size
PATCH_STEP_PX = 4
SEARCH_RADIUS_PX = 3
NEAR_PX = 1.5  # a patch that is found so near its expected place is at it
LOG_DEPTH_TOLERANCE = 0.1
FEWEST_PATCHES = 16  # with texture: the share of fewer ones says little


@dataclass(frozen=True)
class Registration:
    """How well a photo agrees with the one, of those that are registered, that it agrees with best.

    Shares are of the patches with texture that the cameras project into the other photo, the smaller one of both ways.
    """

    registered: bool  # it belongs to the largest set of photos that agree, directly or through others
    score: float = 0.0  # share found within 1.5 px of the expected place, at the depth there
    matched: float = 0.0  # share found near there
    consistent: float = 0.0  # share at the depth there
    reprojection_px: float | None = None  # median distance of those found, in the photo's pixels; None = none found
    partner: int | None = None  # the other photo; None = there is only one

    def to_json(self) -> dict[str, Any]:
        """Its fields, rounded."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in vars(self).items()}


def register_photos(photos: Float[Tensor, "V 3 H W"], geometry: Geometry) -> tuple[Registration, ...]:
    """Compare every two photos of a scene; a single photo is registered.

    Where no two photos agree, none is registered. Of equally large sets, the one with the earliest photo counts.

    Args:
        photos: In [0, 1].
        geometry: Of the scene, unbatched, after bundle adjustment.
    """
    return registrations(compare_photos(photos, geometry))


def registrations(numbers: Float[Tensor, "4 V V"], threshold: float = REGISTERED) -> tuple[Registration, ...]:
    """Registrations by the numbers that `compare_photos` gives."""
    views = numbers.shape[-1]
    if views == 1:
        return (Registration(True, 1.0, 1.0, 1.0),)
    scores = numbers[0].clone().fill_diagonal_(-1)
    largest = largest_set(scores >= threshold)
    if largest:
        scores[:, [view for view in range(views) if view not in largest]] = -1
    found = []
    for view, partner in enumerate(scores.argmax(dim=1).tolist()):
        score, share, agreed, distance = numbers[:, view, partner].tolist()
        known = None if math.isnan(distance) else distance
        found.append(Registration(view in largest, score, share, agreed, known, partner))
    return tuple(found)


def compare_photos(photos: Float[Tensor, "V 3 H W"], geometry: Geometry) -> Float[Tensor, "4 V V"]:
    """Score, matched share, consistent share and reprojection error of every two photos, symmetric; see `Registration`.

    Args:
        photos: In [0, 1].
        geometry: Of the scene, unbatched, after bundle adjustment.
    """
    numbers = _directed_numbers(*_reduced(photos, geometry))
    distances = torch.stack([numbers[3], numbers[3].T]).nanmedian(dim=0).values * max(photos.shape[-2:])
    return torch.cat([torch.minimum(numbers[:3], numbers[:3].mT), distances[None] / SCORED_SIZE_PX])


def largest_set(linked: Bool[Tensor, "V V"]) -> set[int]:
    """Largest connected set of at least two, by symmetric links; empty if nothing is linked."""
    reached = linked.clone().fill_diagonal_(True)
    for _ in range(len(linked).bit_length()):  # each time paths of twice the length
        reached = reached.float() @ reached.float() > 0
    sizes = reached.sum(dim=1)
    first = int(sizes.argmax())
    return set(reached[first].nonzero().flatten().tolist()) if int(sizes[first]) > 1 else set()


def _reduced(
    photos: Float[Tensor, "V 3 H W"], geometry: Geometry
) -> tuple[list[Frame], Float[Tensor, "V 4 4"], Bool[Tensor, "V h w"]]:
    """Photos with depth in its median, their poses, and the pixels whose patches count."""
    unit = geometry.depth.median().clamp_min(1e-12)
    scale = SCORED_SIZE_PX / max(photos.shape[-2:])
    size_hw = (max(round(photos.shape[-2] * scale), 1), max(round(photos.shape[-1] * scale), 1))
    small = functional.interpolate(photos, size_hw, mode="bilinear", antialias=True, align_corners=False)
    parts = zip(photos, geometry.depth / unit, geometry.cameras.intrinsics, small, strict=True)
    frames = [Frame(photo, depth, pinhole).resized(image) for photo, depth, pinhole, image in parts]
    poses = geometry.cameras.cam_from_world
    mask = torch.ones_like(small[:, 0], dtype=torch.bool)
    if geometry.mask is not None:
        mask = functional.interpolate(geometry.mask[:, None].float(), size_hw, mode="nearest")[:, 0] > 0
    return frames, rigid(poses[:, :3, :3], poses[:, :3, 3] / unit), inside_by(mask, PATCH_RADIUS)


def _directed_numbers(
    frames: list[Frame], poses: Float[Tensor, "V 4 4"], masks: Bool[Tensor, "V h w"]
) -> Float[Tensor, "4 V V"]:
    """Score, matched share, consistent share and median distance of all ordered pairs."""
    photos = [SearchedPhoto.of(frame.image) for frame in frames]
    grid = grid_pixels(frames[0].image, PATCH_STEP_PX)
    columns, rows = grid.long().unbind(dim=-1)
    numbers = poses.new_zeros(4, len(frames), len(frames))
    numbers[3] = torch.nan
    for u, source in enumerate(frames):
        textured = photos[u].deviation[rows, columns].square() > MIN_VARIANCE
        pixels = grid[textured & masks[u, rows, columns]]
        points = source.lift(pixels)
        for v, target in enumerate(frames):
            if u != v:
                seen = transform_points(poses[v] @ invert_rigid(poses[u]), points)
                numbers[:, u, v] = _agreement(photos[u], photos[v], pixels, seen, target, masks[v])
    return numbers


def _agreement(
    photo: SearchedPhoto,
    other: SearchedPhoto,
    pixels: Float[Tensor, "Q 2"],
    seen: Float[Tensor, "Q 3"],
    target: Frame,
    mask: Bool[Tensor, "h w"],
) -> Float[Tensor, "4"]:
    """Numbers of one pair, of which `seen` are the patches in the frame of the other camera."""
    expected = target.project(seen)
    limits = expected.new_tensor([mask.shape[1], mask.shape[0]]) - BORDER_PX
    inside = ((expected > BORDER_PX) & (expected < limits)).all(dim=1) & (seen[:, 2] > MIN_DEPTH)
    pixels, seen, expected = pixels[inside], seen[inside], expected[inside]
    counts = mask[expected[:, 1].long(), expected[:, 0].long()]
    pixels, seen, expected = pixels[counts], seen[counts], expected[counts]
    if not len(pixels):
        return expected.new_tensor([0.0, 0.0, 0.0, torch.nan])
    matches = patch_matches(photo, other, pixels, expected, SEARCH_RADIUS_PX)
    found, distance = matches.weight > 0, (matches.target - expected).norm(dim=1)
    apart = (seen[:, 2].log() - target.depth_at(expected).clamp_min(MIN_DEPTH).log()).abs()
    consistent = apart < LOG_DEPTH_TOLERANCE
    right = found & consistent & (distance < NEAR_PX)
    shares = torch.stack([right.sum(), found.sum(), consistent.sum()]) / max(len(pixels), FEWEST_PATCHES)
    return torch.cat([shares, distance[found].median()[None] if bool(found.any()) else shares.new_tensor([torch.nan])])
