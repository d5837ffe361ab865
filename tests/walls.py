"""Views of a wall with exact depth."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tokengroups.geometry import rigid
from tokengroups.types import Cameras, Views

BATCH, NUM_VIEWS, HEIGHT, WIDTH = 2, 3, 16, 24


def look_at_wall(batch=BATCH, num_views=NUM_VIEWS, distance=3.0, noise=0.0, size_hw=(HEIGHT, WIDTH)):
    """Views of the plane z = distance by cameras that are shifted and slightly turned; exact depth."""
    height, width = size_hw
    generator = np.random.default_rng(0)
    turn = Rotation.from_rotvec(generator.uniform(-0.15, 0.15, (batch * num_views, 3)))
    rotation = torch.from_numpy(turn.as_matrix()).float().unflatten(0, (batch, num_views))
    centre = torch.from_numpy(generator.uniform(-0.3, 0.3, (batch, num_views, 3))).float()
    cam_from_world = rigid(rotation, -(rotation @ centre[..., None])[..., 0])
    intrinsics = torch.tensor([[20.0, 0, width / 2], [0, 22.0, height / 2], [0, 0, 1]]).repeat(batch, num_views, 1, 1)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rays = torch.stack([(x - width / 2) / 20, (y - height / 2) / 22, torch.ones_like(x)], dim=-1)
    along = torch.einsum("hwj,bvj->bvhw", rays, rotation[..., :, 2])  # world z of the rays
    depth = (distance - centre[..., 2, None, None]) / along
    depth = depth + noise * torch.randn(depth.shape, generator=torch.Generator().manual_seed(1))
    images, ids = torch.rand(batch, num_views, 3, height, width), torch.zeros_like(depth).long()
    return Views(images, Cameras(cam_from_world, intrinsics, size_hw), depth, ids)


def with_holes(views, share=0.2):
    hole = torch.rand(views.depth.shape, generator=torch.Generator().manual_seed(2)) < share
    return Views(views.images, views.cameras, views.depth.masked_fill(hole, 0.0), views.group_ids)
