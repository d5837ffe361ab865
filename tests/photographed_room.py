"""Photos of a textured room with a ball in it, by ray casting: depth and cameras are exact."""

from __future__ import annotations

import math

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import invert_rigid, rigid, transform_points, unproject
from tokengroups.types import Cameras

SIZE_HW = (112, 140)  # multiples of 14
FOCAL = 75.0  # 86 degrees wide
# Planes n . x = d in the world of camera 0 (x right, y down, z forward): back wall, floor, side walls, ceiling.
PLANES = (
    ((-0.2, 0.0, 1.0), 2.8),
    ((0.0, 1.0, 0.0), 0.9),
    ((1.0, 0.0, 0.2), 1.6),
    ((-1.0, 0.0, 0.1), 1.3),
    ((0.0, -1.0, 0.1), 1.2),
)
BALL_CENTRE, BALL_RADIUS = (-0.15, 0.5, 1.7), 0.4
# Where the cameras after the first one stand, and how far they are rolled, in degrees; all look at one place.
STANDS = (((-0.5, -0.1, 0.1), 5.0), ((0.5, -0.15, 0.05), -5.0), ((0.0, -0.5, 0.2), 0.0), ((0.2, 0.35, 0.5), 0.0))
LOOKED_AT = (0.1, 0.2, 1.9)
FREQUENCIES = (4.0, 9.0, 16.0, 25.0)  # of the texture, in radians per unit of length


def room_cameras(views: int) -> Cameras:
    """Cameras around the room; that of view 0 is the identity."""
    poses = [torch.eye(4), *(looking_pose(place, roll) for place, roll in STANDS[: views - 1])]
    height, width = SIZE_HW
    intrinsics = torch.tensor([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]])
    return Cameras(torch.stack(poses), intrinsics.repeat(views, 1, 1), SIZE_HW)


def looking_pose(place: tuple[float, float, float], roll: float) -> Tensor:
    """cam_from_world of a camera at `place`."""
    forward = functional.normalize(torch.tensor(LOOKED_AT) - torch.tensor(place), dim=0)
    right = functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1, 0]), forward), dim=0)
    upright = torch.stack([right, torch.linalg.cross(forward, right), forward])
    rolled = torch.from_numpy(Rotation.from_euler("z", roll, degrees=True).as_matrix()).float() @ upright
    return rigid(rolled, -rolled @ torch.tensor(place))


def room_depth(cameras: Cameras) -> Tensor:
    """Depth of the first surface on every pixel's ray, [V, H, W]."""
    ones = torch.ones(len(cameras.intrinsics), *SIZE_HW)
    world_from_cam = invert_rigid(cameras.cam_from_world)
    turn = world_from_cam[:, None, :3, :3]
    rays = (turn[:, :, None] @ unproject(ones, cameras.intrinsics)[..., None])[..., 0]
    start = world_from_cam[:, None, None, :3, 3].expand_as(rays)
    found = torch.full(ones.shape, math.inf)
    for normal, offset in PLANES:
        n = torch.tensor(normal)
        along = (offset - start @ n) / (rays @ n)
        found = torch.where(along > 0, torch.minimum(found, along), found)
    to_ball = start - torch.tensor(BALL_CENTRE)
    a, b = rays.square().sum(dim=-1), (rays * to_ball).sum(dim=-1)
    root = b.square() - a * (to_ball.square().sum(dim=-1) - BALL_RADIUS**2)
    near = (-b - root.clamp(min=0).sqrt()) / a
    return torch.where((root > 0) & (near > 0), torch.minimum(found, near), found)


def room_photos(cameras: Cameras, depth: Tensor) -> Tensor:
    """A texture that is a function of the surface point, so that all views show the same; [V, 3, H, W]."""
    in_cam = unproject(depth, cameras.intrinsics).flatten(1, 2)
    points = transform_points(invert_rigid(cameras.cam_from_world), in_cam)
    generator = torch.Generator().manual_seed(0)
    waves = torch.zeros(points.shape[:2])
    for frequency in FREQUENCIES:
        for _ in range(3):
            direction = functional.normalize(torch.randn(3, generator=generator), dim=0)
            phase = 2 * math.pi * torch.rand((), generator=generator)
            waves += (frequency * (points @ direction) + phase).sin()
    grey = (0.5 + 0.1 * waves).clamp(0, 1).unflatten(1, SIZE_HW)
    return torch.stack([grey, 0.9 * grey, 0.8 * grey + 0.1], dim=1)
