"""Optimisation of one scene from posed photos and, as a rule, their instance masks.

Gaussians follow 3D Gaussian Splatting with density control by Markov chain Monte Carlo. Their groups follow Gaussian
Grouping. Without masks they are clusters of positions. The optimisation runs in the first photo's frame, divided by
the scene's extent, so the user's unit does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.bounds import Between, Seed, Settings, ShDegree
from tokengroups.fitting.clusters import cluster_groups
from tokengroups.fitting.optimisation import Optimisation
from tokengroups.fitting.parameters import Start
from tokengroups.fitting.start import start_points
from tokengroups.gaussians import select
from tokengroups.geometry import invert_rigid, transform_points
from tokengroups.io.points import PointCloud
from tokengroups.losses.photometric import SSIM_WINDOW
from tokengroups.scene import cameras_in_scene
from tokengroups.types import Cameras, Gaussians, TokenScene, Views

_PIXELS_PER_GAUSSIAN, _FEWEST, _MOST = 16, 2_000, 100_000
_LARGEST_SCALE = 0.2  # of the first Gaussians, in extents
_EXTENT_LIMITS = (0.1, 1e4)  # of scenes that keep their unit; the renderer's near plane, 0.01, is a length
_INVISIBLE = 0.005  # opacity; contributions below 1/255 are not rendered
NumGaussians = Annotated[int, Between(1, 5_000_000)]
_MAX_CAMERAS = 16  # context views; evenly spaced ones of more photos, as for imported scenes


@dataclass(frozen=True)
class FitConfig(Settings):
    """Settings of `fit_scene`."""

    steps: Annotated[int, Between(1, 10**6)] = 2000  # one photo each
    num_gaussians: NumGaussians | None = None  # None = one for every 16 pixels of all photos, 2,000 to 100,000
    sh_degree: ShDegree = 0
    seed: Seed = 0


@dataclass(frozen=True)
class FitProgress:
    """Loss and PSNR of one step."""

    step: int  # from 1
    loss: float
    psnr: float  # of this step's photo, before the step, in dB


@dataclass(frozen=True)
class FitResult:
    """A fitted scene, its quality and its frame."""

    scene: TokenScene
    psnr: tuple[float, ...]  # of every photo that was trained on, in dB
    seconds: float
    scene_from_world: Float[Tensor, "4 4"]  # float64; a similarity where the unit had to change
    notes: tuple[str, ...]

    def to_scene(self, cameras: Cameras) -> Cameras:
        """Move cameras from the world of the photos' cameras into the world of the scene; float32."""
        return cameras_in_scene(cameras, torch.linalg.inv(self.scene_from_world))


