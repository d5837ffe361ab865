"""What of a failure a user can do something about."""

from __future__ import annotations

import re

from tokengroups.errors import UserError

_NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory")  # PyTorch's, of CPU and GPU


def reason(error: Exception) -> str | None:
    """What a user can do something about, in one line; None for a fault of the program."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return "not enough memory; use fewer or smaller pictures, or a machine with more"
    if isinstance(error, OSError):
        why = error.strerror or str(error)
        return why if error.filename is None else f"{error.filename}: {why}"
    return str(error) if isinstance(error, UserError) else None
