"""Edits in a file: ``tokengroups edit --script``. CONVENTIONS.md defines the format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tokengroups.editing.base import Edit
from tokengroups.editing.instructions import parse_edits
from tokengroups.errors import UserError
from tokengroups.reading import read_json, shown

FORMAT, VERSION = "tokengroups.edits", 1
_ADVICE = f'give {{"format": "{FORMAT}", "version": {VERSION}, "edits": [["remove", "7"], ...]}}'


def script_content(edits: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Content of the file of some edits, each as the words of a command line.

    Example:
        >>> from tokengroups.editing.scripts import script_content
        >>> script_content([["remove", "7"]])
        {'format': 'tokengroups.edits', 'version': 1, 'edits': [['remove', '7']]}
    """
    return {"format": FORMAT, "version": VERSION, "edits": [list(words) for words in edits]}


def read_script(path: str | os.PathLike[str]) -> list[Edit]:
    """Read the edits of a file.

    Raises:
        UserError: Another content, or an edit that the command line refuses; the line has its number, from 1.
    """
    content = read_json(path, _ADVICE)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{shown(path)}: not a file of edits; {_ADVICE}")
    if content.get("version") != VERSION:
        version = shown(repr(content.get("version")))
        raise UserError(f"{shown(path)}: version {version} of {FORMAT}; this program reads version {VERSION}")
    edits = content.get("edits")
    if not isinstance(edits, list) or not edits:
        raise UserError(f"{shown(path)}: no edits in it; {_ADVICE}")
    return [_parse(words, f"{shown(path)}: edit {number}") for number, words in enumerate(edits, start=1)]


def parse_words(words: Any) -> Edit:
    """Parse one edit that a file or another program gives as a list of words.

    Raises:
        UserError: No list of texts, not one operation, one that the command line refuses, or one of a module that is
            not imported: only who types an operation decides that.
    """
    if not isinstance(words, list | tuple) or not words or not all(isinstance(word, str) for word in words):
        raise UserError(f"an edit is a list of texts, the words of a command line, got {shown(repr(words))}")
    edits = parse_edits(words, typed=False)
    if len(edits) != 1:
        raise UserError(f"'{shown(' '.join(words))}' are {len(edits)} operations; give each a list of its own")
    return edits[0]


def _parse(words: Any, where: str) -> Edit:
    try:
        return parse_words(words)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
