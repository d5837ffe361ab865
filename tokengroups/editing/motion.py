"""Edits that move groups: shift, turn and scale them rigidly, with their anchors and colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tokengroups.editing.base import Edit, expect, listed, parse_group, parse_numbers, take_option
from tokengroups.editing.parts import Vector, finite, record, transform_group, vector
from tokengroups.errors import UserError
from tokengroups.geometry import rotation_from_quaternion
from tokengroups.scene.groups import column_of, group_centre
from tokengroups.types import TokenScene

AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def move(scene: TokenScene, group: int, offset: Vector) -> TokenScene:
    """Shift a group by an offset.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.scene import group_centre
        >>> scene = tg.example_scene()
        >>> moved = tg.move(scene, 3, (0.5, 0.0, 0.0))
        >>> (group_centre(moved, 2) - group_centre(scene, 2)).tolist()
        [0.5, 0.0, 0.0]
    """
    column = column_of(scene, group)
    shift = vector(scene, offset, "offset")
    moved = transform_group(scene, column, shift)
    return record(moved, "move", group=group, offset=shift.tolist())


def rotate(scene: TokenScene, group: int, axis: str | Vector, degrees: float) -> TokenScene:
    """Turn a group about its centre; view-dependent colour turns with it.

    Args:
        scene: The scene.
        group: Id of the group.
        axis: "x", "y", "z", or a vector in the world; the turn is right-handed about it.
        degrees: Angle.

    Example:
        >>> import tokengroups as tg
        >>> scene = tg.rotate(tg.example_scene(), 2, "y", 30)
        >>> scene.provenance["edits"]
        [{'operation': 'rotate', 'group': 2, 'axis': [0.0, 1.0, 0.0], 'degrees': 30}]
    """
    column = column_of(scene, group)
    named = AXES.get(axis, axis) if isinstance(axis, str) else axis
    direction = vector(scene, named, "axis").double()
    if direction.norm() == 0:
        raise UserError("rotate: the axis has length 0; give x, y, z or a direction")
    half = math.radians(finite(degrees, "degrees")) / 2
    quat = torch.cat([direction.new_tensor([math.cos(half)]), math.sin(half) * direction / direction.norm()])
    rotation = rotation_from_quaternion(quat)
    centre = group_centre(scene, column).double()
    turned = transform_group(scene, column, centre - rotation @ centre, rotation)
    return record(turned, "rotate", group=group, axis=direction.tolist(), degrees=degrees)


def scale(scene: TokenScene, group: int, factor: float) -> TokenScene:
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
    column = column_of(scene, group)
    if not finite(factor, "factor") > 0:
        raise UserError(f"scale: the factor must be positive, got {factor:g}")
    centre = group_centre(scene, column)
    scaled = transform_group(scene, column, (1 - factor) * centre, factor=factor)
    return record(scaled, "scale", group=group, factor=factor)


@dataclass(frozen=True)
class Move(Edit):
    """Written form of `move`."""

    FORM = "GROUP DX DY DZ"
    HELP = "shift in scene units along x (right), y (down), z (forward)"
    offset: tuple[float, ...]

    @classmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the group and the offset."""
        group, *offset = expect(words, 4)
        return cls((parse_group(group),), parse_numbers(offset))

    def apply(self, scene: TokenScene) -> TokenScene:
        """Shift the groups."""
        return self.apply_to_each(scene, lambda scene, group: move(scene, group, self.offset))

    def __str__(self) -> str:
        return f"moved {self.named} by {listed(self.offset)}"


@dataclass(frozen=True)
class Rotate(Edit):
    """Written form of `rotate`."""

    FORM = "GROUP --axis x|y|z --degrees ANGLE"
    HELP = "turn about the group's centre, right-handed; SH turn with it"
    axis: str
    degrees: float

    @classmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the group, the axis and the angle."""
        (axis,), words = take_option(words, "--axis", 1)
        degrees, words = take_option(words, "--degrees", 1)
        (group,) = expect(words, 1)
        if axis not in AXES:
            raise ValueError(f"no axis '{axis}'")
        return cls((parse_group(group),), axis, *parse_numbers(degrees))

    def apply(self, scene: TokenScene) -> TokenScene:
        """Turn each group about its own centre."""
        return self.apply_to_each(scene, lambda scene, group: rotate(scene, group, self.axis, self.degrees))

    def __str__(self) -> str:
        return f"turned {self.named} about {self.axis} by {self.degrees:g} degrees"


@dataclass(frozen=True)
class Scale(Edit):
    """Written form of `scale`."""

    FORM = "GROUP FACTOR"
    HELP = "about the group's centre"
    factor: float

    @classmethod
    def parse(cls, words: Sequence[str]) -> Edit:
        """Read the group and the factor."""
        group, factor = expect(words, 2)
        return cls((parse_group(group),), *parse_numbers([factor]))

    def apply(self, scene: TokenScene) -> TokenScene:
        """Scale each group about its own centre."""
        return self.apply_to_each(scene, lambda scene, group: scale(scene, group, self.factor))

    def __str__(self) -> str:
        return f"scaled {self.named} by {self.factor:g}"
