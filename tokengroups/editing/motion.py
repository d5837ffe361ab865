"""Edits that move groups: shift, turn and scale them rigidly, with their anchors and colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tokengroups.editing.base import Edit, record
from tokengroups.editing.selection import find_column
from tokengroups.editing.values import Number, Selector, Vector, check_number, check_vector
from tokengroups.errors import UserError
from tokengroups.gaussians import select, transform
from tokengroups.geometry import rotation_from_quaternion
from tokengroups.scene.groups import anchor_mask, gaussian_mask, group_centre
from tokengroups.types import Gaussians, TokenScene

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def move(scene: TokenScene, group: Selector, offset: Vector) -> TokenScene:
    """Shift a group by an offset.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import group_centre
        >>> scene = tg.example_scene()
        >>> moved = tg.move(scene, 3, (0.5, 0.0, 0.0))
        >>> (group_centre(moved, 2) - group_centre(scene, 2)).tolist()
        [0.5, 0.0, 0.0]
    """
    group, column = find_column(scene, group)
    shift = check_vector(scene, offset, "offset")
    return record(_transform(scene, column, shift), "move", group=group, offset=shift.tolist())


def rotate(scene: TokenScene, group: Selector, axis: str | Vector, degrees: Number) -> TokenScene:
    """Turn a group about its centre, right-handed; view-dependent colour turns with it.

    The axis is "x", "y", "z", or a vector in the world.

    Example:
        >>> import tokengroups as tg
        >>> scene = tg.rotate(tg.example_scene(), 2, "y", 30)
        >>> scene.provenance["edits"]
        [{'operation': 'rotate', 'group': 2, 'axis': [0.0, 1.0, 0.0], 'degrees': 30}]
    """
    group, column = find_column(scene, group)
    named = _AXES.get(axis.lower(), axis) if isinstance(axis, str) else axis
    direction = check_vector(scene, named, "axis").double()
    if direction.norm() == 0:
        raise UserError("rotate: the axis has length 0; give x, y, z or a direction")
    degrees = check_number(degrees, "rotate: degrees")
    half = math.radians(degrees) / 2
    quat = torch.cat([direction.new_tensor([math.cos(half)]), math.sin(half) * direction / direction.norm()])
    rotation = rotation_from_quaternion(quat)
    centre = group_centre(scene, column).double()
    turned = _transform(scene, column, centre - rotation @ centre, rotation)
    return record(turned, "rotate", group=group, axis=direction.tolist(), degrees=degrees)


def scale(scene: TokenScene, group: Selector, factor: Number) -> TokenScene:
    """Make a group larger or smaller about its centre.

    Raises:
        UserError: An unknown id, or a factor that is not positive.

    Example:
        >>> import tokengroups as tg
        >>> scene = tg.example_scene()
        >>> larger = tg.scale(scene, 2, 1.5)
        >>> (larger.gaussians.scales / scene.gaussians.scales).unique().tolist()
        [1.0, 1.5]
    """
    group, column = find_column(scene, group)
    factor = check_number(factor, "scale: the factor", positive=True)
    scaled = _transform(scene, column, (1 - factor) * group_centre(scene, column), factor=factor)
    return record(scaled, "scale", group=group, factor=factor)


def _transform(
    scene: TokenScene, column: int, translation: Tensor, rotation: Tensor | None = None, factor: float = 1.0
) -> TokenScene:
    """Apply ``x -> factor * rotation @ x + translation`` to one group."""
    mine, owned = gaussian_mask(scene, column), anchor_mask(scene, column)
    part = transform(select(scene.gaussians, mine), translation, rotation, factor)
    gaussians = {}
    for name, values in vars(scene.gaussians).items():
        mask = mine.reshape(-1, *[1] * (values.ndim - 1))
        gaussians[name] = values.masked_scatter(mask, getattr(part, name))
    anchors = factor * scene.anchors[owned]
    if rotation is not None:
        anchors = anchors @ rotation.to(anchors).T
    anchors = scene.anchors.masked_scatter(owned[:, None], anchors + translation.to(anchors))
    return replace(scene, gaussians=Gaussians(**gaussians), anchors=anchors)


@dataclass(frozen=True)
class Move(Edit):
    """Command-line form of `move`."""

    FORM = "GROUP DX DY DZ"
    HELP = "shift in scene units along x (right), y (down), z (forward)"
    DONE = "moved {groups} by {offset}"
    FUNCTION = staticmethod(move)
    offset: Vector


@dataclass(frozen=True)
class Rotate(Edit):
    """Command-line form of `rotate`."""

    FORM = "GROUP --axis x|y|z|X,Y,Z --degrees ANGLE"
    HELP = "turn about the group's centre, right-handed; SH turn with it"
    DONE = "turned {groups} about {axis} by {degrees} degrees"
    FUNCTION = staticmethod(rotate)
    axis: str | Vector
    degrees: float


@dataclass(frozen=True)
class Scale(Edit):
    """Command-line form of `scale`."""

    FORM = "GROUP FACTOR"
    HELP = "about the group's centre"
    DONE = "scaled {groups} by {factor}"
    FUNCTION = staticmethod(scale)
    factor: float
