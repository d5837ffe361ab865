"""Refining predicted poses against the matches of small models: a robust two-view reprojection adjustment.

The camera head of a small VGGT regresses poses to a few degrees; its matching head places a hundred cells to a
fraction of a cell. Every view's pose relative to view 0 is moved so that matched cells, lifted by the predicted depth,
reproject onto each other, in both directions. A prior keeps the pose near the camera head's where matches are few.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import invert_rigid, rigid, transform_points

MIN_DEPTH = 1e-3  # of a point that is projected, in the encoder's unit: about a thousandth of the scene


@dataclass(frozen=True)
class RefinementSettings:
    """Chosen once on the rooms that watch the encoder's training; neighbouring values differ little."""

    iterations: int = 8
    noise_px: float = 2.0  # residuals beyond it lose weight (Cauchy)
    evidence: float = 0.01  # weight of one matched cell against the prior: neighbouring cells err together
    prior_rotation: float = 0.05  # standard deviation of the camera head's rotation in radians
    prior_translation: float = 0.1  # and of its translation, in the encoder's unit


@dataclass(frozen=True)
class Correspondences:
    """Pixels of a view and of view 0 that show the same point, M pairs of frames, Q cells each."""

    pixels: Float[Tensor, "M Q 2"]
    first_pixels: Float[Tensor, "M Q 2"]
    weights: Float[Tensor, "M Q"]  # probability mass around the best cell


@torch.no_grad()
def refine_poses(
    cam_from_first: Float[Tensor, "B V 4 4"],
    intrinsics: Float[Tensor, "B V 3 3"],
    depth: Float[Tensor, "B V H W"],
    match_logits: Float[Tensor, "B V Q R"],
    settings: RefinementSettings = RefinementSettings(),  # noqa: B008 (frozen)
) -> Float[Tensor, "B V 4 4"]:
    """Adjust the poses of views 1, 2, ... by Gauss-Newton steps; view 0 stays the world.

    Args:
        cam_from_first: Predicted poses; view 0 is the identity.
        intrinsics: Predicted pinholes in pixels.
        depth: Predicted depth.
        match_logits: Cells of every view against the cells of view 0, row-major on a grid over the image.
        settings: Noise model and prior.
    """
    batch_size, num_views = depth.shape[:2]
    if num_views == 1:
        return cam_from_first
    size_hw = (depth.shape[-2], depth.shape[-1])
    pairs = correspondences(match_logits[:, 1:].flatten(0, 1), size_hw)
    others, firsts = slice(1, None), slice(0, 1)
    points = _lift(pairs.pixels, _pairs(depth, others), _pairs(intrinsics, others))
    first_points = _lift(pairs.first_pixels, _pairs(depth, firsts), _pairs(intrinsics, firsts))
    start = cam_from_first[:, 1:].flatten(0, 1)
    pose = start
    for _ in range(settings.iterations):
        forward = _residuals(transform_points(pose, first_points), _pairs(intrinsics, others), pairs.pixels)
        in_first = transform_points(invert_rigid(pose), points)
        backward = _residuals(in_first, _pairs(intrinsics, firsts), pairs.first_pixels)
        forward_jacobian = forward.projection @ _point_jacobian(transform_points(pose, first_points))
        backward_jacobian = -backward.projection @ (
            pose[:, None, :3, :3].transpose(-1, -2) @ _point_jacobian(points)
        )
        normal, gradient = _prior(pose, start, settings)
        for residuals, jacobian in ((forward, forward_jacobian), (backward, backward_jacobian)):
            scaled = residuals.values / settings.noise_px
            weight = settings.evidence * pairs.weights / (1 + scaled.square().sum(dim=-1))
            jacobian = jacobian / settings.noise_px
            normal = normal + torch.einsum("mq,mqri,mqrj->mij", weight, jacobian, jacobian)
            gradient = gradient + torch.einsum("mq,mqri,mqr->mi", weight, jacobian, scaled)
        pose = _exponential(-torch.linalg.solve(normal, gradient)) @ pose
    refined = pose.unflatten(0, (batch_size, num_views - 1))
    return torch.cat([cam_from_first[:, :1], refined], dim=1)


