"""Edit that takes a group apart: into what hangs together, or by a box."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.editing.base import Edit, record
from tokengroups.editing.grouping import with_owners
from tokengroups.editing.selection import find_column
from tokengroups.editing.values import Selector, Vector, check_vector
from tokengroups.errors import UserError
from tokengroups.nearest import connected, nearest
from tokengroups.reading import shown
from tokengroups.scene.consistency import MAX_GROUP_ID
from tokengroups.scene.groups import anchor_mask, gaussian_mask, group_name
from tokengroups.types import TokenScene

_REACH = 3.0  # anchors hang together up to this many times the group's spacing
_SPACING_NEIGHBOUR = 4  # spacing: median distance to this neighbour, of small groups to one in the same half of them
_SMALLEST_SHARE = 0.02  # of the group's Gaussians; smaller pieces go to the nearest larger one


def split(scene: TokenScene, group: Selector, box: Vector | None = None) -> TokenScene:
    """Take a group apart. The largest part keeps id, name and score; the others get the largest id + 1, + 2, ...

    Anchors are never divided: each goes where the mean of its Gaussians is. Without a box, parts are sets of anchors
    that hang together, with gaps of at most 3 times the group's spacing (the median distance to the 4th neighbour, to
    a nearer one in groups of fewer than ten anchors); pieces with less than 2 % of the group's Gaussians join the
    nearest part. Every part has the group's name, token, score and embedding. The group's probabilities for anchors of
    other groups stay with the largest part.

    Args:
        scene: Any.
        group: Id or name.
        box: Two opposite corners x y z x y z in the scene's world: one part is inside, the other outside.

    Raises:
        UserError: The group is in one piece, or all inside or outside the box.

    Example:
        >>> import tokengroups as tg
        >>> scene = tg.merge(tg.example_scene(), [2, 3])
        >>> [part.tolist() for part in (scene.group_ids, tg.split(scene, 2).group_ids)]
        [[1, 2], [1, 2, 3]]
    """
    group, column = find_column(scene, group)
    anchors, centres, counts = _occupied(scene, column)
    corners = None if box is None else _check_box(scene, box)
    labels = _pieces(centres, counts) if corners is None else _inside(centres, corners).long()
    sizes = torch.bincount(labels, counts.double())
    order = [part for part in sizes.argsort(descending=True, stable=True).tolist() if sizes[part] > 0]
    if len(order) < 2:
        reason = "it is in one piece; give a box" if box is None else "the box has all of it on one side"
        raise UserError(f"cannot split group {group}: {reason}")
    ids = [int(scene.group_ids.max()) + number for number in range(1, len(order))]
    if ids[-1] > MAX_GROUP_ID:
        raise UserError(f"no ids are left for the parts: the largest of the scene is {ids[0] - 1}")
    parts = _append_parts(scene, column, [anchors[labels == part] for part in order[1:]], ids)
    details = {} if corners is None else {"box": corners.flatten().tolist()}
    return record(parts, "split", group=group, **details, new_groups=ids)


def _occupied(scene: TokenScene, column: int) -> tuple[Int64[Tensor, " M"], Float[Tensor, "M 3"], Int64[Tensor, " M"]]:
    """Anchors of a group that have Gaussians: indices, mean positions of their Gaussians (float64), and numbers."""
    mine = gaussian_mask(scene, column)
    owners = scene.anchor_ids[mine]
    counts = torch.bincount(owners, minlength=len(scene.anchors))
    sums = scene.anchors.new_zeros(len(scene.anchors), 3, dtype=torch.float64)
    sums = sums.index_add(0, owners, scene.gaussians.means[mine].double())
    anchors = torch.nonzero(anchor_mask(scene, column) & (counts > 0)).squeeze(1)
    return anchors, sums[anchors] / counts[anchors, None], counts[anchors]


def _check_box(scene: TokenScene, box: Vector) -> Float[Tensor, "2 3"]:
    """Smallest and largest corner."""
    try:
        numbers = list(box)
    except TypeError:
        numbers = []
    if len(numbers) != 6:
        raise UserError(f"split: the box must be six numbers, two corners x y z x y z, got {shown(repr(box))}")
    corners = torch.stack([check_vector(scene, numbers[at : at + 3], "corner of the box") for at in (0, 3)])
    return corners.sort(dim=0).values


def _inside(points: Float[Tensor, "M 3"], corners: Float[Tensor, "2 3"]) -> Bool[Tensor, " M"]:
    low, high = corners.double()
    return ((points >= low) & (points <= high)).all(dim=1)


def _pieces(points: Float[Tensor, "M 3"], counts: Int64[Tensor, " M"]) -> Int64[Tensor, " M"]:
    """Label what hangs together."""
    places, place = points.unique(dim=0, return_inverse=True)  # some scenes have hundreds of anchors in one place
    neighbour = min(_SPACING_NEIGHBOUR, max(len(places) // 2 - 1, 1))
    distances, _ = nearest(places, places, neighbour + 1)  # the first neighbour is the point itself
    labels = connected(places, _REACH * float(distances[:, -1].median()))[place]
    sizes = torch.bincount(labels, counts.double())
    large = (sizes >= _SMALLEST_SHARE * sizes.sum())[labels]
    if bool(large.all()) or not bool(large.any()):
        return labels if bool(large.any()) else torch.zeros_like(labels)
    _, index = nearest(points[~large], points[large], 1)
    return labels.masked_scatter(~large, labels[large][index[:, 0]])


def _append_parts(scene: TokenScene, column: int, parts: list[Int64[Tensor, " _"]], ids: list[int]) -> TokenScene:
    """Give parts of a group, given by their anchors, columns of their own."""
    owners = scene.assignment.argmax(dim=1)
    assignment = torch.nn.functional.pad(scene.assignment, (0, len(parts)))
    for number, anchors in enumerate(parts, start=len(scene.group_ids)):
        assignment[anchors, number] = assignment[anchors, column]
        assignment[anchors, column] = 0
        owners[anchors] = number
    copies = [*range(len(scene.group_ids)), *[column] * len(parts)]  # columns that the new ones are like
    semantics, scores = scene.semantics, scene.group_scores
    return replace(
        scene,
        assignment=with_owners(assignment, owners),
        group_ids=torch.cat([scene.group_ids, scene.group_ids.new_tensor(ids)]),
        group_tokens=scene.group_tokens[copies],
        group_names=tuple(group_name(scene, copy) for copy in copies) if scene.group_names else (),
        semantics=semantics and replace(semantics, embeddings=semantics.embeddings[copies]),
        group_scores=None if scores is None else scores[copies],
    )


@dataclass(frozen=True)
class Split(Edit):
    """Command-line form of `split`."""

    FORM = "GROUP [X0 Y0 Z0 X1 Y1 Z1]"
    HELP = "into what hangs together, or by a box; new ids for all but the largest part"
    DONE = "split {groups}"
    FUNCTION = staticmethod(split)
    box: Vector | None = None
