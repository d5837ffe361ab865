"""Operations on the groups of a scene: pure functions `TokenScene -> TokenScene`.

Groups are named by their public ids, which survive edits. Positions and offsets are in scene units along the
axes of the scene's world (x right, y down, z forward for the first context camera). Every operation is
recorded in the provenance. Unknown ids raise `UserError` with a list of those that exist.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tokengroups.editing.parts import (
    append,
    keep_columns,
    local_anchor_ids,
    meaning_of,
    next_id,
    transform_group,
)
from tokengroups.errors import UserError
from tokengroups.gaussians import select, transform
from tokengroups.geometry import rotation_from_quaternion
from tokengroups.scene.groups import anchor_mask, column_of, gaussian_mask, group_centre, group_name
from tokengroups.types import TokenScene

Vector = Sequence[float]
AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def remove(scene: TokenScene, groups: int | Iterable[int]) -> TokenScene:
    """Take groups out; probabilities of the others are renormalised.

    Raises:
        UserError: An unknown id, or nothing would be left.
    """
    groups = [groups] if isinstance(groups, int) else list(groups)
    gone = {column_of(scene, group) for group in groups}
    stay = [column for column in range(len(scene.group_ids)) if column not in gone]
    return _record(keep_columns(scene, stay), "remove", groups=groups)


def keep(scene: TokenScene, groups: int | Iterable[int]) -> TokenScene:
    """Take out all groups but these; the inverse of `remove`.

    Raises:
        UserError: An unknown id, or none given.
    """
    groups = [groups] if isinstance(groups, int) else list(groups)
    stay = sorted({column_of(scene, group) for group in groups})
    return _record(keep_columns(scene, stay), "keep", groups=groups)


def move(scene: TokenScene, group: int, offset: Vector) -> TokenScene:
    """Shift a group by an offset."""
    column = column_of(scene, group)
    shift = _vector(scene, offset, "offset")
    moved = transform_group(scene, column, shift)
    return _record(moved, "move", group=group, offset=shift.tolist())


def rotate(scene: TokenScene, group: int, axis: str | Vector, degrees: float) -> TokenScene:
    """Turn a group about its centre; view-dependent colour turns with it.

    Args:
        scene: The scene.
        group: Id of the group.
        axis: "x", "y", "z", or a vector in the world; the turn is right-handed about it.
        degrees: Angle.
    """
    column = column_of(scene, group)
    named = AXES.get(axis, axis) if isinstance(axis, str) else axis
    direction = _vector(scene, named, "axis").double()
    if direction.norm() == 0:
        raise UserError("rotate: the axis has length 0; give x, y, z or a direction")
    half = math.radians(_finite(degrees, "degrees")) / 2
    quat = torch.cat([direction.new_tensor([math.cos(half)]), math.sin(half) * direction / direction.norm()])
    rotation = rotation_from_quaternion(quat)
    centre = group_centre(scene, column).double()
    turned = transform_group(scene, column, centre - rotation @ centre, rotation)
    return _record(turned, "rotate", group=group, axis=direction.tolist(), degrees=degrees)


def scale(scene: TokenScene, group: int, factor: float) -> TokenScene:
    """Make a group larger or smaller about its centre.

    Raises:
        UserError: An unknown id, or a factor that is not positive.
    """
    column = column_of(scene, group)
    if not _finite(factor, "factor") > 0:
        raise UserError(f"scale: the factor must be positive, got {factor:g}")
    centre = group_centre(scene, column)
    scaled = transform_group(scene, column, (1 - factor) * centre, factor=factor)
    return _record(scaled, "scale", group=group, factor=factor)


def duplicate(scene: TokenScene, group: int, offset: Vector = (0.0, 0.0, 0.0)) -> TokenScene:
    """Add a shifted copy of a group, under the id `next_id(scene)`.

    The copy's probabilities for the original become probabilities for the copy.
    """
    column = column_of(scene, group)
    shift = _vector(scene, offset, "offset")
    mine = anchor_mask(scene, column)
    rows = scene.assignment[mine]
    assignment = torch.cat([rows, rows[:, column : column + 1]], dim=1)
    assignment[:, column] = 0
    copied = append(
        scene,
        gaussians=transform(select(scene.gaussians, gaussian_mask(scene, column)), shift),
        anchor_ids=local_anchor_ids(scene, column, mine),
        anchors=scene.anchors[mine] + shift,
        assignment=assignment,
        token=scene.group_tokens[column],
        meaning=meaning_of(scene, scene, column, mine),
        name=group_name(scene, column),
    )
    return _record(copied, "duplicate", group=group, offset=shift.tolist(), new_group=next_id(scene))


def insert(scene: TokenScene, other: TokenScene, group: int, at: Vector) -> TokenScene:
    """Add a group of another scene, under the id `next_id(scene)`, so that its centre lands at a position.

    It keeps its size and its orientation in its own world, and comes with a zero group token where the tokens
    of the two scenes differ in length. What it means comes along if both scenes speak of the same text encoder.
    """
    column = column_of(other, group)
    shift = _vector(scene, at, "position") - group_centre(other, column).to(scene.anchors)
    mine = anchor_mask(other, column)
    assignment = scene.assignment.new_zeros(int(mine.sum()), len(scene.group_ids) + 1)
    assignment[:, -1] = 1
    token = other.group_tokens[column].to(scene.group_tokens)
    if token.shape != scene.group_tokens.shape[1:]:
        token = scene.group_tokens.new_zeros(scene.group_tokens.shape[1:])
    part = select(other.gaussians, gaussian_mask(other, column)).to(scene.anchors)
    inserted = append(
        scene,
        gaussians=transform(part, shift),
        anchor_ids=local_anchor_ids(other, column, mine).to(scene.anchor_ids),
        anchors=other.anchors[mine].to(scene.anchors) + shift,
        assignment=assignment,
        token=token,
        meaning=meaning_of(scene, other, column, mine),
        name=group_name(other, column),
    )
    details = {"at": [float(value) for value in at], "new_group": next_id(scene), "source": other.provenance}
    return _record(inserted, "insert", group=group, **details)


def _vector(scene: TokenScene, values: str | Vector, what: str) -> Tensor:
    try:
        vector = scene.anchors.new_tensor([float(value) for value in values])
    except ValueError as error:
        raise UserError(f"the {what} must be three numbers, got {values!r}") from error
    if vector.shape != (3,) or not bool(vector.isfinite().all()):
        raise UserError(f"the {what} must be three finite numbers, got {values!r}")
    return vector


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise UserError(f"{what} must be a finite number, got {value}")
    return value


def _record(scene: TokenScene, operation: str, **details: Any) -> TokenScene:
    """The scene with one more entry in ``provenance["edits"]``."""
    edits = [*scene.provenance.get("edits", []), {"operation": operation, **details}]
    return replace(scene, provenance={**scene.provenance, "edits": edits})
