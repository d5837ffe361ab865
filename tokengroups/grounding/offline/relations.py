"""Which groups stand in a relation to another one.

On, inside and next to are those of `groups.json` (`tokengroups.scene.layout`). Left, right, in front and behind are as
the first photo shows it that has both in the picture.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from tokengroups.grounding.offline.facts import SceneFacts
from tokengroups.grounding.offline.words import Relation

_BESIDE_WALL = 0.5  # of the longer horizontal side: largest distance of what is next to a wall
_HANGING = 0.1  # of the longest side: largest distance of what hangs on a wall,
_RAISED = 0.15  # and least height of its bottom, as a share of the wall's height
_UPRIGHT = 2.0  # least height of a wall, in units of its thickness
_OVER = 0.5  # share of the smaller footprint that two things above each other have in common
_SLACK = 0.1  # of the lower thing's height: overlap in height of what is above it


def related_columns(facts: SceneFacts, relation: Relation, other: int) -> set[int]:
    """Columns of the groups that are `relation` the group in a column, which is never among them."""
    found: set[int] = set()
    if relation == "on":
        found = _on(facts, other) | _columns(_hang_on(facts, other))
    elif relation == "inside":
        found = _recorded(facts, "inside", other)
    elif relation in ("next to", "near"):
        found = _recorded(facts, "next to", other) | _columns(_near(facts, other, generous=relation == "near"))
    elif relation == "above":
        found = _columns(_above(facts, other))
    elif relation == "below":
        found = _columns(_below(facts, other))
    else:
        found = _columns(_seen(facts, relation, other))
    if relation in ("in front of", "behind"):
        found -= _on(facts, other)
        found -= {c for c in found if ("on", facts.ids[other], facts.ids[c]) in facts.related or facts.structure[c]}
    return found - {other}


def _columns(mask: Bool[Tensor, " L"]) -> set[int]:
    return set(mask.nonzero()[:, 0].tolist())


def _recorded(facts: SceneFacts, kind: str, other: int) -> set[int]:
    return {column for column, group in enumerate(facts.ids) if (kind, group, facts.ids[other]) in facts.related}


def _on(facts: SceneFacts, other: int) -> set[int]:
    """What stands on a group; a cup on a tray on a table is on the table, but not on the floor."""
    found, new = set(), {other}
    while new:
        new = set().union(*(_recorded(facts, "on", column) for column in new)) - found - {other}
        found |= new
        if facts.structure[other]:
            break
    return found


def _hang_on(facts: SceneFacts, other: int) -> Bool[Tensor, " L"]:
    """Whether each group touches an upright surface above its foot, as a picture on a wall does."""
    sizes = facts.boxes.sizes
    height, thickness = sizes[other, 2], sizes[other, 1]
    free = ~torch.tensor(facts.structure)
    if not facts.structure[other] or bool(height <= _UPRIGHT * thickness):
        return torch.zeros_like(free)
    raised = facts.bottom - facts.bottom[other] >= _RAISED * height
    return free & raised & (facts.gaps(other) <= _HANGING * sizes.amax(dim=1))


def _near(facts: SceneFacts, other: int, generous: bool) -> Bool[Tensor, " L"]:
    """Whether the gap is small: at most the mean length of both, if generous; else half of one's own, from a wall."""
    lengths = facts.boxes.sizes[:, :2].amax(dim=1)
    limits = (lengths + lengths[other]) / 2 if generous else _BESIDE_WALL * lengths
    near = ~torch.tensor(facts.structure) & (facts.gaps(other) <= limits)
    return near if generous or facts.structure[other] else torch.zeros_like(near)


def _above(facts: SceneFacts, other: int) -> Bool[Tensor, " L"]:
    """Whether each group is mostly over the same place, and higher than the other's top."""
    slack = _SLACK * (facts.top[other] - facts.bottom[other])
    return (facts.bottom >= facts.top[other] - slack) & (facts.shared_footprints(other) >= _OVER)


def _below(facts: SceneFacts, other: int) -> Bool[Tensor, " L"]:
    """Whether each group is mostly under the same place; a stool under a table is within the table's box."""
    middles = (facts.bottom + facts.top) / 2
    lower = (middles < middles[other]) & (facts.top <= facts.top[other])
    return lower & (facts.shared_footprints(other) >= _OVER)


def _seen(facts: SceneFacts, relation: Relation, other: int) -> Bool[Tensor, " L"]:
    """Left, right, in front or behind, as a camera sees it."""
    seen = facts.bearings
    both = seen.inside & seen.inside[:, other, None]
    view = both.to(torch.int8).argmax(dim=0)  # the first one of equals: camera 0 if none has both
    column = torch.arange(len(view))
    middle, low, high, depth = (values[view, column] for values in (seen.centre, seen.low, seen.high, seen.depth))
    if relation == "left of":
        return middle < seen.low[view, other]
    if relation == "right of":
        return middle > seen.high[view, other]
    overlap = (low < seen.high[view, other]) & (seen.low[view, other] < high)
    nearer = depth < seen.depth[view, other]
    return overlap & (nearer if relation == "in front of" else depth > seen.depth[view, other])
