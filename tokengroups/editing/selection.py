"""Selection of groups by text: an exact name first, then embedding similarity."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from jaxtyping import Float
from torch import Tensor

from tokengroups.editing.values import Selector, read_group, read_groups
from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.retrieval import MATCH_PROBABILITY, GroupMatch, find_groups
from tokengroups.scene.groups import column_of
from tokengroups.types import TokenScene

EmbedText = Callable[[TokenScene, str], Float[Tensor, " D"]]  # in the space of the scene's semantics
_LISTED = 5  # matches that a message shows


def select_groups(
    scene: TokenScene, selectors: Sequence[Selector], embed: EmbedText, *, every: bool = False
) -> tuple[int, ...]:
    """Select groups by ids, which pass unchecked, and texts; returns ids in their order, none twice.

    A text selects the groups with exactly this name, in any case. If there are none, it is embedded and selects those
    that it matches with a probability of at least `MATCH_PROBABILITY`.

    Raises:
        UserError: A text matches nothing, or several groups although `every` is not set, or the scene has no semantics.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.editing import select_groups
        >>> scene = tg.example_scene()
        >>> select_groups(scene, ["Ball", 1], embed=lambda scene, text: scene.semantics.embeddings[0])
        (3, 1)
    """
    chosen: dict[int, None] = {}
    for selector in map(read_group, selectors):
        ids = [selector] if isinstance(selector, int) else _matching(scene, selector, embed, every)
        chosen.update(dict.fromkeys(ids))
    return tuple(chosen)


def find_columns(scene: TokenScene, groups: Selector | Iterable[Selector]) -> list[tuple[int, int]]:
    """Ids and columns of one group or several, given by ids or names.

    Raises:
        UserError: No such group, or several of that name.

    Example:
        >>> import numpy as np
        >>> import tokengroups as tg
        >>> from tokengroups.editing.selection import find_columns
        >>> find_columns(tg.example_scene(), ["Ball", np.int64(1)])
        [(3, 2), (1, 0)]
    """
    selectors = read_groups(groups)
    ids = [group for selector in selectors for group in select_groups(scene, [selector], names_only)]
    return [(group, column_of(scene, group)) for group in ids]


def find_column(scene: TokenScene, group: Selector) -> tuple[int, int]:
    """Id and column of one group; errors as in `find_columns`."""
    (found,) = find_columns(scene, read_group(group))
    return found


def names_only(scene: TokenScene, text: str) -> Float[Tensor, " D"]:
    """Stand for the text encoder where there is none: refuse texts that are no names."""
    names = ", ".join(sorted({name for name in scene.group_names if name})) or "no names"
    raise UserError(
        f"no group has the name '{shown(text)}' (the scene has {shown(names)}); a description needs a text encoder: "
        "find the id with tokengroups.retrieval.find_groups, or use the command tokengroups edit"
    )


def _matching(scene: TokenScene, text: str, embed: EmbedText, every: bool) -> list[int]:
    names = zip(scene.group_ids.tolist(), scene.group_names or (), strict=False)
    found = {group: str(group) for group, name in names if name and name.casefold() == text.casefold()}
    if not found:
        matches = find_groups(scene, embed(scene, text))
        found = {m.id: _described(m) for m in matches if m.probability >= MATCH_PROBABILITY}
        if not found:
            best = ", ".join(_described(match) for match in matches[:_LISTED])
            raise UserError(f"no group is '{shown(text)}'; the nearest are {best}; give an id to take one of them")
    if len(found) > 1 and not every:
        raise UserError(
            f"'{shown(text)}' matches {len(found)} groups: {', '.join(found.values())}; give their ids, on the command "
            "line --all for all of them"
        )
    return list(found)


def _described(match: GroupMatch) -> str:
    return f"{match.id} (probability {match.probability:.2f})"
