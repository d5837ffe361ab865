"""Selection of groups by text: an exact name first, then embedding similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.retrieval import MATCH_PROBABILITY, GroupMatch, find_groups
from tokengroups.types import TokenScene

EmbedText = Callable[[TokenScene, str], Float[Tensor, " D"]]  # in the space of the scene's semantics
_LISTED = 5  # matches that a message shows


def select_groups(
    scene: TokenScene, selectors: Sequence[int | str], embed: EmbedText, *, every: bool = False
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
    for selector in selectors:
        ids = [selector] if isinstance(selector, int) else _matching(scene, selector, embed, every)
        chosen.update(dict.fromkeys(ids))
    return tuple(chosen)


def _matching(scene: TokenScene, text: str, embed: EmbedText, every: bool) -> list[int]:
    names = zip(scene.group_ids.tolist(), scene.group_names or (), strict=False)
    found = {group: str(group) for group, name in names if name and name.casefold() == text.casefold()}
    if not found:
        matches = find_groups(scene, embed(scene, text))
        found = {m.id: _described(m) for m in matches if m.probability >= MATCH_PROBABILITY}
        if not found:
            best = ", ".join(_described(match) for match in matches[:_LISTED])
            raise UserError(f"no group is '{text}'; the nearest are {best}; give an id to take one of them")
    if len(found) > 1 and not every:
        raise UserError(
            f"'{text}' matches {len(found)} groups: {', '.join(found.values())}; give an id, or --all for all of them"
        )
    return list(found)


def _described(match: GroupMatch) -> str:
    return f"{match.id} (probability {match.probability:.2f})"
