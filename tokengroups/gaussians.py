"""3D Gaussians: activations and their inverses, covariance, selection, rigid motion with spherical harmonics.

SH follow the real basis of 3D Gaussian Splatting (Kerbl et al. 2023) and gsplat: within degree l the order is
m = -l..l, with the Condon-Shortley sign, so that degree 1 is ``0.4886 * (-y, z, -x)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import multiply_quaternions, quaternion_from_rotation, rotation_from_quaternion
from tokengroups.types import Gaussians

SH_C0 = 0.5 / math.sqrt(math.pi)
# Stand-ins for the infinite log 0 and logit 1: finite in a file; float32 reads them back as exactly 0 and 1.
LOG_ZERO = -110.0
LOGIT_ONE = 20.0


def opacity_from_logit(logits: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Sigmoid, computed in float64 and rounded once."""
    return torch.sigmoid(logits.double()).to(logits.dtype)


def logit_from_opacity(opacities: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Inverse of `opacity_from_logit`, finite for all of [0, 1]; 0 and 1 come back exactly."""
    p = opacities.double()
    logits = (p.log() - torch.log1p(-p)).clamp(LOG_ZERO, LOGIT_ONE)
    return logits.to(opacities.dtype)


def scale_from_log(log_scales: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Exponential, computed in float64 and rounded once."""
    return log_scales.double().exp().to(log_scales.dtype)


def log_from_scale(scales: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Inverse of `scale_from_log`, finite for scale 0."""
    return scales.double().log().clamp(min=LOG_ZERO).to(scales.dtype)


def color_from_sh(sh: Float[Tensor, "*n S 3"]) -> Float[Tensor, "*n 3"]:
    """Colour averaged over all directions, clipped to [0, 1]: what the constant SH coefficient says."""
    return (0.5 + SH_C0 * sh[..., 0, :]).clamp(0.0, 1.0)


def covariances(gaussians: Gaussians) -> Float[Tensor, "*b N 3 3"]:
    """Covariance matrices R diag(scale^2) R^T."""
    axes = rotation_from_quaternion(gaussians.quats) * gaussians.scales.unsqueeze(-2)
    return axes @ axes.transpose(-1, -2)


def select(gaussians: Gaussians, index: Tensor) -> Gaussians:
    """The unbatched Gaussians at an index list or boolean mask."""
    return gaussians.map(lambda values: values[index])


def concatenate(parts: Sequence[Gaussians]) -> Gaussians:
    """Unbatched sets after one another; lower SH degrees are filled up with zeros."""
    count = max(part.sh.shape[-2] for part in parts)
    return Gaussians(
        means=torch.cat([part.means for part in parts]),
        quats=torch.cat([part.quats for part in parts]),
        scales=torch.cat([part.scales for part in parts]),
        opacities=torch.cat([part.opacities for part in parts]),
        sh=torch.cat([_pad_sh(part.sh, count) for part in parts]),
    )


def transform(
    gaussians: Gaussians,
    translation: Float[Tensor, "3"],
    rotation: Float[Tensor, "3 3"] | None = None,
    scale: float = 1.0,
) -> Gaussians:
    """Move unbatched Gaussians by ``x -> scale * rotation @ x + translation``; quaternions and SH too."""
    means, quats, sh = scale * gaussians.means, gaussians.quats, gaussians.sh
    if rotation is not None:
        means = means @ rotation.to(means).transpose(-1, -2)
        turn = quaternion_from_rotation(rotation.double()).to(quats)
        quats = multiply_quaternions(turn.expand(quats.shape), quats)
        sh = rotate_sh(sh, rotation)
    return Gaussians(means + translation.to(means), quats, scale * gaussians.scales, gaussians.opacities, sh)


def rotate_sh(sh: Float[Tensor, "*n S 3"], rotation: Float[Tensor, "3 3"]) -> Float[Tensor, "*n S 3"]:
    """Coefficients of the turned colour function ``d -> f(rotation^T d)``."""
    blocks, start = [sh[..., :1, :]], 1
    while start < sh.shape[-2]:
        degree = math.isqrt(start)
        matrix = wigner_matrix(rotation, degree).to(sh)
        block = sh[..., start : start + 2 * degree + 1, :]
        blocks.append(einsum(matrix, block, "m k, ... k c -> ... m c"))
        start += 2 * degree + 1
    return torch.cat(blocks, dim=-2)


def wigner_matrix(rotation: Float[Tensor, "3 3"], degree: int) -> Float[Tensor, "M M"]:
    """Real Wigner matrix of one SH degree, M = 2 * degree + 1, in float64.

    Solved from its definition ``Y(d) @ D = Y(rotation^T d)`` on directions that determine it well; the
    functions of one degree are closed under rotation, so the least-squares solution is exact.
    """
    directions = _spread_directions(rotation.device)
    columns = slice(degree**2, (degree + 1) ** 2)
    basis = sh_basis(directions, degree)[:, columns]
    turned = sh_basis(directions @ rotation.double(), degree)[:, columns]  # rows are rotation^T d
    return torch.linalg.lstsq(basis, turned).solution


def sh_basis(directions: Float[Tensor, "*n 3"], degree: int) -> Float[Tensor, "*n S"]:
    """The (degree + 1)^2 real SH functions at unit directions, up to degree 3."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    a1 = math.sqrt(3 / (4 * math.pi))
    a2 = math.sqrt(15 / math.pi)
    a3, b3, c3 = math.sqrt(35 / (2 * math.pi)), math.sqrt(105 / math.pi), math.sqrt(21 / (2 * math.pi))
    functions = [
        torch.full_like(x, SH_C0),
        -a1 * y, a1 * z, -a1 * x,
        a2 / 2 * x * y, -a2 / 2 * y * z, a2 / (4 * math.sqrt(3)) * (3 * zz - 1), -a2 / 2 * x * z, a2 / 4 * (xx
        - yy), -a3 / 4 * y * (3 * xx - yy), b3 / 2 * x * y * z, -c3 / 4 * y * (5 * zz - 1), math.sqrt(7 /
        math.pi) / 4 * z * (5 * zz - 3), -c3 / 4 * x * (5 * zz - 1), b3 / 4 * z * (xx - yy), -a3 / 4 * x * (xx
        - 3 * yy),
    ]  # fmt: skip
    return torch.stack(functions[: (degree + 1) ** 2], dim=-1)


def _pad_sh(sh: Tensor, count: int) -> Tensor:
    return torch.nn.functional.pad(sh, (0, 0, 0, count - sh.shape[-2]))


def _spread_directions(device: torch.device) -> Tensor:
    """32 unit directions on a golden spiral, float64."""
    index = torch.arange(32, dtype=torch.float64, device=device) + 0.5
    z = 1 - index / 16
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=-1)
