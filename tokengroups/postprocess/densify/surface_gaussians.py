"""Gaussians of pixels: flat ones on the surface that a depth map shows."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import invert_rigid, quaternion_from_rotation, transform_points, unproject
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Cameras, Gaussians, cat

SPREAD_PX = 0.6  # standard deviation on a surface that faces the camera
FLATNESS = 0.2  # thickness in that standard deviation
STEEPEST_COSINE = 0.25  # no Gaussian is drawn out more than four times where a surface is seen at a low angle
OPACITY = 0.05  # low: a Gaussian that is not needed hides nothing


def pixel_gaussians(
    photos: Float[Tensor, "V 3 H W"],
    depth: Float[Tensor, "V H W"],
    cameras: Cameras,
    chosen: Bool[Tensor, "V H W"],
    num_coefficients: int = 1,
) -> Gaussians:
    """A Gaussian for each chosen pixel, in the order of views, rows and columns.

    Args:
        photos: Give the colours, in [0, 1].
        depth: Of the pixels.
        cameras: Of the photos; the Gaussians are in their world.
        chosen: The pixels.
        num_coefficients: Of spherical harmonics; all but the first are 0.
    """
    made = []
    for view, pixels in enumerate(chosen):
        pinhole, pose = cameras.intrinsics[view], invert_rigid(cameras.cam_from_world[view])
        surface = unproject(depth[view], pinhole)
        points = surface[pixels]
        ray = functional.normalize(points, dim=-1)
        normal = surface_normals(surface)[pixels]
        cosine = (normal * ray).sum(dim=-1, keepdim=True).abs().clamp_min(STEEPEST_COSINE)
        across = functional.normalize(torch.linalg.cross(normal, ray), dim=-1)
        down = ray.new_tensor([0.0, 1.0, 0.0]).expand_as(ray)
        sideways = functional.normalize(torch.linalg.cross(normal, down), dim=-1)
        across = torch.where(across.norm(dim=-1, keepdim=True) > 0.5, across, sideways)  # a surface seen face on
        axes = torch.stack([torch.linalg.cross(across, normal), across, normal], dim=-1)
        size = SPREAD_PX * points[:, 2:] / pinhole[0, 0]
        color = (photos[view].movedim(0, -1)[pixels] - 0.5) / SH_C0
        made.append(
            Gaussians(
                means=transform_points(pose, points),
                quats=quaternion_from_rotation(pose[:3, :3] @ axes),
                scales=torch.cat([size / cosine, size, FLATNESS * size], dim=1),
                opacities=torch.full_like(size[:, 0], OPACITY),
                sh=functional.pad(color[:, None], (0, 0, 0, num_coefficients - 1)),
            )
        )
    return cat(made)


def surface_normals(points: Float[Tensor, "H W 3"]) -> Float[Tensor, "H W 3"]:
    """Unit normals of a surface towards the camera at 0, from the neighbours of each pixel; at corners, the ray's."""
    padded = functional.pad(points.movedim(-1, 0)[None], (1, 1, 1, 1), mode="replicate")[0].movedim(0, -1)
    right = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    normals = functional.normalize(torch.linalg.cross(down, right), dim=-1)
    toward = -functional.normalize(points, dim=-1)
    normals = torch.where((normals * toward).sum(dim=-1, keepdim=True) < 0, -normals, normals)
    return torch.where(normals.norm(dim=-1, keepdim=True) > 0.5, normals, toward)
