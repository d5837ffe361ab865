"""Refining predicted cameras against matched pixels: a robust adjustment with uncertain depth.

The camera head of a small VGGT regresses poses to a few degrees and focal lengths to some per cent; matched pixels
tell them better. Every view's pose relative to view 0, and one factor on the focal lengths of all views, are moved so
that matched points, lifted by the predicted depth, reproject onto each other, in both directions: first the cells of
the matching head, then many small patches found near where the refined cameras put them. The predicted depth is wrong
by some per cent, which moves a reprojected point along its epipolar line; residuals along that line count accordingly
less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import invert_rigid, rigid, transform_points
from tokengroups.types import Cameras
from tokengroups.vggt.correspondences import PixelMatches, cell_matches, grid_pixels, patch_matches

MIN_DEPTH = 0.05  # of a point that counts, in the encoder's unit: a twentieth of the mean distance


@dataclass(frozen=True)
class RefinementSettings:
    """Chosen once on the rooms that watch the encoder's training."""

    iterations: int = 6  # Gauss-Newton steps per stage
    cell_noise_px: float = 2.0  # standard deviation of a cell's match
    cell_evidence: float = 0.02  # weight of one cell against the prior: neighbouring cells err together
    patch_noise_px: float = 0.5
    patch_evidence: float = 0.2
    patch_step_px: int = 4  # between the patches of a view
    search_px: tuple[int, ...] = (6, 4, 3)  # radius around the expected pixel, one stage each
    depth_noise: float = 0.2  # relative standard deviation of the predicted depth
    prior_rotation: float = 0.05  # standard deviation of the camera head's rotation in radians
    prior_translation: float = 0.1  # and of its translation, in the encoder's unit
    prior_focal: float = 0.1  # and of the logarithm of the focal length, the same error in all views


@torch.no_grad()
def refine_cameras(
    images: Float[Tensor, "B V 3 H W"],
    cameras: Cameras,
    depth: Float[Tensor, "B V H W"],
    match_logits: Float[Tensor, "B V Q R"],
    settings: RefinementSettings = RefinementSettings(),  # noqa: B008 (frozen)
) -> Cameras:
    """Adjust the poses of views 1, 2, ... and the focal length; view 0 stays the world, a lone view as it is.

    Args:
        images: Photos in [0, 1].
        cameras: Predicted, batch axes B V; the pose of view 0 is the identity.
        depth: Predicted depth.
        match_logits: Cells of every view against the cells of view 0, row-major on a grid over the image.
        settings: Noise model and prior.
    """
    poses, intrinsics = cameras.cam_from_world.clone(), cameras.intrinsics.clone()
    with torch.autocast(images.device.type, enabled=False):
        for scene in range(images.shape[0] if images.shape[1] > 1 else 0):
            frames = [
                _Frame(*view) for view in zip(images[scene], depth[scene], intrinsics[scene], strict=True)
            ]
            refined = _refine(frames, poses[scene, 1:], match_logits[scene, 1:], settings)
            poses[scene, 1:] = refined.poses
            intrinsics[scene, :, [0, 1], [0, 1]] *= refined.log_focal.exp()
    return Cameras(poses, intrinsics, cameras.size_hw)


@dataclass(frozen=True)
class _Estimate:
    poses: Float[Tensor, "P 4 4"]  # of views 1, 2, ... relative to view 0
    log_focal: Float[Tensor, ""]  # factor on all predicted focal lengths


@dataclass(frozen=True)
class _Frame:
    image: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"]
    intrinsics: Float[Tensor, "3 3"]

    def zoomed(self, log_focal: Float[Tensor, ""]) -> _Frame:
        """The frame with its focal lengths scaled."""
        intrinsics = self.intrinsics.clone()
        intrinsics[[0, 1], [0, 1]] *= log_focal.exp()
        return replace(self, intrinsics=intrinsics)

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


def _refine(
    frames: list[_Frame],
    poses: Float[Tensor, "P 4 4"],
    match_logits: Float[Tensor, "P Q R"],
    settings: RefinementSettings,
) -> _Estimate:
    """All views of one scene together: cells first, then patches around where they should be."""
    start = estimate = _Estimate(poses, poses.new_zeros(()))
    size_hw = (frames[0].depth.shape[0], frames[0].depth.shape[1])
    to_other = [cell_matches(logits, size_hw) for logits in match_logits]
    matches = [(PixelMatches(match.target, match.source, match.weight), match) for match in to_other]
    noise, evidence = settings.cell_noise_px, settings.cell_evidence
    estimate = _adjust(frames, estimate, start, matches, noise, evidence, settings)
    pixels = grid_pixels(frames[0].depth, settings.patch_step_px)
    noise, evidence = settings.patch_noise_px, settings.patch_evidence
    for radius in settings.search_px:
        first, *others = [frame.zoomed(estimate.log_focal) for frame in frames]
        matches = [
            _match_patches(first, other, pose, pixels, radius)
            for other, pose in zip(others, estimate.poses, strict=True)
        ]
        estimate = _adjust(frames, estimate, start, matches, noise, evidence, settings)
    return estimate


