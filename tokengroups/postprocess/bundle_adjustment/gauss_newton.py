"""Gauss-Newton on robust residuals: one joint adjustment of poses, focal length and depth to matched pixels.

Every view's depth is multiplied by the exponential of a smooth correction, bilinear between the nodes of a grid over
its image (Triggs et al., Bundle Adjustment - A Modern Synthesis, 2000).

Unknowns, in this order: six numbers per view (a rotation vector and a translation, applied after the pose), the
logarithm of one factor on all focal lengths, and the nodes of every view's correction. View 0 stays the world.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.bounds import Between, Settings, Share, Std, Weight
from tokengroups.geometry import cross_matrix, invert_rigid
from tokengroups.postprocess.bundle_adjustment.frames import Frame, Frames, depth_factors
from tokengroups.postprocess.bundle_adjustment.patch_matching import PixelMatches
from tokengroups.postprocess.bundle_adjustment.residuals import Equations, Noise, exponential, match_equations

STOP_BELOW_STEP = 2e-3  # of poses, in radians and the geometry's unit: no further Gauss-Newton steps
FOCAL_PRIOR_STD_AFTER_RIGID = 0.03  # of the log focal length, once depths are corrected: they hardly constrain it
CORRECTION_NODES = 8  # a side of the grid of log-depth corrections
CORRECTION_PRIOR_STD = 0.3  # of a node
CORRECTION_SMOOTHNESS_STD = 0.15  # of the difference of neighbouring nodes
SearchRadii = Annotated[tuple[Annotated[int, Between(1, 64)], ...], Between(0, 16)]
FineSizes = Annotated[tuple[Annotated[int, Between(32, 4096)], ...], Between(0, 8)]
PatchStds = Annotated[tuple[Std, ...], Between(0, 16)]


@dataclass(frozen=True)
class BundleAdjustmentSettings(Settings):
    """Stages, weights and priors, chosen on held-out rooms; results hardly depend on most of them.

    A weight scales the evidence of a match against the prior.
    """

    max_iterations: Annotated[int, Between(0, 1000)] = 12  # Gauss-Newton steps a stage
    cell_weight: Weight = 0.02  # of a cell's match: errors of neighbouring cells are correlated
    patch_weight: Weight = 0.5  # of a patch's match
    search_radii_px: SearchRadii = (8, 6, 4, 3)  # around the expected pixel, one stage each
    patch_stds_px: PatchStds = (1.0, 0.5, 0.5, 0.5)  # of a patch's match, one a stage
    wide_search_below: Share = 0.25  # share of patches found in the first stage: below it, a wide stage comes first
    fine_sizes: FineSizes = (256, 512)  # longer sides of photos with more pixels, for further stages on corners
    fine_search_radii_px: SearchRadii = (9, 6, 5)  # around the expected pixel, one stage each
    corner_weight: Weight = 1.0  # of a corner's match
    fine_focal_prior_std: Std = 0.014  # where there are such photos and little parallax; see `fine_focal_std`
    rigid_stages: Annotated[int, Between(0, 16)] = 2  # stages before depths are corrected
    rotation_prior_std: Std = 0.3  # radians, under Cauchy's loss: predicted poses have outliers
    translation_prior_std: Std = 0.2  # in the geometry's unit
    focal_prior_std: Std = 0.06  # of the log focal length, one error for all views
    fixed_cameras: bool = False  # cameras are known: only depth is adjusted

    def __post_init__(self) -> None:
        """Refuse stages without both a radius and a standard deviation."""
        super().__post_init__()
        counts = len(self.search_radii_px), len(self.patch_stds_px)
        if counts[0] != counts[1]:
            raise ValueError(f"search_radii_px and patch_stds_px must be equally many, got {counts[0]} and {counts[1]}")


@dataclass(frozen=True)
class ViewMatches:
    """Pixels of view `source` found in view `target`."""

    source: int
    target: int
    pixels: PixelMatches

    def within(self, mask: Bool[Tensor, "V H W"] | None) -> ViewMatches:
        """Matches between pixels that count; None = all do."""
        if mask is None:
            return self
        pixels = self.pixels
        weight = pixels.weight * _lies_in(mask[self.source], pixels.source) * _lies_in(mask[self.target], pixels.target)
        return replace(self, pixels=replace(pixels, weight=weight).with_positive_weight())


def _lies_in(mask: Bool[Tensor, "H W"], pixels: Float[Tensor, "Q 2"]) -> Bool[Tensor, " Q"]:
    column, row = pixels.floor().long().unbind(-1)
    return mask[row.clamp(0, mask.shape[0] - 1), column.clamp(0, mask.shape[1] - 1)]


@dataclass(frozen=True)
class _StackedMatches:
    """Matches of all pairs one after the other: many small calculations take longer than a large one."""

    source: Int64[Tensor, " Q"]
    target: Int64[Tensor, " Q"]
    pixels: PixelMatches
    counts: list[int]  # of each pair

    @classmethod
    def of(cls, matches: list[ViewMatches]) -> _StackedMatches:
        counts = [len(match.pixels.weight) for match in matches]
        device = matches[0].pixels.weight.device
        views = torch.tensor([[match.source, match.target] for match in matches], device=device)
        source, target = views.repeat_interleave(torch.tensor(counts, device=device), dim=0).unbind(dim=1)
        names = ("source", "target", "weight")
        pixels = PixelMatches(*(torch.cat([getattr(match.pixels, name) for match in matches]) for name in names))
        return cls(source, target, pixels, counts)


@dataclass(frozen=True)
class Estimate:
    """Current values of all unknowns."""

    poses: Float[Tensor, "V 4 4"]  # cam_from_world, that of view 0 the identity
    log_focal: Float[Tensor, ""]  # factor on all predicted focal lengths
    nodes: Float[Tensor, "V n"]  # logarithms of factors on the depth, a grid over every image

    def relative(self, source: int, target: int) -> Float[Tensor, "4 4"]:
        """Pose of camera `target` relative to camera `source`."""
        return self.poses[target] @ invert_rigid(self.poses[source])

    def frames(self, predicted: list[Frame]) -> list[Frame]:
        """The photos with this estimate's focal lengths and depths."""
        factors = depth_factors(self.nodes, predicted[0].size_hw)
        return [frame.corrected(self.log_focal, factor) for frame, factor in zip(predicted, factors, strict=True)]

    def moved(self, step: Float[Tensor, " N"]) -> Estimate:
        """After a step of all unknowns."""
        views = len(self.poses)
        poses = exponential(step[: 6 * views].view(views, 6)) @ self.poses
        nodes = self.nodes + step[6 * views + 1 :].view_as(self.nodes)
        return Estimate(poses, self.log_focal + step[6 * views], nodes)


