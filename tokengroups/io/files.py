"""Writing of files and folders: whole or not at all, and never over a device or pipe."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from tokengroups.errors import UserError
from tokengroups.reading import path_kind, shown

try:
    import fcntl
except ImportError:  # Windows: no locks, so files of killed processes stay
    fcntl = None

SPLATS = (".ply", ".spz", ".glb", ".gltf", ".splat", ".ksplat", ".sog")  # names of files of splats
_STAGING_SUFFIX = ".staging"
_NAME_LENGTH = (
    50,
    20,
)  # characters of stem and suffix in temporary names: the name itself may be as long as names can be


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `target` that replaces it when the block ends well.

    A link is followed: what it points to is replaced. Devices, pipes, sockets and folders are refused. The temporary
    file exists and is empty; its name keeps the suffix (libraries choose formats by it). The result has the permissions
    of the file it replaces, or those of any new file, whatever the block made of them. On any exception, Ctrl-C
    included, the temporary file is removed and an existing target stays as it was. What killed processes left of
    earlier attempts at the same target is removed too.

    Args:
        target: File to write.
        durable: Wait until the disk has the content, so that not even a loss of power leaves an empty file.

    Raises:
        UserError: `target` is no place for a file, or the operating system refused (missing or read-only folder, full
            disk, ...).
    """
    target = Path(target)
    final = _final_place(target)
    temporary = _temporary(final.parent, final.stem, final.suffix)
    try:
        with _created(temporary):
            mode = (final if final.is_file() else temporary).stat().st_mode
            yield temporary
            os.chmod(temporary, stat.S_IMODE(mode))
            if durable:
                _sync(temporary)
            os.replace(temporary, final)
        if durable and os.name == "posix":
            _sync(final.parent)  # the new name
    except UserError as error:
        raise _about(target, temporary, error) from error
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        with contextlib.suppress(OSError):  # gone after the replacement, or never there
            temporary.unlink()


