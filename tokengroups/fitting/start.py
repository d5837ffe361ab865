"""Where a fit begins: given points, else points found by a plane sweep over the photos.

V photos, P cells of one photo's grid, D depths, C channels, N points. Without points, the depth of a grid of pixels in
every photo is the one at which its neighbours' photos agree best (plane sweep, Collins 1996): log-spaced hypotheses
between half the distance to the nearest other camera and `FARTHEST` times the largest distance between two cameras.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.fitting.parameters import Start
from tokengroups.geometry import invert_rigid, project, transform_points
from tokengroups.io.points import PointCloud
from tokengroups.ties import ascending
from tokengroups.types import Cameras, Views

DEPTHS = 96
FARTHEST = 20.0  # times the largest distance between two cameras
NEAREST = 0.5  # times the median distance to the nearest other camera
_NEIGHBOURS = 4  # photos that one is compared with
_SAME_DISTANCE = 1e-5  # of the largest: cameras on a line or a circle are equally near but for rounding
_GRID = 64  # most grid cells along a photo's side: enough to begin with
_AGGREGATION = 5  # cells of the grid whose costs are averaged
_WORST = 0.5  # cost of a depth that no other photo sees
_LONE_RANGE = (1.0, 4.0)  # of a single photo, whose depth nothing tells
_SPREAD = 0.5  # standard deviation of the first Gaussians, in their mean distance on the photos


def start_points(views: Views, count: int, points: PointCloud | None, generator: torch.Generator) -> Start:
    """Initial Gaussians: the given points (at most `count` of them), else those of a plane sweep.

    Args:
        views: Photos [V, 3, H, W] and cameras in one world.
        count: N at most.
        points: In that world.
        generator: Draws which points stay, and the depths that photos do not tell.
    """
    if points is not None and len(points.positions):
        means, colors = points.positions.to(views.images), points.colors.to(views.images)
    else:
        means, colors = sweep(views, generator)
    if len(means) > count:
        kept = torch.randperm(len(means), generator=generator, device=means.device)[:count].sort().values
        means, colors = means[kept], colors[kept]
    return Start(means, pixel_footprints(means, views.cameras) * _spacing_px(views, len(means)) * _SPREAD, colors)


def depth_range(cameras: Cameras) -> tuple[float, float]:
    """Nearest and farthest depth worth trying, from where the cameras are; [1, 4] for a single place."""
    centres = invert_rigid(cameras.cam_from_world.double())[:, :3, 3]
    distances = torch.cdist(centres, centres)
    spread = float(distances.max())
    if spread < 1e-9:
        return _LONE_RANGE
    # Photos taken in one place are neighbours of each other, but tell no depth.
    apart = torch.where(distances > 1e-3 * spread, distances, torch.inf)
    return NEAREST * float(apart.amin(dim=1).median()), FARTHEST * spread


def sweep(views: Views, generator: torch.Generator) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Points on the rays of a grid of pixels of every photo, and their colours."""
    size_hw = views.cameras.size_hw
    fine = min(1.0, _GRID / max(size_hw))
    grid_hw = (max(round(fine * size_hw[0]), 1), max(round(fine * size_hw[1]), 1))
    near, far = depth_range(views.cameras)
    log_depths = torch.linspace(math.log(near), math.log(far), DEPTHS, device=views.images.device)
    features = _features(views.images)
    means, colors = [], []
    for view, image in enumerate(views.images):
        centre, rays, pixels = _grid_rays(views.cameras, view, grid_hw)
        others = _neighbours(views.cameras, view)
        if others:
            own = _look_up(features[view], pixels, size_hw)
            costs = _costs(own, centre, rays, log_depths, features, views.cameras, others)
            log_depth = log_depths[_aggregated(costs, grid_hw).argmin(dim=0)]
        else:
            place = torch.rand(len(rays), generator=generator, device=rays.device)
            log_depth = log_depths[0] + place * (log_depths[-1] - log_depths[0])
        means.append(centre + rays * log_depth.exp()[:, None])
        colors.append(_look_up(image, pixels, size_hw))
    return torch.cat(means), torch.cat(colors).clamp(0, 1)


