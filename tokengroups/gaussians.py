"""3D Gaussians: activations and their inverses, covariance, selection, rigid motion with their spherical harmonics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import multiply_quaternions, quaternion_from_rotation, rotation_from_quaternion
from tokengroups.spherical_harmonics import SH_C0, rotate_sh
from tokengroups.types import Gaussians

# Stand-ins for the infinite log 0 and logit 1: finite in a file; float32 reads them back as exactly 0 and 1.
LOG_ZERO = -110.0
LOGIT_ONE = 20.0

LARGEST = 1e9  # of all lengths and coefficients; the products that rendering forms of them fit into float32
_SHORTEST = 1e-12  # quaternion that can be normalised


def opacity_from_logit(logits: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Sigmoid, computed in float64 and rounded once."""
    return torch.sigmoid(logits.double()).to(logits.dtype)


def logit_from_opacity(opacities: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Inverse of `opacity_from_logit`, finite for all of [0, 1]; 0 and 1 come back exactly."""
    p = opacities.double()
    return (p.log() - torch.log1p(-p)).clamp(LOG_ZERO, LOGIT_ONE).to(opacities.dtype)


def scale_from_log(log_scales: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Exponential, computed in float64 and rounded once."""
    return log_scales.double().exp().to(log_scales.dtype)


def log_from_scale(scales: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Inverse of `scale_from_log`, finite for scale 0."""
    return scales.double().log().clamp(min=LOG_ZERO).to(scales.dtype)


def color_from_sh(sh: Float[Tensor, "*n S 3"]) -> Float[Tensor, "*n 3"]:
    """Colour averaged over all directions (the constant SH coefficient), clipped to [0, 1]."""
    return (0.5 + SH_C0 * sh[..., 0, :]).clamp(0.0, 1.0)


def covariances(gaussians: Gaussians) -> Float[Tensor, "*b N 3 3"]:
    """Covariance matrices R diag(scale^2) R^T."""
    axes = rotation_from_quaternion(gaussians.quats) * gaussians.scales.unsqueeze(-2)
    return axes @ axes.transpose(-1, -2)


def footprints(gaussians: Gaussians) -> Float[Tensor, " N"]:
    """How much a Gaussian may cover: opacity times the product of its two largest scales, float64."""
    return gaussians.opacities.double() * gaussians.scales.double().topk(2, dim=-1).values.prod(dim=-1)


def faults(gaussians: Gaussians) -> dict[str, Bool[Tensor, " N"]]:
    """Masks of the unbatched Gaussians that cannot be used, by what is wrong with them."""
    fields = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities[:, None], gaussians.sh.flatten(1)]
    ends = [torch.aminmax(values, dim=1) for values in fields]  # NaN if there is one
    low = torch.stack([end.min.double() for end in ends]).amin(dim=0)
    high = torch.stack([end.max.double() for end in ends]).amax(dim=0)
    finite = low.isfinite() & high.isfinite()
    return {
        "NaN or infinite values": ~finite,
        f"values beyond {LARGEST:.0e}": finite & ((low < -LARGEST) | (high > LARGEST)),
        "scales below 0": (gaussians.scales < 0).any(dim=1),
        "opacities outside [0, 1]": (gaussians.opacities < 0) | (gaussians.opacities > 1),
        "a quaternion of length 0": torch.linalg.vector_norm(gaussians.quats.double(), dim=1) < _SHORTEST,
    }


def select(gaussians: Gaussians, index: Tensor) -> Gaussians:
    """The unbatched Gaussians at an index list or boolean mask.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.gaussians import select
        >>> gaussians = tg.example_scene().gaussians
        >>> select(gaussians, gaussians.means[:, 0] < 0).means.shape
        torch.Size([350, 3])
    """
    return gaussians.map(lambda values: values[index])


def concatenate(parts: Sequence[Gaussians]) -> Gaussians:
    """Concatenate unbatched sets; lower SH degrees are filled up with zeros."""
    count = max(part.sh.shape[-2] for part in parts)
    return Gaussians(
        means=torch.cat([part.means for part in parts]),
        quats=torch.cat([part.quats for part in parts]),
        scales=torch.cat([part.scales for part in parts]),
        opacities=torch.cat([part.opacities for part in parts]),
        sh=torch.cat([functional.pad(part.sh, (0, 0, 0, count - part.sh.shape[-2])) for part in parts]),
    )


def transform(
    gaussians: Gaussians,
    translation: Float[Tensor, "3"],
    rotation: Float[Tensor, "3 3"] | None = None,
    scale: float = 1.0,
) -> Gaussians:
    """Move unbatched Gaussians by ``x -> scale * rotation @ x + translation``; quaternions and SH too.

    Example:
        >>> import torch
        >>> import tokengroups as tg
        >>> from tokengroups.gaussians import transform
        >>> gaussians = tg.example_scene().gaussians
        >>> twice_as_large = transform(gaussians, torch.zeros(3), scale=2.0)
        >>> bool((twice_as_large.scales == 2 * gaussians.scales).all())
        True
    """
    means, quats, sh = scale * gaussians.means, gaussians.quats, gaussians.sh
    if rotation is not None:
        means = means @ rotation.to(means).transpose(-1, -2)
        turn = quaternion_from_rotation(rotation.double()).to(quats)
        quats = multiply_quaternions(turn.expand(quats.shape), quats)
        sh = rotate_sh(sh, rotation)
    return Gaussians(means + translation.to(means), quats, scale * gaussians.scales, gaussians.opacities, sh)


def half_turn(gaussians: Gaussians) -> Gaussians:
    """Turn unbatched Gaussians by 180 degrees about x: from y down, z forward to y up, z backward, and back."""
    rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    return transform(gaussians, torch.zeros(3), rotation)