@contextlib.contextmanager
def staged_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield an empty folder whose files all come to lie in `target` when the block ends well.

    A missing `target` is created with its parents. In an existing one files of the same names are replaced, and others
    stay. On any exception nothing was changed. For commands that write several files.

    Raises:
        UserError: `target` is no folder, something in it cannot be replaced by a file, or the operating system refused.
    """
    target = check_folder(target)
    final = Path(os.path.realpath(target))
    existing = next(folder for folder in (final, *final.parents) if folder.is_dir())
    staging = _temporary(existing, final.name, _STAGING_SUFFIX)
    try:
        staging.mkdir()
        with _locked(staging):
            yield staging
            if final.is_dir():
                _merge(staging, final)
            else:
                final.parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging, final)
    except UserError as error:
        raise _about(target, staging, error) from error
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_text(target: str | os.PathLike[str], text: str, *, durable: bool = False) -> None:
    """Write UTF-8 text as `atomic_path` does; surrogates, which stand for bytes of odd file names, are escaped."""
    with atomic_path(target, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike[str], busy: str) -> Iterator[bool]:
    """Hold a folder for one process; the operating system releases it even if the process is killed.

    Yields:
        False where the file system has no locks.

    Raises:
        UserError: Another process holds it; the line is `busy`.
    """
    held = fcntl is not None
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_locked(Path(folder)))
        except BlockingIOError:
            raise UserError(busy) from None
        except OSError:
            held = False
        yield held


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
    except (OSError, ValueError) as error:
        raise write_error(folder, error) from error
    return folder


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Refuse a folder that cannot be created or written into, before long work is done for it; creates nothing.

    Raises:
        UserError: It is a file, or it or the folder that it would be created in is read-only.
    """
    folder = Path(folder)
    if path_kind(folder) == "impossible":
        raise write_error(folder, OSError(errno.EINVAL, "no folder can have this name"))
    existing = next(place for place in (folder, *folder.absolute().parents) if path_kind(place) != "missing")
    if path_kind(existing) != "folder":
        raise UserError(f"cannot write {shown(folder)}: {shown(existing)} is no folder; choose another name")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise write_error(folder, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    return folder


def check_writable(target: str | os.PathLike[str]) -> Path:
    """Refuse a target file that cannot be written, before long work is done for it.

    Raises:
        UserError: The folder is missing or read-only, or the target is a folder, a device, a pipe or a socket.
    """
    target = Path(target)
    final = _final_place(target)
    if not final.parent.is_dir():
        code = errno.ENOENT
    elif not os.access(final.parent, os.W_OK):
        code = errno.EACCES
    else:
        return target
    raise write_error(target, OSError(code, os.strerror(code)))


def check_scene_name(target: str | os.PathLike[str]) -> Path:
    """Refuse to write a scene file that other programs would take for splats; else as `check_writable`."""
    if Path(target).suffix.lower() in SPLATS:
        raise UserError(
            f"{shown(target)}: a scene file is none of splats; name it {shown(Path(target).stem)}.safetensors, and "
            "`tokengroups export` makes .ply, .spz or .glb of it"
        )
    return check_writable(target)


def write_error(target: Path, error: OSError | ValueError) -> UserError:
    """Describe an operating-system error met while writing `target` in one line."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason = f"{os.strerror(code)}; free some space, nothing was changed"
    elif code in (errno.ENOENT, errno.ENOTDIR) and path_kind(target.parent) != "folder":
        reason = f"there is no folder {shown(target.parent)}; create it first"
    elif code == errno.EISDIR:
        reason = "it is a folder; give a file name"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = f"{os.strerror(code)}; choose a place you may write to"
    else:
        reason = shown(error)
    return UserError(f"cannot write {shown(target)}: {reason}")


def _about(target: Path, temporary: Path, error: UserError) -> UserError:
    """The same error, about the place that the user asked for."""
    return UserError(str(error).replace(shown(temporary), shown(target)))


def _final_place(target: Path) -> Path:
    """Where the content of `target` lies, links followed; only a regular file or nothing may be there."""
    kind = path_kind(target)
    if kind == "folder":
        raise write_error(target, OSError(errno.EISDIR, os.strerror(errno.EISDIR)))
    if kind == "other":
        raise UserError(f"cannot write {shown(target)}: it is a device, pipe or socket; give a file name")
    if kind == "impossible":
        raise UserError(f"cannot write {shown(target)}: no file can have this name, or its folder may not be opened")
    return Path(os.path.realpath(target))


def _merge(staging: Path, final: Path) -> None:
    """Move all files of a staging folder into another one; looks first whether every one can be moved."""
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    places = [_final_place(final / path.relative_to(staging)) for path in files]
    for place in places:
        check_folder(place.parent).mkdir(parents=True, exist_ok=True)
    for path, place in zip(files, places, strict=True):
        os.replace(path, place)


@contextlib.contextmanager
def _created(path: Path) -> Iterator[None]:
    """Create an empty file and hold it, so that no other process takes it for a leftover."""
    path.touch(exist_ok=False)
    with _locked(path):
        yield


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock on a file or folder; `BlockingIOError` if another process has it."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _temporary(folder: Path, stem: str, suffix: str) -> Path:
    """Free name for a temporary file or folder; removes those of killed processes for the same target."""
    start, end = f".{stem[: _NAME_LENGTH[0]]}.", suffix[: _NAME_LENGTH[1]]
    if fcntl is not None and not folder.name.endswith(_STAGING_SUFFIX):  # a staging folder is new
        pattern = re.compile(rf"{re.escape(start)}[0-9a-f]{{8}}{re.escape(end)}")
        with contextlib.suppress(OSError):
            for name in filter(pattern.fullmatch, os.listdir(folder)):
                _remove_if_left(folder / name)
    return folder / f"{start}{secrets.token_hex(4)}{end}"


def _remove_if_left(path: Path) -> None:
    """Remove a temporary file or folder that no process holds."""
    with contextlib.suppress(OSError), _locked(path):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sync(path: Path) -> None:
    """Wait until the disk has a file's content, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
