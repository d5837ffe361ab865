"""Measures of a scene's groups: boxes, colours, names, relations, distances, and places as the cameras see them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokengroups.geometry import project, transform_points
from tokengroups.grounding.offline.colors import color_names
from tokengroups.grounding.offline.words import Measure, singular, words_of
from tokengroups.scene.boxes import oriented_boxes
from tokengroups.scene.groups import group_name, summarise
from tokengroups.scene.layout import relations, structure_mask, up_direction
from tokengroups.scene.pairs import Boxes, stack_boxes
from tokengroups.types import TokenScene

_THIN = 0.1  # of the longest side: thinner boxes count as that thick, for their thickness is mostly noise
_CENTRES = 1e-3  # weight of the centres' distance in `distances`, which decides between things that touch
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Bearings:
    """Places of all boxes as each camera sees them; radians to the right of its axis, depth in scene units."""

    centre: Float[Tensor, "V L"]
    low: Float[Tensor, "V L"]
    high: Float[Tensor, "V L"]
    depth: Float[Tensor, "V L"]
    inside: Bool[Tensor, "V L"]  # the centre is in the picture


class SceneFacts:
    """What sentences about a scene are compared with; everything by column."""

    def __init__(self, scene: TokenScene) -> None:
        self.scene = scene
        self.ids: list[int] = scene.group_ids.tolist()
        titles = [group_name(scene, column) for column in range(len(self.ids))]
        self.names = [_as_noun(title) for title in titles]
        up = up_direction(scene)
        boxes = oriented_boxes(scene, up)
        self.boxes: Boxes = stack_boxes(boxes)
        summaries = {group.id: group for group in summarise(scene, torch.zeros(len(self.ids)))}
        self.rgb = [summaries[group_id].color for group_id in self.ids]
        self.colors = [color_names(color) for color in self.rgb]
        self.related = {(each.kind, each.group, each.other) for each in relations(boxes, self.ids, titles)}
        self.structure: list[bool] = structure_mask(self.boxes, titles).tolist()
        self._gaps: dict[int, Tensor] = {}
        heights = self.boxes.centres @ up
        self.bottom, self.top = heights - self.boxes.sizes[:, 2] / 2, heights + self.boxes.sizes[:, 2] / 2

    def measure(self, what: Measure) -> Float[Tensor, " L"]:
        """A measure of every group; "distance" is that from the first camera."""
        sizes = self.boxes.sizes
        if what == "size":
            return torch.maximum(sizes, _THIN * sizes.amax(dim=1, keepdim=True)).prod(dim=1)
        if what == "brightness":
            return torch.tensor(self.rgb, dtype=torch.float64) @ torch.tensor(_LUMA, dtype=torch.float64)
        if what == "bearing":
            return self.bearings.centre[0]
        if what == "distance":
            pose = self.scene.cameras.cam_from_world[0].double()
            return transform_points(pose, self.boxes.centres).norm(dim=1)
        sides = {"height": sizes[:, 2], "top": self.top, "length": sizes.amax(dim=1), "width": sizes[:, 0]}
        return sides[what]

    def gaps(self, other: int) -> Float[Tensor, " L"]:
        """Distance from every box to another one; 0 where they touch."""
        if other not in self._gaps:
            vertical = torch.maximum(self.bottom[other] - self.top, self.bottom - self.top[other]).clamp(min=0)
            self._gaps[other] = torch.hypot(_footprint_gaps(self.boxes, other), vertical)
        return self._gaps[other]

    def distances(self, other: int) -> Float[Tensor, " L"]:
        """`gaps`, and a thousandth of the distance of the centres."""
        centres = (self.boxes.centres - self.boxes.centres[other]).norm(dim=1)
        return self.gaps(other) + _CENTRES * centres

    def shared_footprints(self, other: int) -> Float[Tensor, " L"]:
        """Share of the smaller footprint that every group has in common with another, along that one's axes."""
        corners = _corners(self.boxes) @ self.boxes.axes[other, :2].T
        low, high = corners.amin(dim=1), corners.amax(dim=1)
        common = torch.minimum(high, high[other]) - torch.maximum(low, low[other])
        areas = (high - low).prod(dim=1)
        return common.clamp(min=0).prod(dim=1) / torch.minimum(areas, areas[other]).clamp(min=1e-12)

    @cached_property
    def bearings(self) -> Bearings:
        """Places of the boxes as the cameras see them."""
        cameras, corners = self.scene.cameras, self.boxes.corners().flatten(0, 1)
        found = []
        for pose, pinhole in zip(cameras.cam_from_world.double(), cameras.intrinsics.double(), strict=True):
            centres, ends = transform_points(pose, self.boxes.centres), transform_points(pose, corners)
            angles = torch.atan2(ends[:, 0], ends[:, 2]).unflatten(0, (len(self.ids), -1))
            pixels, depth = project(centres, pinhole)
            limits = pixels.new_tensor(cameras.size_hw).flip(0)
            inside = ((pixels >= 0) & (pixels <= limits)).all(dim=1) & (depth > 0)
            middle = torch.atan2(centres[:, 0], centres[:, 2])
            found.append((middle, angles.amin(dim=1), angles.amax(dim=1), centres[:, 2], inside))
        return Bearings(*(torch.stack(values) for values in zip(*found, strict=True)))


def _as_noun(title: str) -> tuple[str, ...]:
    """Words of a name, the last one in the singular."""
    words = words_of(title)
    return (*words[:-1], singular(words[-1])) if words else ()


def _footprint_gaps(boxes: Boxes, other: int) -> Float[Tensor, " L"]:
    """Horizontal distances of all footprints to another one.

    Rectangles that do not overlap are nearest to each other at a corner of one of them.
    """
    mine = _corners(boxes)
    theirs = mine[other].expand_as(mine)
    reach = torch.minimum(
        _beyond(boxes.centres[other], boxes.axes[other], boxes.sizes[other], mine),
        _beyond(boxes.centres[:, None], boxes.axes, boxes.sizes[:, None], theirs),
    )
    axes = torch.cat([boxes.axes[:, :2], boxes.axes[other, :2].expand(len(mine), 2, 3)], dim=1)
    ours, others = mine @ axes.transpose(1, 2), theirs @ axes.transpose(1, 2)
    apart = (ours.amin(dim=1) > others.amax(dim=1)) | (others.amin(dim=1) > ours.amax(dim=1))
    return reach * apart.any(dim=1)


def _corners(boxes: Boxes) -> Float[Tensor, "L 4 3"]:
    """Corners of the footprints, at the height of the boxes' middle."""
    signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * 2)
    return boxes.centres[:, None] + (signs * boxes.sizes[:, None, :2]) @ boxes.axes[:, :2]


def _beyond(centre: Tensor, axes: Tensor, size: Tensor, points: Float[Tensor, "L 4 3"]) -> Float[Tensor, " L"]:
    """Smallest horizontal distance of some points from a rectangle."""
    local = (points - centre) @ axes[..., :2, :].transpose(-1, -2)
    return (local.abs() - size[..., :2] / 2).clamp(min=0).norm(dim=-1).amin(dim=1)
