"""A made-up room of boxes whose names, sizes, colours and places are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Cameras, Gaussians, TokenScene


@dataclass(frozen=True)
class Box:
    """A box; the world is the first camera: x right, y down, z forward, and the floor at y = 1.2."""

    id: int
    name: str
    centre: tuple[float, float, float]
    size: tuple[float, float, float]  # along x, y, z
    color: tuple[float, float, float] = (0.6, 0.5, 0.4)


RED, BLUE, WHITE, BROWN = (0.8, 0.1, 0.1), (0.1, 0.2, 0.8), (0.9, 0.9, 0.9), (0.4, 0.25, 0.12)

# From the camera, 1.2 above the floor: a sofa in the middle, a desk on the right, a low table on the left.
ROOM = (
    Box(1, "floor", (0.0, 1.22, 4.0), (6.0, 0.04, 6.0)),
    Box(2, "wall", (0.0, 0.0, 6.9), (6.0, 2.4, 0.1), WHITE),
    Box(3, "window", (2.0, -0.2, 6.8), (1.0, 1.0, 0.08), WHITE),
    Box(4, "sofa", (0.0, 0.85, 5.0), (1.4, 0.7, 0.8), BLUE),
    Box(5, "desk", (2.0, 0.85, 5.0), (1.2, 0.7, 0.6), BROWN),
    Box(6, "coffee table", (-1.6, 1.0, 4.0), (0.8, 0.4, 0.6), BROWN),
    Box(7, "chair", (2.0, 0.8, 6.0), (0.5, 0.8, 0.5), BROWN),  # between desk and window
    Box(8, "chair", (-2.4, 0.75, 4.0), (0.5, 0.9, 0.5), RED),
    Box(9, "chair", (0.2, 0.9, 3.0), (0.36, 0.6, 0.36), BROWN),  # in front of the sofa
    Box(10, "box", (-1.3, 1.05, 5.2), (0.3, 0.3, 0.3), RED),  # left of the sofa
    Box(11, "box", (1.05, 1.0, 5.0), (0.4, 0.4, 0.4), RED),  # right of the sofa
    Box(12, "box", (-1.7, 1.1, 5.6), (0.2, 0.2, 0.2), BLUE),
    Box(13, "lamp", (2.3, 0.3, 5.0), (0.2, 0.4, 0.2), WHITE),  # on the desk
    Box(14, "book", (1.8, 0.46, 5.0), (0.3, 0.08, 0.2), BLUE),  # on the desk
    Box(15, "cup", (1.8, 0.37, 5.0), (0.08, 0.1, 0.08), WHITE),  # on the book
    Box(16, "picture", (-1.0, -0.4, 6.82), (0.8, 0.6, 0.04), RED),  # on the wall
    Box(17, "stool", (2.35, 1.05, 4.95), (0.3, 0.3, 0.3), RED),  # under the desk
)


def box_room(boxes: tuple[Box, ...] = ROOM, size_hw: tuple[int, int] = (96, 128), named: bool = True) -> TokenScene:
    """The scene: opaque Gaussians on the boxes' surfaces; two cameras, the second 0.3 to the right."""
    parts = [_surface(box) for box in boxes]
    column = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(points) for points, _ in parts]))
    means = torch.cat([points for points, _ in parts])
    scales = torch.cat([torch.full((len(points), 3), spacing / 2) for points, spacing in parts])
    colors = torch.tensor([box.color for box in boxes])[column]
    height, width = size_hw
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = -0.3
    focal = 0.8 * width
    pinhole = torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])
    return TokenScene(
        gaussians=Gaussians(
            means=means,
            quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(means), 1),
            scales=scales,
            opacities=torch.full((len(means),), 0.95),
            sh=(colors[:, None] - 0.5) / SH_C0,
        ),
        anchor_ids=torch.arange(len(means)),
        anchors=means,
        assignment=torch.nn.functional.one_hot(column, len(boxes)).float(),
        group_ids=torch.tensor([box.id for box in boxes]),
        group_tokens=torch.zeros(len(boxes), 0),
        cameras=Cameras(poses, pinhole.repeat(2, 1, 1), size_hw),
        group_names=tuple(box.name for box in boxes) if named else (),
        provenance={"weights": "none"},
    )


def _surface(box: Box) -> tuple[Float[Tensor, "M 3"], float]:
    """Points on a box's surface and their spacing."""
    spacing = max(max(box.size) / 24, 0.02)
    counts = [max(round(side / spacing) + 1, 2) for side in box.size]
    axes = [torch.linspace(-side / 2, side / 2, count) for side, count in zip(box.size, counts, strict=True)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
    half = torch.tensor(box.size) / 2
    return grid[((grid.abs() - half).abs() < 1e-6).any(dim=1)] + torch.tensor(box.centre), spacing
