"""Cell-matching loss of the tiny encoder: the cell of view 0 that shows the same surface point."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import invert_rigid, project, transform_points
from tokengroups.types import Views

OCCLUSION_TOLERANCE = 0.05  # of the depth


class CellTargets(NamedTuple):
    """The cell of view 0 that sees the same surface point, for every cell of every view (row-major)."""

    cells: Int64[Tensor, "B V Q"]  # undefined where not visible
    visible: Bool[Tensor, "B V Q"]  # False for view 0 itself


@torch.no_grad()
def cell_targets(views: Views, num_cells: int) -> CellTargets:
    """Follow the surface point at each cell's centre into view 0.

    A cell is visible if its depth is known, the point lies inside view 0's image in front of it, and view 0's
    depth there agrees within 5 percent (occlusion test).
    """
    batch, num_views, height, width = views.depth.shape
    side = math.sqrt(height * width / num_cells)
    rows, columns = round(height / side), round(width / side)
    if rows * columns != num_cells:
        raise ValueError(f"{num_cells} square cells do not tile an image of {height}x{width}")
    intrinsics, cam_from_world = views.cameras.intrinsics.float(), views.cameras.cam_from_world.float()
    # The pixel next to the cell's centre; its own centre is what is unprojected.
    y = ((torch.arange(rows, device=views.depth.device) + 0.5) * side).long()
    x = ((torch.arange(columns, device=views.depth.device) + 0.5) * side).long()
    depth = views.depth[:, :, y[:, None], x].float().flatten(2)
    pixels = torch.cartesian_prod(y + 0.5, x + 0.5).flip(-1)
    rays = functional.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(intrinsics).transpose(-1, -2)
    first_from_cam = cam_from_world[:, :1] @ invert_rigid(cam_from_world)
    in_first = transform_points(first_from_cam, rays * depth[..., None])
    landed, landed_depth = project(in_first, intrinsics[:, :1].expand_as(intrinsics))
    limit = landed.new_tensor([width, height])
    inside = ((landed >= 0) & (landed < limit)).all(dim=-1) & (landed_depth > 0)
    column, row = torch.where(inside[..., None], landed, 0.0).long().unbind(-1)
    seen = views.depth[:, 0].float().flatten(1).gather(1, (row * width + column).flatten(1)).view_as(depth)
    agrees = (seen - landed_depth).abs() < OCCLUSION_TOLERANCE * landed_depth
    visible = inside & agrees & (seen > 0) & (depth > 0)
    visible[:, 0] = False
    cells = (row / side).long().clamp(max=rows - 1) * columns + (column / side).long().clamp(max=columns - 1)
    return CellTargets(cells, visible)


def match_logits(descriptors: Float[Tensor, "B V Q D"]) -> Float[Tensor, "B V Q Q"]:
    """Matching logits between the cells of every view and those of view 0, in float32."""
    with torch.autocast(descriptors.device.type, enabled=False):
        descriptors = descriptors.float()
        return descriptors @ descriptors[:, :1].mT


def matching_cells_loss(match_logits: Float[Tensor, "B V Q R"], targets: CellTargets) -> Float[Tensor, ""]:
    """Cross-entropy of the correlation over the visible cells of views 1...; zero if there is none."""
    logits = match_logits[:, 1:].float().flatten(0, 2)
    visible = targets.visible[:, 1:].flatten()
    losses = functional.cross_entropy(logits, targets.cells[:, 1:].flatten(), reduction="none")
    return torch.where(visible, losses, 0.0).sum() / visible.sum().clamp(min=1)


@torch.no_grad()
def matching_accuracy(match_logits: Float[Tensor, "B V Q R"], targets: CellTargets) -> Float[Tensor, ""]:
    """Share of the visible cells of views 1... whose most probable cell of view 0 is the right one."""
    right = match_logits.argmax(dim=-1) == targets.cells
    return (right & targets.visible).sum() / targets.visible.sum().clamp(min=1)
