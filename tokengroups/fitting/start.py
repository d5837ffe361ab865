"""Initial Gaussians of a fit: given points, else points found by a plane sweep over the photos (Collins 1996).

V photos, P cells of one photo's grid, D depths, C channels, N points. The plane sweep gives each pixel of a grid the
depth at which the neighbouring photos agree best. Its hypotheses are spaced by their logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokengroups.fitting.parameters import Start
from tokengroups.geometry import invert_rigid, pixel_centres, project, transform_points
from tokengroups.io.points import PointCloud
from tokengroups.ties import ascending
from tokengroups.types import Cameras, Views

DEPTHS = 96
FARTHEST = 20.0  # times the largest distance between two cameras
NEAREST = 0.5  # times the median distance to the nearest other camera
_NEIGHBOURS = 4  # photos that one is compared with
_SAME_DISTANCE = 1e-5  # of the largest: cameras on a line or a circle are equally near but for rounding
_GRID = 64  # most grid cells along a photo's side
_KEPT = 8  # photos whose features are in memory: neighbours come again
_AGGREGATION = 5  # side in cells of the window over which costs are averaged
_WORST = 0.5  # cost of a depth that no other photo sees
_LONE_RANGE = (1.0, 4.0)  # depths of a single photo, which are random
_SPREAD = 0.5  # standard deviation of the first Gaussians, in their mean distance on the photos


def start_points(views: Views, count: int, points: PointCloud | None, generator: torch.Generator) -> Start:
    """Initial Gaussians: at most `count` of the given points, in the world of the cameras, or of a plane sweep's.

    The generator draws which points stay, and depths where no other photo helps.
    """
    if points is None:
        means, colors = _sweep(views, generator)
    else:
        means, colors = points.positions.to(views.images), points.colors.to(views.images)
    if len(means) > count:
        kept = torch.randperm(len(means), generator=generator, device=means.device)[:count].sort().values
        means, colors = means[kept], colors[kept]
    height, width = views.cameras.size_hw
    spacing_px = math.sqrt(len(views.images) * height * width / max(len(means), 1))
    return Start(means, pixel_footprints(means, views.cameras) * spacing_px * _SPREAD, colors)


def depth_range(cameras: Cameras) -> tuple[float, float]:
    """Nearest and farthest depth to try, from the distances of the cameras; [1, 4] if all are in one place."""
    centres = invert_rigid(cameras.cam_from_world.double())[:, :3, 3]
    distances = torch.cdist(centres, centres)
    spread = float(distances.max())
    if spread < 1e-9:
        return _LONE_RANGE
    # Photos from one place are each other's nearest, but have no parallax.
    apart = torch.where(distances > 1e-3 * spread, distances, torch.inf)
    return NEAREST * float(apart.amin(dim=1).median()), FARTHEST * spread


def _sweep(views: Views, generator: torch.Generator) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Points on the rays of a grid of pixels of every photo, and their colours."""
    size_hw = views.cameras.size_hw
    fine = min(1.0, _GRID / max(size_hw))
    grid_hw = (max(round(fine * size_hw[0]), 1), max(round(fine * size_hw[1]), 1))
    near, far = depth_range(views.cameras)
    log_depths = torch.linspace(math.log(near), math.log(far), DEPTHS, device=views.images.device)
    features = lru_cache(_KEPT)(lambda view: _features(views.images[view]))
    means, colors = [], []
    for view, image in enumerate(views.images):
        centre, rays, pixels = _grid_rays(views.cameras, view, grid_hw)
        others = _neighbours(views.cameras, view)
        if others:
            own = _look_up(features(view), pixels, size_hw)
            costs = _costs(own, centre, rays, log_depths, features, views, others)
            costs = _box_filter(rearrange(costs, "d (h w) -> d 1 h w", h=grid_hw[0]), _AGGREGATION)
            log_depth = log_depths[rearrange(costs, "d 1 h w -> d (h w)").argmin(dim=0)]
        else:
            place = torch.rand(len(rays), generator=generator, device=rays.device)
            log_depth = log_depths[0] + place * (log_depths[-1] - log_depths[0])
        counted = _counted(views, view, pixels)
        means.append((centre + rays * log_depth.exp()[:, None])[counted])
        colors.append(_look_up(image, pixels, size_hw)[counted])
    return torch.cat(means), torch.cat(colors).clamp(0, 1)


def pixel_footprints(means: Float[Tensor, "N 3"], cameras: Cameras) -> Float[Tensor, " N"]:
    """Side of a pixel at each point, in the nearest photo that shows it; the median of all for points unseen."""
    height, width = cameras.size_hw
    best = torch.full((len(means),), torch.inf, device=means.device)
    for pose, pinhole in zip(cameras.cam_from_world, cameras.intrinsics, strict=True):
        pixels, depth = project(transform_points(pose, means), pinhole)
        inside = (pixels >= 0).all(dim=1) & (pixels[:, 0] < width) & (pixels[:, 1] < height) & (depth > 1e-6)
        best = torch.where(inside, torch.minimum(best, depth / pinhole[0, 0]), best)
    seen = best.isfinite()
    middle = best[seen].median() if bool(seen.any()) else best.new_tensor(1e-2)
    return torch.where(seen, best, middle)


