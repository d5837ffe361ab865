"""Colours of Gaussians as a camera sees them: their spherical harmonics in the viewing direction."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import invert_rigid
from tokengroups.spherical_harmonics import SH_C0, sh_basis, sh_degree


def sh_colors(
    sh: Float[Tensor, "*b N S 3"], means: Float[Tensor, "*b N 3"], cam_from_world: Float[Tensor, "*b C 4 4"]
) -> Tensor:
    """Colours `max(0.5 + sum, 0)` seen by each camera: [*b, C, N, 3], or [*b, N, 3] for degree 0.

    The viewing direction runs from the camera's centre to the Gaussian's mean; gradients flow to both.
    """
    degree = sh_degree(sh.shape[-2])
    if degree == 0:
        return (0.5 + SH_C0 * sh[..., 0, :]).clamp_min(0)
    centres = invert_rigid(cam_from_world)[..., :3, 3]
    offsets = means.unsqueeze(-3) - centres.unsqueeze(-2)
    directions = torch.nn.functional.normalize(offsets, dim=-1)
    basis = sh_basis(directions, degree)
    return (0.5 + torch.einsum("...cns,...nsd->...cnd", basis, sh)).clamp_min(0)
