"""A camera for scenes that came without any."""

from __future__ import annotations

import math

import torch

from tokengroups.geometry import rigid
from tokengroups.scene.groups import weighted_quantile
from tokengroups.types import Cameras, Gaussians

DEFAULT_SIZE_PX = 256
_FIELD_LIMITS_DEG = (40.0, 90.0)
_FIELD_SHARE = 0.8  # the guessed field of view holds this share of the opacity in front of the camera
_FRONT_SHARE = 0.8  # so much of it in front of the origin means that the world is a camera's
_NEAR = 0.05
_OUTSIDE_FIELD_DEG = 60.0


def guess_camera(
    gaussians: Gaussians, fov_degrees: float | None = None, size: int | None = None
) -> tuple[Cameras, str]:
    """One square camera, and how it was chosen, in words.

    If nearly all lies in front of the origin (z > 0), the world is taken for a camera's own frame: identity
    pose. Otherwise the camera stands outside, looks along +z, and frames the middle of the scene.
    """
    size = size or DEFAULT_SIZE_PX
    means, weights = gaussians.means.double(), gaussians.opacities.double().clamp(min=1e-9)
    front = means[:, 2] > _NEAR
    if weights[front].sum() >= _FRONT_SHARE * weights.sum():
        slopes = (means[front, :2] / means[front, 2:]).abs().amax(dim=1, keepdim=True)
        slope = float(weighted_quantile(slopes, weights[front], _FIELD_SHARE)[0])
        low, high = _FIELD_LIMITS_DEG
        guess = min(max(math.degrees(2 * math.atan(slope)), low), high)
        eye, where = torch.zeros(3, dtype=torch.float64), "at the origin of the world"
    else:
        centre = weighted_quantile(means, weights, 0.5)
        distances = (means - centre).norm(dim=1, keepdim=True)
        radius = float(weighted_quantile(distances, weights, _FIELD_SHARE)[0])
        guess = _OUTSIDE_FIELD_DEG
        eye = centre - torch.tensor([0.0, 0.0, 2 * radius], dtype=torch.float64)
        where = "outside of the scene, looking along +z"
    fov = fov_degrees or guess
    focal_px = size / 2 / math.tan(math.radians(fov) / 2)
    pinhole = torch.tensor([[focal_px, 0, size / 2], [0, focal_px, size / 2], [0, 0, 1.0]])
    pose = rigid(torch.eye(3, dtype=torch.float64), -eye).float()
    source = "given" if fov_degrees else "guessed"
    note = f"no cameras.json: one camera {where}, {fov:.0f} degrees wide ({source}), {size}x{size} pixels"
    return Cameras(pose[None], pinhole[None], (size, size)), note