def _grid_rays(
    cameras: Cameras, view: int, grid_hw: tuple[int, int]
) -> tuple[Float[Tensor, "3"], Float[Tensor, "P 3"], Float[Tensor, "P 2"]]:
    """Camera centre and directions of depth 1 through the cells' centres, in the world; the centres in pixels."""
    height, width = cameras.size_hw
    pose, pinhole = cameras.cam_from_world[view], cameras.intrinsics[view]
    cell_px = pinhole.new_tensor([width / grid_hw[1], height / grid_hw[0]])
    pixels = (pixel_centres(grid_hw, pinhole) * cell_px).flatten(0, 1)
    in_camera = functional.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(pinhole).T
    return invert_rigid(pose)[:3, 3], in_camera @ pose[:3, :3], pixels


def _features(image: Float[Tensor, "3 H W"]) -> Float[Tensor, "9 H W"]:
    """Colours at three scales, a cheap stand-in for patches."""
    return torch.cat([image, _box_filter(image, 3), _box_filter(image, 7)])


def _box_filter(maps: Float[Tensor, "*b C H W"], size: int) -> Float[Tensor, "*b C H W"]:
    """Means over square windows; at the border over what they cover."""
    return functional.avg_pool2d(maps, size, stride=1, padding=size // 2, count_include_pad=False)


def _look_up(
    image: Float[Tensor, "C H W"], pixels: Float[Tensor, "*p 2"], size_hw: tuple[int, int]
) -> Float[Tensor, "*p C"]:
    """Bilinear values at pixel coordinates."""
    scale = pixels.new_tensor([2 / size_hw[1], 2 / size_hw[0]])
    grid = (pixels * scale - 1).reshape(1, 1, -1, 2)
    values = functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
    return values[0, :, 0].T.reshape(*pixels.shape[:-1], -1)


def _counted(views: Views, view: int, pixels: Float[Tensor, "*p 2"]) -> Bool[Tensor, "*p"]:
    """Whether the mask of a photo holds the pixels, which lie in it."""
    if views.mask is None:
        return torch.ones_like(pixels[..., 0], dtype=torch.bool)
    height, width = views.cameras.size_hw
    columns, rows = pixels.long().unbind(dim=-1)
    return views.mask[view, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]


def _neighbours(cameras: Cameras, view: int) -> list[int]:
    """Indices of the nearest cameras in other places whose directions differ by less than 90 degrees."""
    world_from_cam = invert_rigid(cameras.cam_from_world)
    offsets = (world_from_cam[:, :3, 3] - world_from_cam[view, :3, 3]).norm(dim=1)
    facing = world_from_cam[:, :3, 2] @ world_from_cam[view, :3, 2] > 0
    usable = facing & (offsets > 1e-3 * offsets.max().clamp(min=1e-12))
    order = ascending(offsets.numpy(force=True), _SAME_DISTANCE * float(offsets.max())).tolist()
    return [index for index in order if bool(usable[index])][:_NEIGHBOURS]


def _costs(
    own: Float[Tensor, "P C"],
    centre: Float[Tensor, "3"],
    rays: Float[Tensor, "P 3"],
    log_depths: Float[Tensor, " D"],
    features: Callable[[int], Float[Tensor, "C H W"]],
    views: Views,
    others: list[int],
) -> Float[Tensor, "D P"]:
    """Mean difference of each pixel to the photos that see its point at each depth; `_WORST` where none does."""
    cameras, size_hw = views.cameras, views.cameras.size_hw
    limits = rays.new_tensor([size_hw[1], size_hw[0]])
    points = centre + rays * log_depths.exp()[:, None, None]  # D P 3
    total, seen = points.new_zeros(points.shape[:2]), points.new_zeros(points.shape[:2])
    for other in others:
        in_camera = transform_points(cameras.cam_from_world[other], points.flatten(0, 1))
        pixels, depth = project(in_camera, cameras.intrinsics[other])
        inside = ((pixels >= 0) & (pixels < limits)).all(dim=-1) & (depth > 1e-6)
        inside &= _counted(views, other, torch.where(inside[:, None], pixels, 0.0))
        values = _look_up(features(other), pixels, size_hw).unflatten(0, points.shape[:2])
        inside = inside.unflatten(0, points.shape[:2])
        total += torch.where(inside, (values - own).abs().mean(dim=-1), 0.0)
        seen += inside
    return torch.where(seen > 0, total / seen.clamp(min=1), _WORST)