def fit_scene(
    views: Views,
    config: FitConfig = FitConfig(),  # noqa: B008 (frozen)
    points: PointCloud | None = None,
    progress: Callable[[FitProgress], None] | None = None,
) -> FitResult:
    """Optimise Gaussians and their groups for one scene, on the device of the views; the seed makes it repeatable.

    Args:
        views: Photos [V, 3, H, W] in [0, 1] of at least 11 x 11 pixels with their cameras in any world and unit;
            `group_ids` are the masks, -1 = unlabelled; if all are, the groups are clusters of the Gaussians'
            positions. Pixels outside `mask` teach nothing. `depth` is not read.
        config: Settings.
        points: Initial points in the world of the cameras; None = a plane sweep finds some.
        progress: Called after every step.

    Returns:
        A scene in the frame of the first camera. Every Gaussian is its own anchor, group ids are those of the masks.

    Raises:
        ValueError: The photos are too small.

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
    begin = time.perf_counter()
    if points is not None and len(points.positions) == 0:
        points = None
    generator = torch.Generator(views.images.device).manual_seed(config.seed)
    height, width = views.cameras.size_hw
    default = min(max(len(views.images) * height * width // _PIXELS_PER_GAUSSIAN, _FEWEST), _MOST)
    limit = config.num_gaussians or default
    scaled, start, first_from_world, extent = _prepare(views, points, limit, generator)
    fit = Optimisation(scaled, ids, start, config.steps, config.sh_degree, limit, generator)
    for step in range(config.steps):
        loss, quality = fit.step(step)
        if progress is not None:
            progress(FitProgress(step + 1, loss, quality))
    unit = extent if _EXTENT_LIMITS[0] <= extent <= _EXTENT_LIMITS[1] else 1.0
    scene = _scene(fit, ids, unit, config.seed)
    scene_from_world = first_from_world.cpu().clone()
    scene_from_world[:3] *= unit / extent
    notes = () if unit == extent else (f"unit changed: 1 in the scene is {extent:.3g} of the cameras'",)
    quality = fit.quality()
    provenance = {
        "made_by": "fit", "steps": config.steps, "seed": config.seed, "points": "given" if points else "plane sweep",
        "psnr": round(sum(quality) / len(quality), 3),
        "world_from_scene": torch.linalg.inv(scene_from_world).tolist(),
        **({} if len(ids) else {"groups": "clusters of positions"}),
    }  # fmt: skip
    seconds = time.perf_counter() - begin
    return FitResult(replace(scene, provenance=provenance), quality, seconds, scene_from_world, notes)


def _prepare(
    views: Views, points: PointCloud | None, limit: int, generator: torch.Generator
) -> tuple[Views, Start, Float[Tensor, "4 4"], float]:
    """Put the first camera at the origin, find initial points, and divide all lengths by the extent.

    Returns:
        Scaled views and points, first_from_world (float64, not scaled), and the extent.
    """
    first = views.cameras.cam_from_world[0].double()
    poses = (views.cameras.cam_from_world.double() @ invert_rigid(first)).to(views.images)
    cameras = Cameras(poses, views.cameras.intrinsics.to(views.images), views.cameras.size_hw)
    moved = replace(views, cameras=cameras)
    if points is not None:
        positions = transform_points(first, points.positions.to(first)).to(views.images)  # float64 until here
        points = PointCloud(positions, points.colors.to(views.images))
    start = start_points(moved, limit, points, generator)
    centre = invert_rigid(poses)[:, :3, 3].mean(dim=0)
    extent = max(float((start.means - centre).norm(dim=1).median()), 1e-12)  # a median: outliers do not count
    poses[:, :3, 3] /= extent
    scales = (start.scales / extent).clamp(1e-6, _LARGEST_SCALE)
    return moved, Start(start.means / extent, scales, start.colors), first, extent


@torch.no_grad()
def _scene(fit: Optimisation, ids: Int64[Tensor, " M"], unit: float, seed: int) -> TokenScene:
    """Convert the parameters to a scene on the CPU, without invisible Gaussians and without groups that own none.

    Args:
        fit: After its last step.
        ids: Group id of each output of its classifier; none = nothing was labelled.
        unit: Length of a unit of the optimisation in the scene.
        seed: Of the clusters, where nothing was labelled.
    """
    gaussians = fit.parameters.gaussians().detach()
    visible = gaussians.opacities > _INVISIBLE
    if not bool(visible.any()):
        visible = gaussians.opacities >= gaussians.opacities.max()
    kept = select(gaussians, visible)
    kept = Gaussians(kept.means * unit, kept.quats, kept.scales * unit, kept.opacities, kept.sh).to("cpu")
    if len(ids):
        assignment = fit.classifier(fit.parameters["identities"][visible]).softmax(dim=-1).cpu()
        owned = assignment.argmax(dim=-1).unique()
        # The largest column of every row is among those that stay.
        assignment = assignment[:, owned] / assignment[:, owned].sum(dim=-1, keepdim=True)
        group_ids = ids.cpu()[owned]
    else:
        assignment, group_ids = cluster_groups(kept, seed)
    cameras, count = fit.views.cameras, len(fit.views.images)
    context = torch.linspace(0, count - 1, min(count, _MAX_CAMERAS)).round().long().tolist()
    poses = cameras.cam_from_world[context].clone()
    poses[:, :3, 3] *= unit
    return TokenScene(
        gaussians=kept,
        anchor_ids=torch.arange(len(kept.means)),
        anchors=kept.means.clone(),
        assignment=assignment,
        group_ids=group_ids,
        group_tokens=torch.zeros(len(group_ids), 0),
        cameras=Cameras(poses, cameras.intrinsics[context], cameras.size_hw).to("cpu"),
    )
