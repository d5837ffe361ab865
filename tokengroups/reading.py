"""Reading of files that a user names: regular files only, of bounded size, with one line for whatever is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tokengroups.errors import UserError

TEXT_LIMIT = 64 * 2**20  # bytes of a JSON, YAML or other text file
LONGEST_TEXT = 2000  # characters; text encoders ignore all but the first 60 to 250 words
PathKind = Literal["file", "folder", "missing", "other", "impossible"]
_LONGEST_REASON = 200  # characters of another library's message


def path_kind(path: str | os.PathLike[str]) -> PathKind:
    """Kind of what a path names, links followed; never raises.

    "other" is a device, pipe or socket; "impossible" a path that no file can have (too long, NUL inside, a loop of
    links) or that may not be looked at.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError):
        return "impossible"
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"


def check_file(path: str | os.PathLike[str], advice: str = "") -> Path:
    """Refuse whatever is no regular file: a pipe could block for ever, a device never end.

    Raises:
        UserError: Its line ends in the advice.
    """
    reasons = {
        "missing": "there is no such file",
        "folder": "it is a folder; give a file",
        "other": "it is a device, pipe or socket; give a regular file",
        "impossible": "no file can have this name, or it may not be opened",
    }
    kind = path_kind(path)
    if kind != "file":
        raise UserError(f"cannot read {shown(path)}: {reasons[kind]}{advice and '; ' + advice}")
    return Path(path)


def read_bytes(path: str | os.PathLike[str], advice: str = "", limit: int | None = None) -> bytes:
    """Content of a regular file of at most `limit` bytes.

    Raises:
        UserError: No such file, not a regular one, larger than the limit, or unreadable; its line ends in the advice.
    """
    path = check_file(path, advice)
    try:
        if limit is not None and path.stat().st_size > limit:
            raise UserError(f"cannot read {shown(path)}: larger than {limit // 2**20} MiB{advice and '; ' + advice}")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {shown(path)}: {error.strerror}{advice and '; ' + advice}") from error


def read_text(path: str | os.PathLike[str], advice: str = "", limit: int = TEXT_LIMIT) -> str:
    """Content of a UTF-8 file, with or without a byte order mark; errors as in `read_bytes`, or another encoding."""
    try:
        return read_bytes(path, advice, limit).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{shown(path)}: not a text file in UTF-8 ({error.reason}){advice and '; ' + advice}") from None


def read_json(path: str | os.PathLike[str], advice: str, limit: int = TEXT_LIMIT) -> Any:
    """Content of a JSON file.

    Raises:
        UserError: Unreadable or not JSON; its line ends in the advice.
    """
    text = read_text(path, advice, limit)
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{shown(path)}: JSON nested too deeply; {advice}") from None
    except ValueError as error:
        raise UserError(f"{shown(path)}: not JSON ({error}); {advice}") from None


@contextlib.contextmanager
def malformed(where: str | os.PathLike[str], advice: str) -> Iterator[None]:
    """Context in which Python's errors about values of the wrong kind become one line: where, which value, advice.

    For readers that take foreign content apart: a missing key, a text or list for a number, infinity for a whole
    number, numbers too large, too deep nesting. A `UserError` passes through.

    Raises:
        UserError: The line begins with `where`.
    """
    try:
        yield
    except KeyError as error:
        raise UserError(f"{shown(where)}: lacks {shown(error)}; {advice}") from error
    except RecursionError as error:
        raise UserError(f"{shown(where)}: nested too deeply; {advice}") from error
    except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError) as error:
        raise UserError(f"{shown(where)}: a value has the wrong form ({shown(error)}); {advice}") from error


def check_text(text: str) -> str:
    """A text to look for, with white space reduced to single spaces.

    Raises:
        UserError: The text is empty, far longer than what encoders read, or holds bytes that are no text.
    """
    text = " ".join(text.split())
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"the text '{shown(text)}' holds bytes that are no UTF-8; write it in UTF-8")
    if not text:
        raise UserError("the text is empty; say what to look for, e.g. 'a place to sit'")
    if len(text) > LONGEST_TEXT:
        raise UserError(f"the text has {len(text):,} characters, and encoders read less; give at most {LONGEST_TEXT:,}")
    return text


def shown(value: object) -> str:
    """Text on one line for messages: control characters and surrogates escaped, white space single, shortened."""
    text = escaped(" ".join(str(value).split()))
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


def escaped(text: str) -> str:
    """Text of a file as a terminal may show it: control characters, line ends and surrogates escaped, all else kept."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
