"""How matched pixels of two photos constrain their cameras, focal length and depth: residuals and Jacobians.

A pixel is lifted by its depth, moved into the other camera and projected; it should fall on its match, and its depth
there should be the other view's own. Depth is corrected by a smooth factor; what that does not explain is noise, which
moves the projected point along its epipolar line: residuals along that line count accordingly less.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import rigid, transform_points
from tokengroups.vggt.correspondences import PixelMatches

MIN_DEPTH = 0.05  # of a point that counts, in the encoder's unit: a twentieth of the mean distance


@dataclass(frozen=True)
class Frame:
    """One photo with the depth and intrinsics believed so far."""

    image: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "H W"]
    intrinsics: Float[Tensor, "3 3"]

    def corrected(self, log_focal: Float[Tensor, ""], nodes: Float[Tensor, " n"]) -> Frame:
        """The frame with its focal lengths scaled and its depth corrected."""
        intrinsics = self.intrinsics.clone()
        intrinsics[[0, 1], [0, 1]] *= log_focal.exp()
        height, width = self.depth.shape
        side = round(len(nodes) ** 0.5)
        rows, columns = (_hats(torch.arange(n).to(nodes) + 0.5, n, side) for n in (height, width))
        factor = (rows @ nodes.view(side, side) @ columns.T).exp()
        return replace(self, depth=self.depth * factor, intrinsics=intrinsics)

    def depth_at(self, pixels: Float[Tensor, "Q 2"]) -> Float[Tensor, " Q"]:
        """Depth interpolated between pixel centres."""
        height, width = self.depth.shape
        normalised = 2 * pixels / pixels.new_tensor([width, height]) - 1
        return functional.grid_sample(
            self.depth[None, None], normalised[None, None], padding_mode="border", align_corners=False
        )[0, 0, 0]

    def lift(self, pixels: Float[Tensor, "Q 2"]) -> Float[Tensor, "Q 3"]:
        """Camera-frame points of pixels."""
        rays = (pixels - self.intrinsics[:2, 2]) / self.intrinsics.diagonal()[:2]
        return functional.pad(rays, (0, 1), value=1.0) * self.depth_at(pixels)[:, None]

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


@dataclass(frozen=True)
class Noise:
    """What a stage believes of its matches and depths."""

    pixel: float  # standard deviation of a match, in pixels
    evidence: float  # weight of one match against the prior
    depth: float  # relative standard deviation of what is not corrected of a depth
    agreement: float = 0.0  # weight of two views' depths of one point
    depths: float = 1.0  # standard deviation of the difference of their logarithms


@dataclass(frozen=True)
class Equations:
    """Rows of a Jacobian and residuals; unknowns beyond the rows' columns have derivative zero."""

    rows: Float[Tensor, "R u"]
    residuals: Float[Tensor, " R"]