def correspondences(match_logits: Float[Tensor, "M Q R"], size_hw: tuple[int, int]) -> Correspondences:
    """Centre of every cell, and the mean of the match distribution over the 3x3 cells around its peak."""
    height, width = size_hw
    cell = (height * width / match_logits.shape[1]) ** 0.5
    rows, columns = round(height / cell), round(width / cell)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    grid = torch.stack([x, y], dim=-1).flatten(0, 1).to(match_logits)
    probabilities = match_logits.softmax(dim=-1)
    peak = grid[probabilities.argmax(dim=-1)]
    near = ((grid - peak[..., None, :]).abs() <= 1).all(dim=-1)
    local = probabilities * near
    mass = local.sum(dim=-1)
    first_pixels = (local @ grid / mass[..., None] + 0.5) * cell
    pixels = ((grid + 0.5) * cell).expand_as(first_pixels)
    return Correspondences(pixels, first_pixels, mass)


@dataclass(frozen=True)
class _Residuals:
    values: Float[Tensor, "M Q 2"]  # pixels
    projection: Float[Tensor, "M Q 2 3"]  # derivative of the pixel by the point


def _pairs(values: Float[Tensor, "B V *rest"], views: slice) -> Float[Tensor, "M *rest"]:
    """Values of these views for every pair of a later view with view 0."""
    count = values.shape[1] - 1
    return values[:, views].expand(-1, count, *values.shape[2:]).flatten(0, 1)


def _lift(
    pixels: Float[Tensor, "M Q 2"], depth: Float[Tensor, "M H W"], intrinsics: Float[Tensor, "M 3 3"]
) -> Float[Tensor, "M Q 3"]:
    """Camera-frame points of pixels, depth interpolated."""
    height, width = depth.shape[-2:]
    normalised = 2 * pixels / pixels.new_tensor([width, height]) - 1
    sampled = functional.grid_sample(
        depth[:, None], normalised[:, None], mode="bilinear", padding_mode="border", align_corners=False
    )
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], dim=-1)[:, None]
    rays = (pixels - intrinsics[:, None, :2, 2]) / focal
    return functional.pad(rays, (0, 1), value=1.0) * sampled[:, 0, 0, :, None]


def _residuals(
    points: Float[Tensor, "M Q 3"], intrinsics: Float[Tensor, "M 3 3"], pixels: Float[Tensor, "M Q 2"]
) -> _Residuals:
    z = points[..., 2:].clamp_min(MIN_DEPTH)
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], dim=-1)[:, None]
    ratio = points[..., :2] / z
    values = focal * ratio + intrinsics[:, None, :2, 2] - pixels
    direct = torch.diag_embed((focal / z).expand_as(ratio))
    projection = torch.cat([direct, (-focal * ratio / z)[..., None]], dim=-1)
    return _Residuals(values, projection)


def _point_jacobian(points: Float[Tensor, "M Q 3"]) -> Float[Tensor, "M Q 3 6"]:
    """Derivative of exp(rotation, translation) applied to points, at zero: [-[p]x, I]."""
    identity = torch.eye(3, dtype=points.dtype, device=points.device).expand(*points.shape[:-1], 3, 3)
    return torch.cat([-_cross_matrix(points), identity], dim=-1)


def _prior(
    pose: Float[Tensor, "M 4 4"], start: Float[Tensor, "M 4 4"], settings: RefinementSettings
) -> tuple[Float[Tensor, "M 6 6"], Float[Tensor, "M 6"]]:
    """Normal matrix and gradient of the distance from the start: rotation vector and translation."""
    turned = pose[:, :3, :3] @ start[:, :3, :3].transpose(-1, -2)
    skew = (turned - turned.transpose(-1, -2)) / 2  # sin(angle) [axis]x, the rotation vector of small turns
    rotation = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=-1)
    translation = pose[:, :3, 3] - start[:, :3, 3]
    residual = torch.cat(
        [rotation / settings.prior_rotation, translation / settings.prior_translation], dim=-1
    )
    identity = torch.eye(3, dtype=pose.dtype, device=pose.device).expand(len(pose), 3, 3)
    top = torch.cat([identity / settings.prior_rotation, torch.zeros_like(identity)], dim=-1)
    bottom = torch.cat([-_cross_matrix(pose[:, :3, 3]), identity], dim=-1) / settings.prior_translation
    jacobian = torch.cat([top, bottom], dim=-2)
    transposed = jacobian.transpose(-1, -2)
    return transposed @ jacobian, (transposed @ residual[..., None]).squeeze(-1)


def _cross_matrix(vectors: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def _exponential(step: Float[Tensor, "M 6"]) -> Float[Tensor, "M 4 4"]:
    """Rigid motion of a rotation vector and a translation, which is not rotated."""
    return rigid(torch.linalg.matrix_exp(_cross_matrix(step[:, :3])), step[:, 3:])
