"""Real spherical harmonics up to degree 3, as 3D Gaussian splatting and gsplat store colours in them.

Within degree l the order is m = -l..l, with the Condon-Shortley sign, so that degree 1 is ``0.4886 * (-y, z, -x)``.
Polynomials: Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013.
"""

from __future__ import annotations

import math

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

SH_C0 = math.sqrt(1 / (4 * math.pi))
_C1 = math.sqrt(3 / (4 * math.pi))
_C2 = [math.sqrt(15 / (4 * math.pi)), math.sqrt(5 / (16 * math.pi)), math.sqrt(15 / (16 * math.pi))]
_C3 = [math.sqrt(c / math.pi) for c in (35 / 32, 105 / 4, 21 / 32, 7 / 16, 105 / 16)]


def sh_degree(num_coefficients: int) -> int:
    """Degree of a basis of that many coefficients.

    Raises:
        ValueError: it is none of 1, 4, 9, 16.
    """
    if num_coefficients not in (1, 4, 9, 16):
        raise ValueError(f"sh must have 1, 4, 9 or 16 coefficients, got {num_coefficients}")
    return math.isqrt(num_coefficients) - 1


def sh_basis(directions: Float[Tensor, "*b 3"], degree: int) -> Float[Tensor, "*b S"]:
    """Values of the (degree + 1)^2 basis functions in unit directions."""
    x, y, z = directions.unbind(-1)
    values = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        values += [-_C1 * y, _C1 * z, -_C1 * x]
    xx, yy, zz = x * x, y * y, z * z
    if degree >= 2:
        values += [
            _C2[0] * x * y, -_C2[0] * y * z, _C2[1] * (2 * zz - xx - yy), -_C2[0] * x * z, _C2[2] * (xx - yy),
        ]  # fmt: skip
    if degree >= 3:
        values += [
            -_C3[0] * y * (3 * xx - yy), _C3[1] * x * y * z, -_C3[2] * y * (4 * zz - xx - yy),
            _C3[3] * z * (2 * zz - 3 * xx - 3 * yy), -_C3[2] * x * (4 * zz - xx - yy),
            _C3[4] * z * (xx - yy), -_C3[0] * x * (xx - 3 * yy),
        ]  # fmt: skip
    return torch.stack(values, dim=-1)


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


def _spread_directions(device: torch.device) -> Tensor:
    """32 unit directions on a golden spiral, float64."""
    index = torch.arange(32, dtype=torch.float64, device=device) + 0.5
    z = 1 - index / 16
    angle = index * math.pi * (3 - math.sqrt(5))
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], dim=-1)
