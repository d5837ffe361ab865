"""Atomic writing: what the target holds after success, failure, a full disk."""

from __future__ import annotations

import errno
import resource
import stat
from pathlib import Path

import pytest

from tokengroups.errors import UserError
from tokengroups.io.files import atomic_path, check_writable, make_folder, natural_key, write_text


def test_success_replaces_the_target_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".txt"
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("failure", [ValueError("boom"), KeyboardInterrupt()])
def test_failure_keeps_the_old_file(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(failure)), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_permissions_are_those_of_the_old_file_or_of_any_new_one(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    (tmp_path / "plain").touch()
    for mode in (stat.S_IMODE((tmp_path / "plain").stat().st_mode), 0o640):
        with atomic_path(target) as temporary:
            temporary.unlink()
            temporary.touch(mode=0o600)  # as libraries do that write through a private file of their own
        assert stat.S_IMODE(target.stat().st_mode) == mode
        target.chmod(0o640)


def test_full_disk_keeps_the_old_file_and_says_so(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # the system refuses as on a full disk
    try:
        with (
            pytest.raises(UserError, match=r"cannot write .*a\.bin: .*free some space"),
            atomic_path(target) as temporary,
        ):
            temporary.write_bytes(bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EACCES, "may write"),
        (errno.EROFS, "may write"),
        (errno.EIO, "Input/output"),
    ],
)
def test_system_errors_become_one_line(tmp_path: Path, code: int, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught, atomic_path(tmp_path / "a"):
        raise OSError(code, errno.errorcode[code] if code != errno.EIO else "Input/output error")
    assert "\n" not in str(caught.value)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target, words in [
        (tmp_path / "missing" / "a.txt", "there is no folder"),
        (tmp_path / "file" / "a.txt", "there is no folder"),
        (tmp_path, "it is a folder"),
    ]:
        with pytest.raises(UserError, match=words):
            write_text(target, "x")
        with pytest.raises(UserError, match=words):
            check_writable(target)
    with pytest.raises(UserError, match="cannot write"):
        make_folder(tmp_path / "file" / "folder")
    assert make_folder(tmp_path / "a" / "b").is_dir()


def test_natural_order_counts() -> None:
    assert sorted(["IMG_10.jpg", "img_2.jpg", "IMG_1.jpg"], key=natural_key) == ["IMG_1.jpg", "img_2.jpg", "IMG_10.jpg"]
