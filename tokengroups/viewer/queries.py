"""Groups that a text means: all groups of a scene, best first, for a page that lights them up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokengroups.editing import EmbedText
from tokengroups.errors import UserError
from tokengroups.reading import check_text, shown
from tokengroups.retrieval import find_groups, semantics_of
from tokengroups.scene.groups import group_name
from tokengroups.types import TokenScene


@dataclass(frozen=True)
class Found:
    """Answer to a text: ids and probabilities of all groups, best first."""

    text: str
    encoder: str | None  # None: by names alone
    matches: tuple[tuple[int, float], ...]


def can_ask(scene: TokenScene, embed: EmbedText | None) -> bool:
    """Tell whether a scene has anything that a text could mean: names, or semantics and a text encoder for them."""
    return any(scene.group_names) or (scene.semantics is not None and embed is not None)


def find(scene: TokenScene, text: Any, embed: EmbedText | None = None) -> Found:
    """Find what a text means by the embeddings of text and groups; without semantics or encoder, by names.

    By embeddings, probabilities are those of `tokengroups.retrieval.find_groups`. By names, a group whose name holds
    the text, in any case, has probability 1, the others have 0; the groups of exactly this name come first.

    Args:
        scene: Any.
        text: Another program may have sent it.
        embed: Text encoder of the scene's semantics.

    Raises:
        UserError: No text, one that nobody would look for, nothing to look it up in, or the encoder's own errors.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.viewer.queries import find
        >>> find(tg.example_scene(), "Ball").matches
        ((3, 1.0), (1, 0.0), (2, 0.0))
    """
    if not isinstance(text, str):
        raise UserError(f"give the text to look for, got {shown(repr(text))}")
    text = check_text(text)
    if scene.semantics is not None and embed is not None:
        matches = find_groups(scene, embed(scene, text))
        return Found(text, scene.semantics.encoder, tuple((match.id, match.probability) for match in matches))
    if not any(scene.group_names):
        semantics_of(scene)  # says how to get some
        raise UserError("the groups have no names, and there is no text encoder for their embeddings")
    return Found(text, None, _by_name(scene, text))


def _by_name(scene: TokenScene, text: str) -> tuple[tuple[int, float], ...]:
    wanted = text.casefold()
    names = [" ".join(group_name(scene, column).split()).casefold() for column in range(len(scene.group_ids))]
    ids = scene.group_ids.tolist()
    order = sorted(range(len(ids)), key=lambda column: (names[column] != wanted, wanted not in names[column]))
    return tuple((ids[column], float(wanted in names[column])) for column in order)