def _match_patches(
    first: _Frame, other: _Frame, pose: Float[Tensor, "4 4"], pixels: Float[Tensor, "Q 2"], radius: int
) -> tuple[PixelMatches, PixelMatches]:
    """Patches of `other` found in `first` and of `first` found in `other`, near where the pose puts them."""
    expected = first.project(transform_points(invert_rigid(pose), other.lift(pixels)))
    to_first = patch_matches(other.image, first.image, pixels, expected, radius)
    expected = other.project(transform_points(pose, first.lift(pixels)))
    return to_first, patch_matches(first.image, other.image, pixels, expected, radius)


def _adjust(
    frames: list[_Frame],
    estimate: _Estimate,
    start: _Estimate,
    matches: list[tuple[PixelMatches, PixelMatches]],
    noise_px: float,
    evidence: float,
    settings: RefinementSettings,
) -> _Estimate:
    """Gauss-Newton steps on the matches of every view with view 0: six unknowns a view, and the focal length."""
    poses, log_focal = estimate.poses, estimate.log_focal
    for _ in range(settings.iterations):
        first, *others = [frame.zoomed(log_focal) for frame in frames]
        normal = poses.new_zeros(6 * len(poses) + 1, 6 * len(poses) + 1)
        gradient = poses.new_zeros(len(normal))
        normal[-1, -1] = settings.prior_focal**-2
        gradient[-1] = log_focal * settings.prior_focal**-2
        for view, (other, pose, match) in enumerate(zip(others, poses, matches, strict=True)):
            unknowns = torch.tensor([*range(6 * view, 6 * view + 6), len(normal) - 1], device=poses.device)
            pair_normal, pair_gradient = _pair_equations(
                first, other, pose, match, noise_px, evidence, settings
            )
            prior_normal, prior_gradient = _prior(pose, start.poses[view], settings)
            pair_normal[:6, :6] += prior_normal
            pair_gradient[:6] += prior_gradient
            normal[unknowns[:, None], unknowns] += pair_normal
            gradient[unknowns] += pair_gradient
        step = -torch.linalg.solve(normal, gradient)
        poses = torch.stack(
            [_exponential(move) @ pose for move, pose in zip(step[:-1].view(-1, 6), poses, strict=True)]
        )
        log_focal = log_focal + step[-1]
    return _Estimate(poses, log_focal)


def _pair_equations(
    first: _Frame,
    other: _Frame,
    pose: Float[Tensor, "4 4"],
    matches: tuple[PixelMatches, PixelMatches],
    noise_px: float,
    evidence: float,
    settings: RefinementSettings,
) -> tuple[Float[Tensor, "7 7"], Float[Tensor, " 7"]]:
    """Normal matrix and gradient of the matches of one view: its pose and the logarithm of the focal length."""
    to_first, to_other = matches
    points, first_points = other.lift(to_first.source), first.lift(to_other.source)
    turn, shift = pose[:3, :3], pose[:3, 3]
    seen = transform_points(pose, first_points)
    seen_first = transform_points(invert_rigid(pose), points)
    shrink = -points.new_tensor([1.0, 1.0, 0.0])  # of a lifted point, by a longer focal length
    normal, gradient = points.new_zeros(7, 7), points.new_zeros(7)
    for frame, at, by_pose, by_depth, by_focal, match in (
        (other, seen, _point_jacobian(seen), seen - shift, (first_points * shrink) @ turn.T, to_other),
        (
            first,
            seen_first,
            -turn.T @ _point_jacobian(points),
            points @ turn,
            (points * shrink) @ turn,
            to_first,
        ),
    ):
        projection = frame.projection_jacobian(at)
        projected = frame.project(at)
        along = (projection @ by_depth[..., None]).squeeze(-1)  # pixels per relative change of depth
        residual = projected - match.target
        # The inverse of noise_px^2 I + depth_noise^2 a a^T by the Sherman-Morrison formula, which any size of a suits:
        # (I - a a^T / share) / noise_px^2.
        share = along.square().sum(dim=-1) + (noise_px / settings.depth_noise) ** 2
        on_line = (along * residual).sum(dim=-1)
        distance = (residual.square().sum(dim=-1) - on_line.square() / share) / noise_px**2
        weight = evidence * match.weight * (at[:, 2] > MIN_DEPTH) / (1 + distance) / noise_px**2  # Cauchy
        by_focal = projection @ by_focal[..., None] + (projected - frame.intrinsics[:2, 2])[..., None]
        jacobian = torch.cat([projection @ by_pose, by_focal], dim=-1)
        on_line_jacobian = (along[:, None] @ jacobian).squeeze(1)
        weighted, rows = weight[:, None, None] * jacobian, jacobian.flatten(0, 1)
        normal = normal + weighted.flatten(0, 1).T @ rows
        normal = normal - ((weight / share)[:, None] * on_line_jacobian).T @ on_line_jacobian
        gradient = gradient + weighted.flatten(0, 1).T @ residual.flatten()
        gradient = gradient - on_line_jacobian.T @ (weight / share * on_line)
    return normal, gradient


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
