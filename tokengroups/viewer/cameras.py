"""Context cameras as the page has them: where it looks from, the pyramids that it draws around them, and its films."""

from __future__ import annotations

from typing import Any

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from tokengroups.types import Cameras

_PYRAMID = 0.15  # length of a camera's pyramid, of the distance to what the cameras look at
_FILM_HEIGHT = 480  # pixels of a film, at least


def page_cameras(cameras: Cameras, origin: Float[Tensor, "3"], distance: float) -> list[dict[str, Any]]:
    """Describe context cameras for the page's scripts.

    Args:
        cameras: In the scene's world.
        origin: Point of the scene's world to which all is relative.
        distance: To the point about which the page turns a view, in scene units.

    Returns:
        For each camera `view`, as view.js has it: rotation (9 numbers: rows right, down, forward), eye, distance and
        lens; and `pyramid`: the eye and the picture's corners before it, clockwise from the upper left, (5, 3).
    """
    rotations, shifts = cameras.cam_from_world.double()[:, :3].split([3, 1], dim=2)
    eyes = -(rotations.mT @ shifts)[..., 0] - origin
    height, width = cameras.size_hw
    pixels = torch.tensor([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], dtype=torch.float64)
    local = einsum(cameras.intrinsics.double().inverse(), pixels, "b i j, corner j -> b corner i")
    corners = rearrange(eyes, "b xyz -> b 1 xyz") + _PYRAMID * distance * (local @ rotations)
    pyramids = torch.cat([rearrange(eyes, "b xyz -> b 1 xyz"), corners], dim=1)
    pinholes = cameras.intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    found = zip(rotations.flatten(1).tolist(), eyes.tolist(), pinholes, pyramids.tolist(), strict=True)
    return [
        {
            "view": {
                "rotation": rotation,
                "eye": eye,
                "distance": distance,
                "lens": {"fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height},
            },
            "pyramid": [[float(f"{value:.6g}") for value in corner] for corner in pyramid],
        }
        for rotation, eye, (fx, fy, cx, cy), pyramid in found
    ]


def film_size(size_hw: tuple[int, int]) -> list[int]:
    """Width and height of a film in the photos' shape: even, as videos need them.

    Example:
        >>> film_size((48, 64)), film_size((1000, 750))
        ([640, 480], [750, 1000])
    """
    zoom = max(1.0, _FILM_HEIGHT / size_hw[0])
    return [2 * int(side * zoom / 2 + 0.5) for side in reversed(size_hw)]
