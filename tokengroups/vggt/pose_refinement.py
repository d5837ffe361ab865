"""Refining predicted poses against matched pixels: a robust two-view adjustment with uncertain depth.

The camera head of a small VGGT regresses poses to a few degrees; matched pixels tell them to a fraction of one. Every
view's pose relative to view 0 is moved so that matched points, lifted by the predicted depth, reproject onto each
other, in both directions: first the cells of the matching head, then many small patches found near where the refined
pose puts them. The predicted depth is wrong by some per cent, which moves a reprojected point along its epipolar line;
residuals along that line count accordingly less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import invert_rigid, rigid, transform_points
from tokengroups.vggt.correspondences import PixelMatches, cell_matches, grid_pixels, patch_matches

MIN_DEPTH = 0.05  # of a point that counts, in the encoder's unit: a twentieth of the mean distance


@dataclass(frozen=True)
class RefinementSettings:
    """Chosen once on the rooms that watch the encoder's training."""

    iterations: int = 6  # Gauss-Newton steps per stage
    cell_noise_px: float = 2.0  # standard deviation of a cell's match
    cell_evidence: float = 0.02  # weight of one cell against the prior: neighbouring cells err together
    patch_noise_px: float = 1.0
    patch_evidence: float = 0.2
    patch_step_px: int = 4  # between the patches of a view
    search_px: tuple[int, ...] = (6, 4)  # radius around the expected pixel, one stage each
    depth_noise: float = 0.1  # relative standard deviation of the predicted depth
    prior_rotation: float = 0.05  # standard deviation of the camera head's rotation in radians
    prior_translation: float = 0.1  # and of its translation, in the encoder's unit


@torch.no_grad()
def refine_poses(
    images: Float[Tensor, "B V 3 H W"],
    cam_from_first: Float[Tensor, "B V 4 4"],
    intrinsics: Float[Tensor, "B V 3 3"],
    depth: Float[Tensor, "B V H W"],
    match_logits: Float[Tensor, "B V Q R"],
    settings: RefinementSettings = RefinementSettings(),  # noqa: B008 (frozen)
) -> Float[Tensor, "B V 4 4"]:
    """Adjust the poses of views 1, 2, ... one by one; view 0 stays the world.

    Args:
        images: Photos in [0, 1].
        cam_from_first: Predicted poses; view 0 is the identity.
        intrinsics: Predicted pinholes in pixels.
        depth: Predicted depth.
        match_logits: Cells of every view against the cells of view 0, row-major on a grid over the image.
        settings: Noise model and prior.
    """
    refined = cam_from_first.clone()
    with torch.autocast(images.device.type, enabled=False):
        for scene in range(images.shape[0]):
            first = _Frame(images[scene, 0], depth[scene, 0], intrinsics[scene, 0])
            for view in range(1, images.shape[1]):
                other = _Frame(images[scene, view], depth[scene, view], intrinsics[scene, view])
                start = cam_from_first[scene, view]
                refined[scene, view] = _refine_pair(first, other, start, match_logits[scene, view], settings)
    return refined


@dataclass(frozen=True)
class _Frame:
    image: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"]
    intrinsics: Float[Tensor, "3 3"]

    def lift(self, pixels: Float[Tensor, "Q 2"]) -> Float[Tensor, "Q 3"]:
        """Camera-frame points of pixels, depth interpolated."""
        height, width = self.depth.shape
        normalised = 2 * pixels / pixels.new_tensor([width, height]) - 1
        depth = functional.grid_sample(
            self.depth[None, None], normalised[None, None], padding_mode="border", align_corners=False
        )[0, 0, 0]
        rays = (pixels - self.intrinsics[:2, 2]) / self.intrinsics.diagonal()[:2]
        return functional.pad(rays, (0, 1), value=1.0) * depth[:, None]

    def project(self, points: Float[Tensor, "Q 3"]) -> Float[Tensor, "Q 2"]:
        """Pixels of camera-frame points."""
        focal = self.intrinsics.diagonal()[:2]
        return focal * points[:, :2] / points[:, 2:].clamp_min(MIN_DEPTH) + self.intrinsics[:2, 2]

    def projection_jacobian(self, points: Float[Tensor, "Q 3"]) -> Float[Tensor, "Q 2 3"]:
        """Derivative of `project`."""
        z = points[:, 2:].clamp_min(MIN_DEPTH)
        focal = self.intrinsics.diagonal()[:2]
        direct = torch.diag_embed((focal / z).expand(-1, 2))
        return torch.cat([direct, (-focal * points[:, :2] / z**2)[..., None]], dim=-1)