def pixel_footprints(means: Float[Tensor, "N 3"], cameras: Cameras) -> Float[Tensor, " N"]:
    """Side of a pixel at each point in the photo that sees it from nearest; the median of all for points unseen."""
    height, width = cameras.size_hw
    best = torch.full((len(means),), torch.inf, device=means.device)
    for pose, pinhole in zip(cameras.cam_from_world, cameras.intrinsics, strict=True):
        pixels, depth = project(transform_points(pose, means), pinhole)
        inside = (pixels >= 0).all(dim=1) & (pixels[:, 0] < width) & (pixels[:, 1] < height) & (depth > 1e-6)
        best = torch.where(inside, torch.minimum(best, depth / pinhole[0, 0]), best)
    seen = best.isfinite()
    middle = best[seen].median() if bool(seen.any()) else best.new_tensor(1e-2)
    return torch.where(seen, best, middle)


def _spacing_px(views: Views, count: int) -> float:
    height, width = views.cameras.size_hw
    return math.sqrt(len(views.images) * height * width / max(count, 1))


def _grid_rays(
    cameras: Cameras, view: int, grid_hw: tuple[int, int]
) -> tuple[Float[Tensor, "3"], Float[Tensor, "P 3"], Float[Tensor, "P 2"]]:
    """Camera centre and directions of depth 1 through the cells' centres, in the world; the centres in pixels."""
    height, width = cameras.size_hw
    pose, pinhole = cameras.cam_from_world[view], cameras.intrinsics[view]
    y = (torch.arange(grid_hw[0]).to(pinhole) + 0.5) * (height / grid_hw[0])
    x = (torch.arange(grid_hw[1]).to(pinhole) + 0.5) * (width / grid_hw[1])
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
    in_camera = functional.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(pinhole).T
    return invert_rigid(pose)[:3, 3], in_camera @ pose[:3, :3], pixels


def _features(images: Float[Tensor, "V 3 H W"]) -> Float[Tensor, "V 9 H W"]:
    """Colours at three scales: a cheap stand-in for patches."""

    def box(size: int) -> Tensor:
        return functional.avg_pool2d(images, size, stride=1, padding=size // 2, count_include_pad=False)

    return torch.cat([images, box(3), box(7)], dim=1)


def _look_up(
    image: Float[Tensor, "C H W"], pixels: Float[Tensor, "*p 2"], size_hw: tuple[int, int]
) -> Float[Tensor, "*p C"]:
    """Bilinear values at pixel coordinates, the first pixel's centre at (0.5, 0.5)."""
    scale = pixels.new_tensor([2 / size_hw[1], 2 / size_hw[0]])
    grid = (pixels * scale - 1).reshape(1, 1, -1, 2)
    values = functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)
    return values[0, :, 0].T.reshape(*pixels.shape[:-1], -1)


def _neighbours(cameras: Cameras, view: int) -> list[int]:
    """The nearest other cameras that look the same way, within 90 degrees, from another place; the first of equals."""
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
    features: Float[Tensor, "V C H W"],
    cameras: Cameras,
    others: list[int],
) -> Float[Tensor, "D P"]:
    """Mean difference of each pixel to the photos that see its point at each depth; `_WORST` where none does."""
    size_hw = cameras.size_hw
    limits = rays.new_tensor([size_hw[1], size_hw[0]])
    points = centre + rays * log_depths.exp()[:, None, None]  # D P 3
    total, seen = points.new_zeros(points.shape[:2]), points.new_zeros(points.shape[:2])
    for other in others:
        in_camera = transform_points(cameras.cam_from_world[other], points.flatten(0, 1))
        pixels, depth = project(in_camera, cameras.intrinsics[other])
        inside = ((pixels >= 0) & (pixels < limits)).all(dim=-1) & (depth > 1e-6)
        values = _look_up(features[other], pixels, size_hw).unflatten(0, points.shape[:2])
        inside = inside.unflatten(0, points.shape[:2])
        total += torch.where(inside, (values - own).abs().mean(dim=-1), 0.0)
        seen += inside
    return torch.where(seen > 0, total / seen.clamp(min=1), _WORST)


def _aggregated(costs: Float[Tensor, "D P"], grid_hw: tuple[int, int]) -> Float[Tensor, "D P"]:
    """Costs averaged over neighbouring cells."""
    maps = rearrange(costs, "d (h w) -> d 1 h w", h=grid_hw[0])
    size = _AGGREGATION
    smooth = functional.avg_pool2d(maps, size, stride=1, padding=size // 2, count_include_pad=False)
    return rearrange(smooth, "d 1 h w -> d (h w)")