def adjust(
    predicted: list[Frame],
    start: Estimate,
    estimate: Estimate,
    matches: list[ViewMatches],
    noise: Noise,
    settings: BundleAdjustmentSettings,
    rigid_log_focal: Float[Tensor, ""] | None = None,
) -> Estimate:
    """Gauss-Newton steps on the matches and the prior around `start`.

    Args:
        predicted: Photos with the predicted depth and focal lengths.
        start: Predicted values: the centre of the prior.
        estimate: Current values, the start of the iteration.
        matches: Matches of any pairs of views.
        noise: Noise model of the matches.
        settings: Standard deviations of the prior.
        rigid_log_focal: Log factor on the focal lengths that the rigid stages found; depths are corrected only if it
            is given, and the factor stays close to it.
    """
    views, focal = len(estimate.poses), 6 * len(estimate.poses)
    side = 0 if rigid_log_focal is None else CORRECTION_NODES
    per_view = side**2
    moving = slice(focal + 1, None) if settings.fixed_cameras else slice(6, focal)  # what has to come to rest
    free = slice(moving.start, focal + 1 + views * per_view)
    smoothness = _smoothness(side).to(estimate.nodes) if side else None
    stacked = _StackedMatches.of(matches)
    unknowns = torch.stack([_unknowns(match, views, per_view) for match in matches]).to(estimate.nodes.device)
    for _ in range(settings.max_iterations):
        frames = estimate.frames(predicted)
        normal = estimate.poses.new_zeros(focal + 1 + views * per_view, focal + 1 + views * per_view)
        gradient = normal.new_zeros(len(normal))
        normal[focal, focal] = settings.focal_prior_std**-2
        gradient[focal] = estimate.log_focal * settings.focal_prior_std**-2
        if rigid_log_focal is not None:
            normal[focal, focal] += FOCAL_PRIOR_STD_AFTER_RIGID**-2
            gradient[focal] += (estimate.log_focal - rigid_log_focal) * FOCAL_PRIOR_STD_AFTER_RIGID**-2
        pose_normal, pose_gradient = _pose_prior(estimate.poses, start.poses, settings)
        for view in range(views):
            own = slice(6 * view, 6 * view + 6)
            normal[own, own], gradient[own] = pose_normal[view], pose_gradient[view]
            if smoothness is not None:
                own = slice(focal + 1 + view * per_view, focal + 1 + (view + 1) * per_view)
                normal[own, own], gradient[own] = smoothness, smoothness @ estimate.nodes[view]
        for part in _all_equations(frames, estimate, stacked, side, noise):
            _add(normal, gradient, part.split(stacked.counts), unknowns[:, : part.rows.shape[1]])
        step = gradient.new_zeros(focal + 1 + estimate.nodes.numel())
        step[free] = -torch.linalg.solve(normal[free, free], gradient[free])
        estimate = estimate.moved(step)
        if step[moving].abs().max() < STOP_BELOW_STEP:
            break
    return estimate