def _refine_pair(
    first: _Frame,
    other: _Frame,
    start: Float[Tensor, "4 4"],
    match_logits: Float[Tensor, "Q R"],
    settings: RefinementSettings,
) -> Float[Tensor, "4 4"]:
    """Pose of one view relative to view 0."""
    to_other = cell_matches(match_logits, (first.depth.shape[0], first.depth.shape[1]))
    to_first = PixelMatches(to_other.target, to_other.source, to_other.weight)
    noise, evidence = settings.cell_noise_px, settings.cell_evidence
    pose = _adjust(first, other, start, start, (to_first, to_other), noise, evidence, settings)
    pixels = grid_pixels(first.depth, settings.patch_step_px)
    for radius in settings.search_px:
        expected = first.project(transform_points(invert_rigid(pose), other.lift(pixels)))
        to_first = patch_matches(other.image, first.image, pixels, expected, radius)
        expected = other.project(transform_points(pose, first.lift(pixels)))
        to_other = patch_matches(first.image, other.image, pixels, expected, radius)
        noise, evidence = settings.patch_noise_px, settings.patch_evidence
        pose = _adjust(first, other, pose, start, (to_first, to_other), noise, evidence, settings)
    return pose


def _adjust(
    first: _Frame,
    other: _Frame,
    pose: Float[Tensor, "4 4"],
    prior: Float[Tensor, "4 4"],
    matches: tuple[PixelMatches, PixelMatches],
    noise_px: float,
    evidence: float,
    settings: RefinementSettings,
) -> Float[Tensor, "4 4"]:
    """Gauss-Newton steps on matches from `other` to `first` and from `first` to `other`."""
    to_first, to_other = matches
    points, first_points = other.lift(to_first.source), first.lift(to_other.source)
    for _ in range(settings.iterations):
        normal, gradient = _prior(pose, prior, settings)
        turn, shift = pose[:3, :3], pose[:3, 3]
        seen = transform_points(pose, first_points)
        seen_first = transform_points(invert_rigid(pose), points)
        for frame, at, by_pose, by_depth, match in (
            (other, seen, _point_jacobian(seen), seen - shift, to_other),
            (first, seen_first, -turn.T @ _point_jacobian(points), points @ turn, to_first),
        ):
            projection = frame.projection_jacobian(at)
            along = (projection @ by_depth[..., None]).squeeze(-1)  # pixels per relative change of depth
            information = _information(along, noise_px, settings.depth_noise)
            residual = frame.project(at) - match.target
            distance = torch.einsum("qi,qij,qj->q", residual, information, residual)
            weight = evidence * match.weight * (at[:, 2] > MIN_DEPTH) / (1 + distance)  # Cauchy
            weighted = weight[:, None, None] * information
            jacobian = projection @ by_pose
            normal = normal + torch.einsum("qri,qrs,qsj->ij", jacobian, weighted, jacobian)
            gradient = gradient + torch.einsum("qri,qrs,qs->i", jacobian, weighted, residual)
        pose = _exponential(-torch.linalg.solve(normal, gradient)) @ pose
    return pose


def _information(along: Float[Tensor, "Q 2"], noise_px: float, depth_noise: float) -> Float[Tensor, "Q 2 2"]:
    """Inverse of noise_px^2 I + depth_noise^2 a a^T by the Sherman-Morrison formula, which any size of a suits."""
    share = along.square().sum(dim=-1) + (noise_px / depth_noise) ** 2
    outer = along[:, :, None] * along[:, None, :] / share[:, None, None]
    return (torch.eye(2).to(along) - outer) / noise_px**2


def _point_jacobian(points: Float[Tensor, "Q 3"]) -> Float[Tensor, "Q 3 6"]:
    """Derivative of exp(rotation, translation) applied to points, at zero: [-[p]x, I]."""
    identity = torch.eye(3).to(points).expand(len(points), 3, 3)
    return torch.cat([-_cross_matrix(points), identity], dim=-1)


def _prior(
    pose: Float[Tensor, "4 4"], start: Float[Tensor, "4 4"], settings: RefinementSettings
) -> tuple[Float[Tensor, "6 6"], Float[Tensor, " 6"]]:
    """Normal matrix and gradient of the distance from the start: rotation vector and translation."""
    turned = pose[:3, :3] @ start[:3, :3].T
    skew = (turned - turned.T) / 2  # sin(angle) [axis]x, the rotation vector of small turns
    rotation = torch.stack([skew[2, 1], skew[0, 2], skew[1, 0]]) / settings.prior_rotation
    translation = (pose[:3, 3] - start[:3, 3]) / settings.prior_translation
    identity = torch.eye(3).to(pose)
    top = torch.cat([identity, torch.zeros_like(identity)], dim=-1) / settings.prior_rotation
    bottom = torch.cat([-_cross_matrix(pose[:3, 3]), identity], dim=-1) / settings.prior_translation
    jacobian = torch.cat([top, bottom])
    return jacobian.T @ jacobian, jacobian.T @ torch.cat([rotation, translation])


def _cross_matrix(vectors: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def _exponential(step: Float[Tensor, " 6"]) -> Float[Tensor, "4 4"]:
    """Rigid motion of a rotation vector and a translation, which is not rotated."""
    return rigid(torch.linalg.matrix_exp(_cross_matrix(step[:3])), step[3:])
