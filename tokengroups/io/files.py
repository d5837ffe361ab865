"""Atomic writing of files, and reading of JSON."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokengroups.errors import UserError


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `target` that replaces it when the block ends well.

    The temporary file exists and is empty; its name keeps the suffix (libraries choose formats by it). The result
    has the permissions of the file it replaces, or those of any new file, whatever the block made of them. On any
    exception, Ctrl-C included, the temporary file is removed and an existing target stays as it was.

    Raises:
        UserError: The operating system refused (missing or read-only folder, full disk, ...).
    """
    target = Path(target)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        temporary.touch(exist_ok=False)
        mode = (target if target.is_file() else temporary).stat().st_mode
        yield temporary
        os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        with contextlib.suppress(OSError):  # gone after the replacement, or never there
            temporary.unlink()


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def cache_folder() -> Path:
    """Folder for files that can be made again: ``$XDG_CACHE_HOME/tokengroups``, by default below ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tokengroups"


def read_json(path: str | os.PathLike[str], advice: str) -> Any:
    """Content of a JSON file.

    Raises:
        UserError: Unreadable or not JSON; its line ends in the advice.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {advice}") from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); {advice}") from error


def natural_key(name: str) -> list[tuple[bool, int, str]]:
    """Sort key that puts IMG_2 before IMG_10."""
    parts = re.split(r"(\d+)", name.lower())
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Create a folder and its parents where missing.

    Raises:
        UserError: It cannot be created, or the path is a file.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def check_writable(target: str | os.PathLike[str]) -> Path:
    """Refuse a target file that cannot be written, before long work is done for it.

    Raises:
        UserError: The folder is missing or read-only, or the target is a folder.
    """
    target = Path(target)
    if target.is_dir():
        code = errno.EISDIR
    elif not target.parent.is_dir():
        code = errno.ENOENT
    elif not os.access(target.parent, os.W_OK):
        code = errno.EACCES
    else:
        return target
    raise write_error(target, OSError(code, os.strerror(code)))


def write_error(target: Path, error: OSError) -> UserError:
    """Describe an operating-system error met while writing `target` in one line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason = f"{os.strerror(error.errno)}; free some space, nothing was changed"
    elif error.errno in (errno.ENOENT, errno.ENOTDIR) and not target.parent.is_dir():
        reason = f"there is no folder {target.parent}; create it first"
    elif error.errno == errno.EISDIR or target.is_dir():
        reason = "it is a folder; give a file name"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = f"{os.strerror(error.errno)}; choose a place you may write to"
    else:
        reason = " ".join(str(error).split())
    return UserError(f"cannot write {target}: {reason}")