def match_equations(
    source: Frame,
    target: Frame,
    relative: Float[Tensor, "4 4"],
    matches: PixelMatches,
    side: int,
    noise: Noise,
) -> list[Equations]:
    """How pixels of one photo that were found in another constrain both frames, weighted by Cauchy's loss.

    Columns: six for the pose of the target, six for that of the source, one for the logarithm of the focal length,
    side^2 for the source's depth correction and as many for the target's; none where side = 0.

    Args:
        source: Photo whose pixels were searched for.
        target: Photo in which they were found.
        relative: Pose of the target's camera relative to the source's.
        matches: The pixels.
        side: Nodes of a depth correction along an edge of the image.
        noise: What to believe of them.
    """
    size_hw, found, weight = (source.depth.shape[0], source.depth.shape[1]), matches.target, matches.weight
    turn, shift = relative[:3, :3], relative[:3, 3]
    points = source.lift(matches.source)
    seen = transform_points(relative, points)
    by_depth = seen - shift  # per relative change of the source's depth
    shrink = points * points.new_tensor([-1.0, -1.0, 0.0])  # of a lifted point, by a longer focal length
    by_camera = torch.cat(
        [_point_jacobian(seen), -turn @ _point_jacobian(points), (shrink @ turn.T)[..., None]], dim=-1
    )
    nodes = node_weights(matches.source, side, size_hw)
    in_front = seen[:, 2] > MIN_DEPTH

    projection, projected = target.projection_jacobian(seen), target.project(seen)
    rows, residual = projection @ by_camera, projected - found
    rows[:, :, 12] += projected - target.intrinsics[:2, 2]
    along = (projection @ by_depth[..., None]).squeeze(-1)  # pixels per relative change of depth
    whiten = _whitening(along, noise.pixel, noise.depth)
    residual = (whiten @ residual[..., None]).squeeze(-1)
    trust = (noise.evidence * weight * in_front / (1 + residual.square().sum(dim=-1))).sqrt()
    whiten = whiten * trust[:, None, None]
    by_nodes = (whiten @ along[..., None]) * nodes[:, None]
    rows = torch.cat([whiten @ rows, by_nodes], dim=-1)
    equations = [Equations(rows.flatten(0, 1), (residual * trust[:, None]).flatten())]
    if noise.agreement == 0:
        return equations

    depth = seen[:, 2].clamp_min(MIN_DEPTH)
    difference = (depth.log() - target.depth_at(found).clamp_min(MIN_DEPTH).log()) / noise.depths
    trust = (noise.agreement * weight * in_front / (1 + difference.square())).sqrt()
    other_nodes = node_weights(found, side, size_hw)
    by_agreement = torch.cat(
        [by_camera[:, 2], by_depth[:, 2:] * nodes, -depth[:, None] * other_nodes], dim=-1
    )
    rows = by_agreement * (trust / noise.depths / depth)[:, None]
    return [*equations, Equations(rows, difference * trust)]


def node_weights(pixels: Float[Tensor, "Q 2"], side: int, size_hw: tuple[int, int]) -> Float[Tensor, "Q n"]:
    """Bilinear weights of the side x side nodes, the outer ones on the image's border."""
    columns, rows = _hats(pixels[:, 0], size_hw[1], side), _hats(pixels[:, 1], size_hw[0], side)
    return (rows[:, :, None] * columns[:, None, :]).flatten(1)


def _hats(positions: Float[Tensor, " Q"], length: int, side: int) -> Float[Tensor, "Q s"]:
    """Linear weights of nodes that are evenly spread over [0, length]."""
    nodes = torch.arange(side, device=positions.device)
    places = (positions / length * (side - 1)).clamp(0, max(side - 1, 0))
    return (1 - (places[:, None] - nodes).abs()).clamp_min(0)


def _whitening(along: Float[Tensor, "Q 2"], pixel: float, depth: float) -> Float[Tensor, "Q 2 2"]:
    """Inverse square roots of pixel^2 I + depth^2 a a^T.

    They are (I - k a a^T) / pixel with (1 - k |a|^2)^2 = pixel^2 / (pixel^2 + depth^2 |a|^2).
    """
    square = along.square().sum(dim=-1)
    ratio = (pixel**2 / (pixel**2 + depth**2 * square)).sqrt()
    factor = (1 - ratio) / square.clamp_min(1e-12)
    outer = along[:, :, None] * along[:, None, :]
    return (torch.eye(2).to(along) - factor[:, None, None] * outer) / pixel


def _point_jacobian(points: Float[Tensor, "Q 3"]) -> Float[Tensor, "Q 3 6"]:
    """Derivative of exp(rotation, translation) applied to points, at zero: [-[p]x, I]."""
    identity = torch.eye(3).to(points).expand(len(points), 3, 3)
    return torch.cat([-cross_matrix(points), identity], dim=-1)


def cross_matrix(vectors: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """[v]x, with [v]x p = v x p."""
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def exponential(step: Float[Tensor, " 6"]) -> Float[Tensor, "4 4"]:
    """Rigid motion of a rotation vector and a translation, which is not rotated."""
    return rigid(torch.linalg.matrix_exp(cross_matrix(step[:3])), step[3:])
