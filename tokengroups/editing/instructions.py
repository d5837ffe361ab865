"""Command lines of edits: ``remove 7 move lamp 0.4 0 0 insert other.safetensors:4 --at 0 0.2 1.5``.

Where an id may stand, a text may stand too. It selects the groups of that name, else those that match it semantically.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokengroups.editing.base import EDITS, Edit
from tokengroups.errors import UserError
from tokengroups.reading import shown
from tokengroups.registry import resolve
from tokengroups.types import TokenScene

_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Z]\w*")  # package.module:Class


def parse_edits(words: Sequence[str], *, typed: bool = True) -> list[Edit]:
    """Parse operations in their order.

    Args:
        words: Of a command line.
        typed: A user typed them; else modules of operations of one's own must be imported already.

    Raises:
        UserError: An unknown operation or wrong arguments; the message shows the right form.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.editing import parse_edits
        >>> scene = tg.example_scene()
        >>> for edit in parse_edits("remove 2 move 3 0.4 0 0".split()):
        ...     scene = edit.apply(scene)
        ...     print(edit)
        removed 2
        moved 3 by 0.4 0 0
    """
    if not words:
        raise UserError(f"no operation given; there are {', '.join(EDITS)}")
    starts: list[int] = []
    for index, word in enumerate(words):
        before = list(words[starts[-1] : index]) if starts else []
        needs_scene = before[:1] == ["insert"] and not any(":" in argument for argument in before)  # SCENE:GROUP
        needs_name = before[:1] == ["rename"] and len(before) == 2  # any text
        if not needs_name and (word in EDITS or (_IMPORT_PATH.fullmatch(word) and not needs_scene)):
            starts.append(index)
    if starts[:1] != [0]:
        raise UserError(f"unknown operation '{shown(words[0])}'; there are {', '.join(EDITS)}")
    return [_parse(*words[a:b], typed=typed) for a, b in zip(starts, [*starts[1:], len(words)], strict=True)]


def describe(edit: Edit, before: TokenScene, after: TokenScene) -> str:
    """What an edit has done, in words: ``copied 3, shifted by 0.4 0 0 as group 9``."""
    added = sorted(set(after.group_ids.tolist()) - set(before.group_ids.tolist()))
    return f"{edit}" + "".join(f" as group {group_id}" for group_id in added)


def operations_help() -> str:
    """List the form and the effect of every operation, one a line."""
    forms = {f"{name} {edit.FORM}": edit.HELP for name, edit in EDITS.items()}
    width = max(map(len, forms))
    return "\n".join(f"  {form:{width}}  {effect}" for form, effect in forms.items())


def _parse(name: str, *arguments: str, typed: bool) -> Edit:
    edit = EDITS.get(name) or resolve(name, {}, "operation", typed=typed)
    if not (isinstance(edit, type) and issubclass(edit, Edit)):
        raise UserError(f"{name} is no operation; derive it from tokengroups.editing.Edit")
    try:
        return edit.parse(arguments)
    except ValueError as error:
        words = shown(" ".join((name, *arguments)))
        raise UserError(f"'{words}': {shown(error)}; the form is: {name} {edit.FORM}") from error
