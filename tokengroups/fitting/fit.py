"""Fitting one scene to posed photos and their instance masks.

Gaussians follow 3D Gaussian Splatting with density control by Markov chain Monte Carlo; their groups follow Gaussian
Grouping. Everything happens in the first photo's frame, divided by the scene's extent: the unit of the user does not
matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.fitting.config import FitConfig
from tokengroups.fitting.identity import build_classifier
from tokengroups.fitting.optimisation import Optimisation, first_parameters
from tokengroups.fitting.parameters import Start
from tokengroups.fitting.result import build_scene
from tokengroups.fitting.start import start_points
from tokengroups.geometry import invert_rigid, transform_points
from tokengroups.io.points import PointCloud
from tokengroups.losses.photometric import SSIM_WINDOW
from tokengroups.types import Cameras, TokenScene, Views

_PIXELS_PER_GAUSSIAN, _FEWEST, _MOST = 16, 2_000, 100_000
_LARGEST_SCALE = 0.2  # of the first Gaussians, in extents
_EXTENT_LIMITS = (0.1, 1e4)  # of scenes that keep their unit; the renderer's near plane, 0.01, is a length


@dataclass(frozen=True)
class FitProgress:
    """What is known after a step."""

    step: int  # from 1
    loss: float
    psnr: float  # of this step's photo, before the step, in dB


@dataclass(frozen=True)
class FitResult:
    """A fitted scene and how it went."""

    scene: TokenScene
    psnr: tuple[float, ...]  # of every photo that was trained on, in dB
    seconds: float
    scene_from_world: Float[Tensor, "4 4"]  # float64; a similarity where the unit had to change
    notes: tuple[str, ...]

    def to_scene(self, cameras: Cameras) -> Cameras:
        """Cameras of the world that the photos' cameras were given in, in the world of the scene; float32."""
        world_from_scene = torch.linalg.inv(self.scene_from_world).to(cameras.cam_from_world.device)
        poses = cameras.cam_from_world.double() @ world_from_scene
        poses[..., :3, :] /= torch.linalg.det(poses[..., :3, :3])[..., None, None] ** (1 / 3)
        return Cameras(poses.float(), cameras.intrinsics.float(), cameras.size_hw)


@dataclass(frozen=True)
class _Frame:
    """The frame of the optimisation: the first camera's, divided by the extent."""

    views: Views
    start: Start
    first_from_world: Float[Tensor, "4 4"]  # float64
    extent: float


def fit_scene(
    views: Views,
    config: FitConfig = FitConfig(),  # noqa: B008 (frozen)
    points: PointCloud | None = None,
    progress: Callable[[FitProgress], None] | None = None,
) -> FitResult:
    """Optimise Gaussians and their groups for one scene; on the device of the views, deterministic by the seed.

    Args:
        views: Photos [V, 3, H, W] in [0, 1] of at least 11 x 11 pixels with their cameras in any world and unit;
            `group_ids` are the masks, -1 = unlabelled. `depth` is not read.
        config: Settings.
        points: Points in the world of the cameras to begin with; None = a plane sweep finds some.
        progress: Called after every step.

    Returns:
        A scene in the frame of the first camera. Every Gaussian is its own anchor, group ids are those of the masks.

    Raises:
        ValueError: Nothing is labelled, or the photos are too small.

    Example:
        >>> import torch
        >>> import tokengroups as tg
        >>> from tokengroups.fitting import FitConfig, fit_scene
        >>> from tokengroups.types import Views
        >>> scene = tg.example_scene()
        >>> pictures = list(tg.render_views(scene, scene.cameras))
        >>> views = Views(
        ...     images=torch.stack([view.color.permute(2, 0, 1) for view in pictures]).clamp(0, 1),
        ...     cameras=scene.cameras,
        ...     depth=torch.stack([view.depth for view in pictures]),
        ...     group_ids=torch.stack([view.group_map for view in pictures]),
        ... )
        >>> result = fit_scene(views, FitConfig(steps=10, num_gaussians=500))  # 2,000 steps for a good scene
        >>> result.scene.group_ids
        tensor([1, 2, 3])
    """
    if min(views.cameras.size_hw) < SSIM_WINDOW:
        raise ValueError(f"photos of {views.cameras.size_hw} pixels are too small")
    ids = views.group_ids[views.group_ids >= 0].unique()
    if len(ids) == 0:
        raise ValueError("no pixel of the masks is labelled")
    begin = time.perf_counter()
    if points is not None and len(points.positions) == 0:
        points = None
    generator = torch.Generator(views.images.device).manual_seed(config.seed)
    limit = config.num_gaussians or default_number(views)
    frame = _prepare(views, points, limit, generator)
    parameters = first_parameters(frame.start, config, generator)
    classifier = build_classifier(len(ids), config.identity, generator)
    fit = Optimisation(frame.views, ids, parameters, classifier, config, limit, generator)
    for step in range(config.steps):
        loss, quality = fit.step(step)
        if progress is not None:
            progress(FitProgress(step + 1, loss, quality))
    unit = frame.extent if _EXTENT_LIMITS[0] <= frame.extent <= _EXTENT_LIMITS[1] else 1.0
    scene = build_scene(parameters, classifier, ids, frame.views.cameras, unit)
    scene_from_world = frame.first_from_world.cpu().clone()
    scene_from_world[:3] *= unit / frame.extent
    changed = (f"unit changed: 1 in the scene is {frame.extent:.3g} of the cameras'",)
    notes = () if unit == frame.extent else changed
    quality = fit.quality()
    provenance = {
        "made_by": "fit", "steps": config.steps, "seed": config.seed, "points": "given" if points else "plane sweep",
        "psnr": round(sum(quality) / len(quality), 3),
        "world_from_scene": torch.linalg.inv(scene_from_world).tolist(),
    }  # fmt: skip
    seconds = time.perf_counter() - begin
    return FitResult(replace(scene, provenance=provenance), quality, seconds, scene_from_world, notes)


def default_number(views: Views) -> int:
    """Number of Gaussians for these photos: one for every 16 pixels of all, 2,000 to 100,000."""
    height, width = views.cameras.size_hw
    return min(max(len(views.images) * height * width // _PIXELS_PER_GAUSSIAN, _FEWEST), _MOST)


def _prepare(views: Views, points: PointCloud | None, limit: int, generator: torch.Generator) -> _Frame:
    """Put the first camera at the origin, find where to begin, and divide all lengths by the extent."""
    first = views.cameras.cam_from_world[0].double()
    poses = (views.cameras.cam_from_world.double() @ invert_rigid(first)).to(views.images)
    cameras = Cameras(poses, views.cameras.intrinsics.to(views.images), views.cameras.size_hw)
    moved = replace(views, cameras=cameras)
    if points is not None:
        positions = transform_points(first, points.positions.to(first)).to(views.images)
        points = PointCloud(positions, points.colors.to(views.images))
    start = start_points(moved, limit, points, generator)
    extent = _extent(start.means, cameras)
    poses = poses.clone()
    poses[:, :3, 3] /= extent
    scales = (start.scales / extent).clamp(1e-6, _LARGEST_SCALE)
    moved = replace(moved, cameras=replace(cameras, cam_from_world=poses))
    return _Frame(moved, Start(start.means / extent, scales, start.colors), first, extent)


def _extent(means: Float[Tensor, "N 3"], cameras: Cameras) -> float:
    """Median distance of the first points from the middle of the cameras: few outliers do not count."""
    middle = invert_rigid(cameras.cam_from_world)[:, :3, 3].mean(dim=0)
    return max(float((means - middle).norm(dim=1).median()), 1e-12)
