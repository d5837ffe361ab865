"""The folder for files that can be made again."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from tokengroups.errors import UserError
from tokengroups.io.files import check_folder
from tokengroups.reading import path_kind


def cache_folder() -> Path | None:
    """Folder for files that can be made again: ``$XDG_CACHE_HOME/tokengroups``, by default below ~/.cache.

    Without a home, or where nothing may be written to it, it is a folder of the user's own among the temporary files.
    None = there is no place for it.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # its specification says: ignore it
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # HOME is not set, and the user has no entry in the list of users
            return _temporary_cache()
        if not base.is_absolute() or path_kind(base.parent) != "folder":
            return _temporary_cache()
    try:
        return check_folder(base / "tokengroups")
    except UserError:
        return _temporary_cache()


def _temporary_cache() -> Path | None:
    """Folder among the temporary files that nobody else can write to, as compiled code is loaded from it."""
    with contextlib.suppress(OSError):
        folder = Path(tempfile.gettempdir()) / f"tokengroups-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return folder
    return None
