"""Camera of a scene that comes without any."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.geometry import rigid
from tokengroups.scene.quantiles import weighted_quantile
from tokengroups.types import Cameras, Gaussians

_FIELD_LIMITS_DEG = (40.0, 90.0)
_FIELD_SHARE = 0.8  # the guessed field of view holds this share of the opacity in front of the camera
_FRONT_SHARE = 0.8  # so much of it in front of the origin,
_SEEN_SHARE = 0.5  # so much of it in the guessed picture,
_NARROWEST_DEG = 4.0  # and no smaller field of view that would hold it mean that the world is a camera's
_NEAR = 0.05
_OUTSIDE_FIELD_DEG = 60.0
_NARROWEST_OUTSIDE_DEG = 1.0
_DEVIATIONS = 3.0  # of a Gaussian that a camera outside keeps in view


def guess_camera(gaussians: Gaussians, fov_degrees: float | None, size: int) -> tuple[Cameras, str]:
    """Make one square camera that sees the scene; returns it with a note on how it was chosen.

    If nearly all lies in front of the origin (z > 0) and most of it in the picture of a usual camera there, the world
    is taken for a camera's own frame: identity pose. Otherwise the camera stands outside, looks along +z, and frames
    the middle of the scene.

    Args:
        gaussians: Unbatched Gaussians.
        fov_degrees: Field of view; None = guessed.
        size: The picture's side in pixels.
    """
    means, weights = gaussians.means.double(), gaussians.opacities.double().clamp(min=1e-9)
    guess = _field_at_origin(means, weights)
    if guess is not None:
        eye, where = torch.zeros(3, dtype=torch.float64), "at the origin of the world"
    else:
        eye, guess = _outside(means, weights, gaussians.scales.double(), fov_degrees)
        where = "outside of the scene, looking along +z"
    fov = fov_degrees or guess
    focal_px = size / 2 / math.tan(math.radians(fov) / 2)
    pinhole = torch.tensor([[focal_px, 0, size / 2], [0, focal_px, size / 2], [0, 0, 1.0]])
    pose = rigid(torch.eye(3, dtype=torch.float64), -eye).float()
    source = "given" if fov_degrees else "guessed"
    note = f"no cameras.json: one camera {where}, {fov:.0f} degrees wide ({source}), {size}x{size} pixels"
    return Cameras(pose[None], pinhole[None], (size, size)), note


def _field_at_origin(means: Float[Tensor, "N 3"], weights: Float[Tensor, " N"]) -> float | None:
    """Field of view in degrees of a camera at the origin that looks along +z; None if it would not see the scene."""
    front = means[:, 2] > _NEAR
    if weights[front].sum() < _FRONT_SHARE * weights.sum():
        return None
    slopes = (means[front, :2] / means[front, 2:]).abs().amax(dim=1, keepdim=True)
    slope = float(weighted_quantile(slopes, weights[front], _FIELD_SHARE)[0])
    needed = math.degrees(2 * math.atan(slope))
    low, high = _FIELD_LIMITS_DEG
    field = min(max(needed, low), high)
    seen = weights[front][slopes[:, 0] <= math.tan(math.radians(field) / 2)].sum()
    return field if needed >= _NARROWEST_DEG and seen >= _SEEN_SHARE * weights.sum() else None


def _outside(
    means: Float[Tensor, "N 3"], weights: Float[Tensor, " N"], scales: Float[Tensor, "N 3"], fov_degrees: float | None
) -> tuple[Float[Tensor, "3"], float]:
    """Place outside of the scene from which its middle fills the picture, and the field of view in degrees."""
    centre = weighted_quantile(means, weights, 0.5)
    distances = (means - centre).norm(dim=1, keepdim=True)
    radius = float(weighted_quantile(distances, weights, _FIELD_SHARE)[0])
    radius = max(radius, _DEVIATIONS * float(scales.amax(dim=1).median()))  # of a scene in one place
    field = fov_degrees or _OUTSIDE_FIELD_DEG
    distance = radius / math.sin(math.radians(min(field, _OUTSIDE_FIELD_DEG)) / 2)
    if distance < radius + 2 * _NEAR:  # a tiny scene: no nearer than cameras see, but a narrower field
        distance = radius + 2 * _NEAR
        field = max(math.degrees(2 * math.asin(radius / distance)), _NARROWEST_OUTSIDE_DEG)
    return centre - torch.tensor([0.0, 0.0, distance], dtype=torch.float64), field
