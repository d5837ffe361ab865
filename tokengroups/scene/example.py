"""Small example scene without photos or weights."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Cameras, Gaussians, Semantics, TokenScene

_COLORS = {"floor": (0.55, 0.5, 0.45), "box": (0.8, 0.25, 0.2), "ball": (0.2, 0.35, 0.8)}


def example_scene() -> TokenScene:
    """Build a made-up scene of a floor, a box and a ball, seen by two cameras of 48 x 64 pixels.

    Every Gaussian has an anchor of its own. The groups' embeddings are the three axes of a made-up space, not those of
    a text encoder.

    Example:
        >>> import tokengroups as tg
        >>> scene = tg.example_scene()
        >>> dict(zip(scene.group_ids.tolist(), scene.group_names))
        {1: 'floor', 2: 'box', 3: 'ball'}
    """
    floor = _grid(torch.linspace(-1.8, 1.8, 13), torch.tensor([0.9]), torch.linspace(2.0, 4.4, 9))
    parts = {"floor": floor, "box": _box(), "ball": _ball()}
    means = torch.cat(list(parts.values()))
    sizes = torch.tensor([len(part) for part in parts.values()])
    column = torch.arange(len(parts)).repeat_interleave(sizes)
    colors = torch.tensor([_COLORS[name] for name in parts])[column]
    gaussians = Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(means), 1),
        scales=torch.tensor([[0.14, 0.02, 0.14], [0.05, 0.05, 0.05], [0.04, 0.04, 0.04]])[column],
        opacities=torch.full((len(means),), 0.9),
        sh=(colors[:, None] - 0.5) / SH_C0,
    )
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = -0.4
    pinhole = torch.tensor([[60.0, 0.0, 32.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]])
    return TokenScene(
        gaussians=gaussians,
        anchor_ids=torch.arange(len(means)),
        anchors=means,
        assignment=torch.nn.functional.one_hot(column).float(),
        group_ids=torch.tensor([1, 2, 3]),
        group_tokens=torch.eye(3),
        cameras=Cameras(poses, pinhole.repeat(2, 1, 1), (48, 64)),
        group_names=tuple(parts),
        provenance={"weights": "none", "source": "example_scene"},
        semantics=Semantics(
            embeddings=torch.eye(3),
            residuals=torch.zeros(len(means), 1),
            projection=torch.zeros(3, 1),
            calibration=torch.tensor([12.0, 0.5]),
            encoder="example:1",
        ),
    )


def _grid(*axes: Tensor) -> Float[Tensor, "M 3"]:
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


def _box() -> Float[Tensor, "M 3"]:
    """Surface of a cube that stands on the floor."""
    side = torch.linspace(-0.35, 0.35, 8)
    points = _grid(side, side, side)
    return points[points.abs().amax(dim=1) > 0.34] + torch.tensor([-0.6, 0.5, 3.2])


def _ball() -> Float[Tensor, "M 3"]:
    """Golden spiral on a sphere that lies on the floor."""
    index = torch.arange(200) + 0.5
    y, angle = 1 - index / 100, index * math.pi * (3 - math.sqrt(5))
    ring = (1 - y * y).sqrt()
    return 0.3 * torch.stack([ring * angle.cos(), y, ring * angle.sin()], dim=1) + torch.tensor([0.5, 0.6, 2.8])
