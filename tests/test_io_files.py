"""Atomic writing: what the target holds after success, failure, a full disk."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tokengroups.errors import UserError
from tokengroups.io.files import (
    atomic_path,
    check_folder,
    check_writable,
    locked_folder,
    make_folder,
    natural_key,
    staged_folder,
    write_text,
)


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


# --- links, devices, pipes ------------------------------------------------------------------------------------------


def test_links_are_followed_and_stay_links(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real.txt").write_text("old")
    (tmp_path / "hop").symlink_to("far/real.txt")
    link = tmp_path / "link.txt"
    link.symlink_to("hop")
    write_text(link, "new")
    assert (tmp_path / "far" / "real.txt").read_text() == "new"
    assert link.is_symlink() and (tmp_path / "hop").is_symlink()
    assert os.listdir(tmp_path / "far") == ["real.txt"]


def test_a_link_to_nothing_creates_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "new.txt")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "new.txt").read_text() == "x" and (tmp_path / "link").is_symlink()


def special(folder: Path, kind: str) -> Path:
    """Make something that is neither a regular file nor a folder, and names that no file can have."""
    path = folder / "special"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))  # the system wants short names here
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    elif kind == "link to a pipe":
        os.mkfifo(folder / "pipe")
        path.symlink_to("pipe")
    elif kind == "loop":
        path.symlink_to("special")
    return folder / ("x" * 300 if kind == "long" else "a\0b") if kind in ("long", "nul") else path


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to a pipe", "loop", "long", "nul"])
def test_what_is_no_regular_file_is_refused_and_stays(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = special(tmp_path, kind)
    before = {name: os.lstat(tmp_path / name).st_mode for name in os.listdir(tmp_path)}
    for refuse in (lambda: write_text(path, "x"), lambda: check_writable(path)):
        with pytest.raises(UserError, match="^cannot write .*(give a file name|no file can have this name)") as caught:
            refuse()
        assert str(caught.value).isprintable()
    assert {name: os.lstat(tmp_path / name).st_mode for name in os.listdir(tmp_path)} == before


# --- killed writers -------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from tokengroups.io.files import atomic_path, staged_folder
target = Path(sys.argv[1])
with (staged_folder if target.suffix == "" else atomic_path)(target) as place:
    (place / "half.txt" if place.is_dir() else place).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_while_writing(target: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_the_next_run_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    target = tmp_path / "a.b.txt"
    target.write_text("old")
    (tmp_path / ".a.b.backup00.txt").write_text("mine")
    (tmp_path / ".other.0123abcd.txt").write_text("of another target")
    kept = {".a.b.backup00.txt", ".other.0123abcd.txt", "a.b.txt"}
    kill_while_writing(target)
    assert target.read_text() == "old" and len(os.listdir(tmp_path)) == 4
    with atomic_path(target):
        with atomic_path(target) as second:  # a living writer's file stays
            second.write_text("2")
        assert len(os.listdir(tmp_path)) == 4
    assert set(os.listdir(tmp_path)) == kept


def test_the_next_run_removes_a_killed_run_s_folder(tmp_path: Path) -> None:
    for existing in (False, True):
        if existing:
            (tmp_path / "out").mkdir(exist_ok=True)
        kill_while_writing(tmp_path / "out")
        with staged_folder(tmp_path / "out") as folder:
            (folder / "whole.txt").write_text("x")
        assert os.listdir(tmp_path) == ["out"] and os.listdir(tmp_path / "out") == ["whole.txt"]


# --- several files --------------------------------------------------------------------------------------------------


def test_a_staged_folder_appears_whole_with_its_parents(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "a" / "b") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "x.txt").write_text("x")
        assert not (tmp_path / "a").exists()
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == [
        "a", "a/b", "a/b/sub", "a/b/sub/x.txt",
    ]  # fmt: skip


def test_a_staged_folder_replaces_files_of_its_names_only(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "both.txt").write_text("old")
    with staged_folder(tmp_path) as folder:
        (folder / "both.txt").write_text("new")
        (folder / "new.txt").write_text("new")
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert texts == {"old.txt": "old", "both.txt": "new", "new.txt": "new"}


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_changes_nothing_in_a_staged_folder(tmp_path: Path, existing: bool) -> None:
    target = tmp_path / "a" / "out"
    if existing:
        target.mkdir(parents=True)
        (target / "x.txt").write_text("old")
    with (
        pytest.raises(UserError, match=r"cannot write .*/a/out/y\.png: it is a folder"),
        staged_folder(target) as folder,
    ):
        write_text(folder / "x.txt", "new")
        (folder / "y.png").mkdir()
        write_text(folder / "y.png", "new")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert found == (["a", "a/out", "a/out/x.txt"] if existing else [])
    assert not existing or (target / "x.txt").read_text() == "old"


def test_one_place_that_cannot_be_replaced_keeps_all_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "z.txt").mkdir()
    with pytest.raises(UserError, match=r"z\.txt: it is a folder"), staged_folder(tmp_path) as folder:
        (folder / "a.txt").write_text("new")
        (folder / "z.txt").write_text("new")
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "z.txt"] and (tmp_path / "a.txt").read_text() == "old"


def test_folders_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(UserError, match="^cannot write"):
            check_folder(target)
        with pytest.raises(UserError, match="^cannot write"), staged_folder(target):
            raise AssertionError("the block must not run")
    assert check_folder(tmp_path / "new" / "deep") == tmp_path / "new" / "deep"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize(("code", "words"), [(errno.EROFS, "may write"), (errno.EIO, "Input/output")])
def test_errors_in_a_folder_are_not_about_its_kind(tmp_path: Path, code: int, words: str) -> None:
    with pytest.raises(UserError, match=f"^cannot write {tmp_path}: .*{words}"), staged_folder(tmp_path):
        raise OSError(code, os.strerror(code))


# --- locks ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_held_by_one_process_and_free_when_that_is_killed(tmp_path: Path) -> None:
    code = """
import sys, time
from tokengroups.io.files import locked_folder
with locked_folder(sys.argv[1], "busy") as held:
    print(held, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "True\n"
        with pytest.raises(UserError, match="^busy$"), locked_folder(tmp_path, "busy"):
            raise AssertionError("held twice")
        other.kill()
    with locked_folder(tmp_path, "busy") as held:
        assert held
    assert not os.listdir(tmp_path)


def test_natural_order_counts() -> None:
    assert sorted(["IMG_10.jpg", "img_2.jpg", "IMG_1.jpg"], key=natural_key) == ["IMG_1.jpg", "img_2.jpg", "IMG_10.jpg"]
