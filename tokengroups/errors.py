"""The one exception that users see as a single line."""

from __future__ import annotations


class UserError(Exception):
    """Bad input from a user: the message says what is wrong, where, and what to do, in one line.

    The command line prints it after ``error:`` and exits with code 2; no traceback is shown.

    Example:
        >>> import tokengroups as tg
        >>> try:
        ...     tg.remove(tg.example_scene(), 9)
        ... except tg.UserError as error:
        ...     print(error)
        there is no group 9; the scene has the groups 1, 2, 3
    """
