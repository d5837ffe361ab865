"""Plane sweep: how well other photos match a photo's patches at several depths (Collins 1996)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import invert_rigid, unproject
from tokengroups.postprocess.bundle_adjustment.covisibility import overlap_shares
from tokengroups.postprocess.bundle_adjustment.frames import Frame
from tokengroups.types import Cameras

PARTNERS = 4  # other photos that a photo is compared with
BEST_PARALLAX_DEG = 12.0  # between the rays of two photos: less tells little, more changes what they see
PARALLAX_STDS_DEG = (6.0, 18.0)  # below and above the best
LEAST_SHARE = 0.03  # of a photo that a partner sees, at the best parallax
PATCH_RADIUS_PX = 4
NOISE_VARIANCE = 1e-4  # of grey values in [0, 1]: flatter patches match nothing
UNSEEN_COST = 0.5


def stereo_partners(depth: Float[Tensor, "V H W"], cameras: Cameras) -> list[list[int]]:
    """The other photos that say most about each photo's depth, best first: much in common at a good parallax."""
    unit = depth.median().clamp_min(1e-12)
    poses = cameras.cam_from_world
    centres = invert_rigid(poses)[:, :3, 3]
    poses = torch.cat([poses[:, :3, :3], poses[:, :3, 3:] / unit], dim=2)
    poses = torch.cat([poses, cameras.cam_from_world[:, 3:]], dim=1)
    images = depth.new_zeros(len(depth), 3, *cameras.size_hw)  # overlap reads none
    parts = zip(images, depth / unit, cameras.intrinsics, strict=True)
    shares = overlap_shares([Frame(*part) for part in parts], poses)
    distances = depth.flatten(1).median(dim=1).values.clamp_min(1e-12)
    parallax = torch.rad2deg(torch.cdist(centres, centres) / (distances[:, None] + distances).div(2))
    less, more = PARALLAX_STDS_DEG
    off = (parallax - BEST_PARALLAX_DEG) / torch.where(parallax < BEST_PARALLAX_DEG, less, more)
    values = shares * (-0.5 * off.square()).exp()
    best = values.topk(min(PARTNERS, len(values) - 1), dim=1)
    return [
        [partner for partner, value in zip(*row, strict=True) if value > LEAST_SHARE]
        for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def matching_costs(
    photos: Float[Tensor, "V 3 H W"],
    cameras: Cameras,
    depth: Float[Tensor, "V H W"],
    view: int,
    partners: list[int],
    log_factors: Float[Tensor, " P"],
    mask: Bool[Tensor, "V H W"] | None = None,
) -> Float[Tensor, "P H W"]:
    """Cost of each depth at every pixel of a photo: 0 where the other photos show the same patch, 1 where not alike.

    It is 1 minus the normalised correlation of grey patches, at least 0, the mean of the better half of the photos:
    the others may not see the place. Photos that do not reach it, and pixels that do not count, cost .5.

    Args:
        photos: In [0, 1].
        cameras: Of the photos.
        depth: Predicted depth; depths are it times the factors.
        view: The photo.
        partners: Other photos; without any, all costs are .5.
        log_factors: Logarithms of the factors.
        mask: Pixels that count; None = all.
    """
    height, width = depth.shape[1:]
    grey = photos.mean(dim=1)
    own, depths = grey[view], depth[view] * log_factors.exp()[:, None, None]
    mean = patch_mean(own)
    variance = patch_mean(own.square()) - mean.square() + NOISE_VARIANCE
    rays = unproject(torch.ones_like(own), cameras.intrinsics[view])
    costs = []
    for partner in partners:
        motion = cameras.cam_from_world[partner] @ invert_rigid(cameras.cam_from_world[view])
        pinhole = cameras.intrinsics[partner]
        seen = depths[..., None] * (rays @ (pinhole @ motion[:3, :3]).mT) + pinhole @ motion[:3, 3]
        places = seen[..., :2] / seen[..., 2:].clamp_min(1e-6) * (2 / seen.new_tensor([width, height])) - 1
        reached = (places.abs() <= 1).all(dim=-1) & (seen[..., 2] > 1e-6)
        layers = grey[partner][None, None]
        if mask is not None:
            counts = mask[partner][None, None].to(grey).expand(len(places), -1, -1, -1)
            reached &= functional.grid_sample(counts, places, mode="nearest", align_corners=False)[:, 0] > 0
            reached &= mask[view]
        shown = functional.grid_sample(
            layers.expand(len(places), -1, -1, -1), places, padding_mode="border", align_corners=False
        )[:, 0]
        their_mean = patch_mean(shown)
        their_variance = patch_mean(shown.square()) - their_mean.square() + NOISE_VARIANCE
        covariance = patch_mean(shown * own) - their_mean * mean
        cost = 1 - covariance / (variance * their_variance).sqrt()
        costs.append(torch.where(reached, cost.clamp(0, 1), UNSEEN_COST))
    if not costs:
        return torch.full_like(depths, UNSEEN_COST)
    better = (len(costs) + 1) // 2
    return torch.stack(costs).sort(dim=0).values[:better].mean(dim=0)


def patch_mean(values: Float[Tensor, "*b H W"]) -> Float[Tensor, "*b H W"]:
    """Mean of the square patch around every pixel, of those pixels in it that the photo has."""
    side, flat = 2 * PATCH_RADIUS_PX + 1, values.reshape(-1, 1, *values.shape[-2:])
    rows = functional.avg_pool2d(flat, (side, 1), 1, (PATCH_RADIUS_PX, 0), count_include_pad=False)
    means = functional.avg_pool2d(rows, (1, side), 1, (0, PATCH_RADIUS_PX), count_include_pad=False)
    return means.view_as(values)