def _add(
    normal: Float[Tensor, "N N"],
    gradient: Float[Tensor, " N"],
    equations: list[tuple[Tensor, Tensor]],
    unknowns: Int64[Tensor, "P u"],
) -> None:
    """Add J^T J and J^T r of all pairs, each to its own unknowns; all at once, as many small additions take longer."""
    squares = torch.stack([rows.T @ rows for rows, _ in equations])
    slopes = torch.stack([rows.T @ residuals for rows, residuals in equations])
    places = unknowns[:, :, None] * len(gradient) + unknowns[:, None]
    normal.view(-1).index_add_(0, places.flatten(), squares.flatten())
    gradient.index_add_(0, unknowns.flatten(), slopes.flatten())


def _all_equations(
    frames: list[Frame], estimate: Estimate, matches: _StackedMatches, side: int, noise: Noise
) -> list[Equations]:
    """`match_equations` of all pairs."""
    source, target = (Frames.of(frames, view) for view in (matches.source, matches.target))
    relative = estimate.poses[:, None] @ invert_rigid(estimate.poses)
    relative = relative[matches.target, matches.source]
    return match_equations(source, target, relative, matches.pixels, side, noise)


def _unknowns(match: ViewMatches, views: int, per_view: int) -> Int64[Tensor, " u"]:
    """Indices of the unknowns that the columns of `match_equations` stand for."""
    poses = [torch.arange(6 * view, 6 * view + 6) for view in (match.target, match.source)]
    first = [6 * views + 1 + view * per_view for view in (match.source, match.target)]
    nodes = [torch.arange(start, start + per_view) for start in first]
    return torch.cat([*poses, torch.tensor([6 * views]), *nodes])


def _smoothness(side: int) -> Float[Tensor, "n n"]:
    """Normal matrix of the prior on a view's nodes: small, and like their neighbours."""
    index = torch.arange(side**2).view(side, side)
    pairs = torch.cat([torch.stack([index[:, 1:], index[:, :-1]], -1).flatten(0, 1),
                       torch.stack([index[1:], index[:-1]], -1).flatten(0, 1)])  # fmt: skip
    ends = functional.one_hot(pairs, side**2).float()
    steps = ends[:, 0] - ends[:, 1]
    magnitude = torch.eye(side**2) / CORRECTION_PRIOR_STD**2
    return magnitude + steps.T @ steps / CORRECTION_SMOOTHNESS_STD**2


def _pose_prior(
    poses: Float[Tensor, "V 4 4"], start: Float[Tensor, "V 4 4"], settings: BundleAdjustmentSettings
) -> tuple[Float[Tensor, "V 6 6"], Float[Tensor, "V 6"]]:
    """Normal matrices and gradients of the distances from the start: rotation vectors and translations."""
    turned = poses[:, :3, :3] @ start[:, :3, :3].mT
    skew = (turned - turned.mT) / 2  # sin(angle) [axis]x, the rotation vector of small turns
    rotation = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=1) / settings.rotation_prior_std
    translation = (poses[:, :3, 3] - start[:, :3, 3]) / settings.translation_prior_std
    identity = torch.eye(3).to(poses).expand(len(poses), 3, 3)
    top = torch.cat([identity, torch.zeros_like(identity)], dim=-1) / settings.rotation_prior_std
    bottom = torch.cat([-cross_matrix(poses[:, :3, 3]), identity], dim=-1) / settings.translation_prior_std
    jacobian = torch.cat([top, bottom], dim=1)
    distance = torch.cat([rotation, translation], dim=1)[..., None]
    trust = 1 / (1 + distance.square().sum(dim=(1, 2)))  # Cauchy's loss, as of the matches
    normal = trust[:, None, None] * jacobian.mT @ jacobian
    return normal, trust[:, None] * (jacobian.mT @ distance).squeeze(-1)
