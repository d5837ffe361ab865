"""Scenes of plain blocks, whose layout is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from scenes import two_cameras

from tokengroups.geometry import invert_rigid, rotation_from_quaternion
from tokengroups.scene.boxes import OrientedBox
from tokengroups.types import Cameras, Gaussians, TokenScene

UP = torch.tensor([0, -1.0, 0], dtype=torch.float64)


@dataclass(frozen=True)
class Block:
    """A box that stands in a world with y down, turned by a yaw about the up axis."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]  # two horizontal sides, height
    yaw_degrees: float = 0.0

    def axes(self) -> torch.Tensor:
        c, s = math.cos(math.radians(self.yaw_degrees)), math.sin(math.radians(self.yaw_degrees))
        return torch.tensor([[c, 0, -s], [s, 0, c], [0, -1.0, 0]], dtype=torch.float64)

    def box(self) -> OrientedBox:
        """The true box, for the tests of the rules."""
        sizes = torch.tensor(self.size, dtype=torch.float64)
        return OrientedBox(torch.tensor(self.centre, dtype=torch.float64), self.axes(), sizes)


FLOOR = Block((0, 1.0, 3.0), (4.0, 3.0, 0.04))
TABLE = Block((0, 0.6, 3.0), (1.2, 0.7, 0.8), 30.0)
VASE = Block((0.1, 0.05, 3.05), (0.2, 0.2, 0.3))
CHAIR = Block((1.0, 0.5, 3.0), (0.5, 0.4, 1.0), 10.0)
WALL = Block((0, -0.2, 4.4), (4.0, 0.1, 2.4))
ROOM = [FLOOR, TABLE, VASE, CHAIR, WALL]


def scene_of(blocks: Sequence[Block], points: int = 9) -> TokenScene:
    """One group per block, a regular grid of equal Gaussians in each; float64."""
    ticks = (torch.arange(points, dtype=torch.float64) + 0.5) / points - 0.5
    grid = torch.cartesian_prod(ticks, ticks, ticks)
    return scene_of_points([block.box().centre + (grid * block.box().size) @ block.axes() for block in blocks])


def scene_of_points(parts: Sequence[torch.Tensor]) -> TokenScene:
    """One group of equal Gaussians at each set of positions; float64."""
    means, counts = torch.cat(list(parts)).double(), torch.tensor([len(part) for part in parts])
    n = len(means)
    return TokenScene(
        gaussians=Gaussians(
            means, torch.tensor([[1.0, 0, 0, 0]]).double().repeat(n, 1), torch.full((n, 3), 0.01).double(),
            torch.full((n,), 0.8).double(), torch.zeros(n, 1, 3).double(),
        ),
        anchor_ids=torch.arange(len(parts)).repeat_interleave(counts),
        anchors=torch.stack([part.mean(dim=0) for part in parts]).double(),
        assignment=torch.eye(len(parts), dtype=torch.float64),
        group_ids=10 + torch.arange(len(parts)),
        group_tokens=torch.zeros(len(parts), 0),
        cameras=two_cameras(),
    )  # fmt: skip


def moved(scene: TokenScene, new_from_world: torch.Tensor) -> TokenScene:
    """The same scene in another world."""
    poses = scene.cameras.cam_from_world.double() @ invert_rigid(new_from_world)
    means = scene.gaussians.means @ new_from_world[:3, :3].T + new_from_world[:3, 3]
    cameras = Cameras(poses, scene.cameras.intrinsics, scene.cameras.size_hw)
    return replace(scene, gaussians=replace(scene.gaussians, means=means), cameras=cameras)


def noisy(scene: TokenScene, noise: float) -> TokenScene:
    """The same scene with relative noise on opacities, and on positions and poses as large."""

    def normal(like: torch.Tensor) -> torch.Tensor:
        return noise * torch.randn(like.shape, dtype=torch.float64)

    poses = scene.cameras.cam_from_world.double().clone()
    poses[:, :3] += normal(poses[:, :3])
    means, opacities = scene.gaussians.means, scene.gaussians.opacities
    gaussians = replace(scene.gaussians, means=means + normal(means), opacities=opacities * (1 + normal(opacities)))
    return replace(scene, gaussians=gaussians, cameras=replace(scene.cameras, cam_from_world=poses))


def turn(axis: Sequence[float], degrees: float) -> torch.Tensor:
    """Rotation about an axis of any length."""
    half = math.radians(degrees) / 2
    unit = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float64), dim=0)
    quat = torch.cat([torch.tensor([math.cos(half)], dtype=torch.float64), math.sin(half) * unit])
    return rotation_from_quaternion(quat)
