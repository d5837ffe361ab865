"""Real spherical harmonics up to degree 3, as 3D Gaussian splatting stores them.

Basis and signs: Sloan, "Efficient Spherical Harmonic Evaluation", JCGT 2013, with the Condon-Shortley phase.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import invert_rigid

_C0 = math.sqrt(1 / (4 * math.pi))
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
    values = [torch.full_like(x, _C0)]
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


def sh_colors(
    sh: Float[Tensor, "*b N S 3"], means: Float[Tensor, "*b N 3"], cam_from_world: Float[Tensor, "*b C 4 4"]
) -> Tensor:
    """Colours `max(0.5 + sum, 0)` seen by each camera: [*b, C, N, 3], or [*b, N, 3] for degree 0.

    The viewing direction runs from the camera's centre to the Gaussian's mean; gradients flow to both.
    """
    degree = sh_degree(sh.shape[-2])
    if degree == 0:
        return (0.5 + _C0 * sh[..., 0, :]).clamp_min(0)
    centres = invert_rigid(cam_from_world)[..., :3, 3]
    offsets = means.unsqueeze(-3) - centres.unsqueeze(-2)
    directions = torch.nn.functional.normalize(offsets, dim=-1)
    basis = sh_basis(directions, degree)
    return (0.5 + torch.einsum("...cns,...nsd->...cnd", basis, sh)).clamp_min(0)
