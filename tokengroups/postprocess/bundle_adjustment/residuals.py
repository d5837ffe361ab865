"""Residuals and Jacobians of matched pixels of two photos with respect to cameras, focal length and depth.

A pixel is lifted by its depth, moved into the other camera and projected; it should fall on its match, and its depth
there should be the other view's own. Depth is corrected by a smooth factor; what that does not explain is noise, which
moves the projected point along its epipolar line: residuals along that line count accordingly less.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import cross_matrix, rigid, rotation_from_vector
from tokengroups.postprocess.bundle_adjustment.frames import MIN_DEPTH, Pinhole, node_weights
from tokengroups.postprocess.bundle_adjustment.patch_matching import PixelMatches

DEPTH_STD = 0.2  # relative, of a pixel's depth
CORRECTED_DEPTH_STD = 0.03  # relative, of a corrected depth
DEPTH_CONSISTENCY_STD = 0.05  # of the difference of two views' log depths of one point
DEPTH_CONSISTENCY_WEIGHT = 0.3


@dataclass(frozen=True)
class Noise:
    """Noise model of a stage's matches and depths."""

    pixel: float  # standard deviation of a match, in pixels
    weight: float  # weight of one match against the prior
    depth: float  # relative standard deviation of what is not corrected of a depth
    consistency_weight: float = 0.0  # of two views' depths of one point
    consistency_std: float = 1.0  # of the difference of their logarithms


@dataclass(frozen=True)
class Equations:
    """Rows of a Jacobian and residuals; unknowns beyond the rows' columns have derivative zero."""

    rows: Float[Tensor, "R u"]
    residuals: Float[Tensor, " R"]

    def split(self, counts: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Rows and residuals of consecutive matches, so many at a time."""
        each = len(self.residuals) // max(sum(counts), 1)  # rows a match
        sizes = [each * count for count in counts]
        return list(zip(self.rows.split(sizes), self.residuals.split(sizes), strict=True))


def match_equations(
    source: Pinhole, target: Pinhole, relative: Float[Tensor, "*q 4 4"], matches: PixelMatches, side: int, noise: Noise
) -> list[Equations]:
    """Residuals and Jacobians of pixels matched in another photo, weighted by Cauchy's loss.

    Columns: six for the pose of the target, six for that of the source, one for the logarithm of the focal length,
    side^2 for the source's depth correction and as many for the target's; none where side = 0. Rows are in the order
    of the matches.

    Args:
        source: Photos of the source pixels.
        target: Photos of the target pixels.
        relative: Pose of the target's camera relative to the source's, one or one per match.
        matches: The pixels.
        side: Nodes of a depth correction along an edge of the image.
        noise: Noise model of the matches.
    """
    found, weight = matches.target, matches.weight
    turn, shift = relative[..., :3, :3], relative[..., :3, 3]
    points = source.lift(matches.source)
    seen = _turned(turn, points) + shift
    by_depth = seen - shift  # per relative change of the source's depth
    shrink = points * points.new_tensor([-1.0, -1.0, 0.0])  # of a lifted point, by a longer focal length
    by_camera = torch.cat(
        [
            _point_jacobian(seen),
            torch.linalg.cross(turn.expand(len(points), 3, 3), points[:, None]),
            -turn.expand(len(points), 3, 3),
            _turned(turn, shrink)[..., None],
        ],
        dim=-1,
    )
    nodes = node_weights(matches.source, side, source.size_hw)
    in_front = seen[:, 2] > MIN_DEPTH

    projected = target.project(seen)
    motions = target.project_motions(seen, torch.cat([by_camera, by_depth[..., None]], dim=-1))
    rows, along, residual = motions[..., :-1], motions[..., -1:], projected - found
    rows[:, :, 12] += projected - target.centre
    whiten = _Whitening.of(along.squeeze(-1), noise.pixel, noise.depth)
    residual = whiten(residual[..., None]).squeeze(-1)
    trust = (noise.weight * weight * in_front / (1 + residual.square().sum(dim=-1))).sqrt()
    rows, along = (whiten(values) * trust[:, None, None] for values in (rows, along))
    rows = torch.cat([rows, along * nodes[:, None]], dim=-1)
    equations = [Equations(rows.flatten(0, 1), (residual * trust[:, None]).flatten())]
    if noise.consistency_weight == 0:
        return equations

    depth = seen[:, 2].clamp_min(MIN_DEPTH)
    difference = (depth.log() - target.depth_at(found).clamp_min(MIN_DEPTH).log()) / noise.consistency_std
    trust = (noise.consistency_weight * weight * in_front / (1 + difference.square())).sqrt()
    other_nodes = node_weights(found, side, target.size_hw)
    by_consistency = torch.cat([by_camera[:, 2], by_depth[:, 2:] * nodes, -depth[:, None] * other_nodes], dim=-1)
    rows = by_consistency * (trust / noise.consistency_std / depth)[:, None]
    return [*equations, Equations(rows, difference * trust)]


@dataclass(frozen=True)
class _Whitening:
    """Inverse square roots of pixel^2 I + depth^2 a a^T.

    They are (I - k a a^T) / pixel with (1 - k |a|^2)^2 = pixel^2 / (pixel^2 + depth^2 |a|^2).
    """

    along: Float[Tensor, "Q 2"]
    factor: Float[Tensor, " Q"]
    pixel: float

    @classmethod
    def of(cls, along: Float[Tensor, "Q 2"], pixel: float, depth: float) -> _Whitening:
        square = along.square().sum(dim=-1)
        ratio = (pixel**2 / (pixel**2 + depth**2 * square)).sqrt()
        return cls(along, (1 - ratio) / square.clamp_min(1e-12), pixel)

    def __call__(self, values: Float[Tensor, "Q 2 c"]) -> Float[Tensor, "Q 2 c"]:
        along = self.along[..., None]
        parallel = (along * values).sum(dim=1, keepdim=True)
        return (values - self.factor[:, None, None] * along * parallel) / self.pixel


def _turned(rotation: Float[Tensor, "*q 3 3"], vectors: Float[Tensor, "Q 3"]) -> Float[Tensor, "Q 3"]:
    """Vectors rotated, each by its own rotation or all by one; products of so small matrices are slow."""
    return (rotation * vectors[:, None]).sum(dim=-1)


def _point_jacobian(points: Float[Tensor, "Q 3"]) -> Float[Tensor, "Q 3 6"]:
    """Derivative of exp(rotation, translation) applied to points, at zero: [-[p]x, I]."""
    identity = torch.eye(3).to(points).expand(len(points), 3, 3)
    return torch.cat([-cross_matrix(points), identity], dim=-1)


def exponential(steps: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 4 4"]:
    """Rigid motions of rotation vectors and translations, which are not rotated."""
    return rigid(rotation_from_vector(steps[..., :3]), steps[..., 3:])
