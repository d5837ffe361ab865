"""Which groups stand in a relation to another one.

On, inside and next to are those of `groups.json` (`tokengroups.scene.layout`). Left, right, in front and behind are as
the first photo shows it that has both in the picture.
"""

from __future__ import annotations

from tokengroups.grounding.offline.facts import SceneFacts
from tokengroups.grounding.offline.words import Relation

_BESIDE_WALL = 0.5  # of the longer horizontal side: largest distance of what is next to a wall
_HANGING = 0.1  # of the longest side: largest distance of what hangs on a wall,
_RAISED = 0.15  # and least height of its bottom, as a share of the wall's height
_OVER = 0.5  # share of the smaller footprint's width that two things above each other have in common
_SLACK = 0.1  # of the lower thing's height: overlap in height of what is above it


def related_columns(facts: SceneFacts, relation: Relation, other: int) -> set[int]:
    """Columns of the groups that are `relation` the group in a column, which is never among them."""
    columns = set(range(len(facts.ids))) - {other}
    if relation == "on":
        return _on(facts, other) | {column for column in columns if _hangs_on(facts, column, other)}
    if relation == "inside":
        return _recorded(facts, "inside", other)
    if relation == "next to":
        near = {column for column in columns if facts.structure[other] and _within(facts, column, other, False)}
        return _recorded(facts, "next to", other) | near
    if relation == "near":
        return _recorded(facts, "next to", other) | {c for c in columns if _within(facts, c, other, True)}
    if relation in ("above", "below"):
        return {column for column in columns if _is_vertical(facts, relation, column, other)}
    return {column for column in columns if _is_seen(facts, relation, column, other)}


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


def _hangs_on(facts: SceneFacts, column: int, other: int) -> bool:
    """Whether a group touches an upright surface above its foot, as a picture on a wall."""
    sizes, height = facts.boxes.sizes, float(facts.boxes.sizes[other, 2])
    upright = facts.structure[other] and height > 2 * float(sizes[other, 1])
    if not upright or facts.structure[column]:
        return False
    raised = float(facts.bottom[column] - facts.bottom[other]) >= _RAISED * height
    return raised and float(facts.gaps(other)[column]) <= _HANGING * float(sizes[column].amax())


def _within(facts: SceneFacts, column: int, other: int, generous: bool) -> bool:
    """Whether the gap is small: at most the mean length of both, or for walls half the length of the one."""
    lengths = facts.boxes.sizes[:, :2].amax(dim=1)
    limit = (lengths[column] + lengths[other]) / 2 if generous else _BESIDE_WALL * lengths[column]
    return not facts.structure[column] and float(facts.gaps(other)[column]) <= float(limit)


def _is_vertical(facts: SceneFacts, relation: Relation, column: int, other: int) -> bool:
    """Above or below: mostly over the same place, and clearly at another height; a stool may stand under a table."""
    upper, lower = (column, other) if relation == "above" else (other, column)
    middles = (facts.bottom + facts.top) / 2
    if relation == "above":
        slack = _SLACK * (facts.top - facts.bottom)[lower]
        apart = bool(facts.bottom[upper] >= facts.top[lower] - slack)
    else:
        apart = bool(middles[lower] < middles[upper]) and bool(facts.top[lower] <= facts.top[upper])
    return apart and facts.shared_footprint(column, other) >= _OVER


def _is_seen(facts: SceneFacts, relation: Relation, column: int, other: int) -> bool:
    """Left, right, in front or behind, as a camera sees it."""
    seen, view = facts.bearings, facts.view_of(column, other)
    if relation == "left of":
        return bool(seen.centre[view, column] < seen.low[view, other])
    if relation == "right of":
        return bool(seen.centre[view, column] > seen.high[view, other])
    overlap = seen.low[view, column] < seen.high[view, other] and seen.low[view, other] < seen.high[view, column]
    nearer, farther = (column, other) if relation == "in front of" else (other, column)
    stacked = column in _on(facts, other) or other in _on(facts, column)
    free = not facts.structure[column] and not stacked
    return bool(overlap) and free and bool(seen.depth[view, nearer] < seen.depth[view, farther])
