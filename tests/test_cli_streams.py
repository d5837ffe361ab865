"""What surrounds a command: full and closed outputs, consoles that show little, signals, lack of memory."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scenes import random_scene

from tokengroups.cli import info, output, streams
from tokengroups.cli.main import guarded, main
from tokengroups.errors import UserError
from tokengroups.scene import save_scene

ROOT = Path(__file__).parents[1]
HELP = [sys.executable, "-m", "tokengroups", "--help"]  # writes without importing torch


class Refusing(io.RawIOBase):
    """A file whose disk is full, or a pipe whose reader has gone."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code

    def writable(self) -> bool:
        return True

    def write(self, _: object) -> int:
        raise OSError(self.code, os.strerror(self.code))


def stdout_that_refuses(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(Refusing(code))))


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


# --- stdout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [10, 100_000])  # shorter and longer than the buffer
def test_a_full_disk_below_stdout_is_one_line(
    length: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdout_that_refuses(monkeypatch, errno.ENOSPC)
    assert guarded(lambda: output.say("x" * length)) == 1
    assert capsys.readouterr().err == "error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_reader_that_has_gone_ends_a_command_quietly(
    length: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdout_that_refuses(monkeypatch, errno.EPIPE)
    assert guarded(lambda: output.print_json("x" * length)) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EPIPE])
def test_bad_input_is_told_even_if_stdout_takes_nothing(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdout_that_refuses(monkeypatch, code)

    def act() -> None:
        output.say("a beginning")
        raise UserError("no such room")

    assert guarded(act) == 2
    assert capsys.readouterr().err == "error: no such room\n"


def test_a_closed_stdout_is_refused_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is opened later would get the number of stdout, and C libraries would write into it."""
    monkeypatch.setattr(sys, "stdout", None)
    done: list[int] = []
    assert guarded(lambda: done.append(1)) == 1 and not done
    assert capsys.readouterr().err == "error: cannot write to standard output: it is closed\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("shell", "code", "complaint"),
    [
        ('"$@" >&-', 1, "error: cannot write to standard output: it is closed\n"),
        ('ulimit -f 0; "$@" > full', 1, "error: cannot write to standard output: File too large\n"),
        ('ulimit -f 1; "$@" > full', 1, "error: cannot write to standard output: File too large\n"),
        ('"$@" 2>&- > text', 0, ""),
        ('"$@" | true; exit ${PIPESTATUS[0]}', 0, ""),
    ],
)
def test_a_process_ends_without_a_traceback_whatever_its_outputs(
    tmp_path: Path, shell: str, code: int, complaint: str, unbuffered: str
) -> None:
    """The interpreter itself complains when it ends, unless stdout is put aside."""
    command = ["bash", "-c", shell, "bash", *HELP]
    surroundings = environment(PYTHONUNBUFFERED=unbuffered)
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, cwd=tmp_path, env=surroundings)
    assert (done.returncode, done.stderr) == (code, complaint)


# --- what a console shows -------------------------------------------------------------------------------------------


def test_names_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a\x1b[2J.safetensors"
    save_scene(path, replace(random_scene(), group_names=("red\x1b[31m", "two\nlines", "right\u202eleft\udc80")))
    assert main(["list", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "a\\x1b[2J.safetensors: 3 groups" in lines[0]
    names = {line.split()[0]: line.split("#")[1][6:].strip() for line in lines[2:]}
    assert names == {"2": "red\\x1b[31m", "5": "two\\nlines", "8": "right\\u202eleft\\udc80"}
    assert all(len(line) <= max(map(len, lines[1:])) for line in lines[1:])
    assert main(["edit", str(path), "remove", "\x1b[31mlamp", "-o", str(tmp_path / "b.safetensors")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_console_without_letters_shows_escapes(tmp_path: Path) -> None:
    """The name of the missing file has a letter that the console lacks, and a byte that is no text."""
    command = [sys.executable, "-m", "tokengroups", "import", b"sch\xc3\xb6n\xff.ply", "-o", "x.safetensors"]
    surroundings = environment(PYTHONIOENCODING="ascii", LC_ALL="C", PYTHONUTF8="1")
    done = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, env=surroundings)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert b"sch\\xf6n\\udcff.ply" in done.stderr


# --- other ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "error: not enough memory; use fewer or smaller pictures, or a machine with more"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "error: not enough memory; use fewer"),
        (FileNotFoundError(2, "No such file or directory", "a\nb"), "error: a b: No such file or directory"),
        (OSError("image file is truncated"), "error: image file is truncated"),
        (UserError("x" * 5000), f"error: {'x' * 1990}..."),
    ],
)
def test_what_a_user_can_mend_is_one_line(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> None:
        raise error

    assert guarded(act) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(line) and complaint.count("\n") == 1


def test_real_lack_of_memory_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: torch.empty(2**60, dtype=torch.uint8).fill_(1)) == 2
    assert capsys.readouterr().err.startswith("error: not enough memory")


@pytest.mark.parametrize("error", [ValueError("a fault"), RuntimeError("a fault"), KeyError("a fault")])
def test_faults_of_the_program_keep_their_traceback(error: Exception) -> None:
    def act() -> None:
        raise error

    with pytest.raises(type(error)):
        guarded(act)


WAITING = """
import os, signal, sys, time

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores some
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from tokengroups.cli import info, main
from tokengroups.io.files import atomic_path, staged_folder

def run(args):
    with staged_folder("out") as folder, atomic_path("scene.bin") as draft:
        (folder / "a.png").write_bytes(b"half")
        draft.write_bytes(b"half")
        ready, tell = os.pipe()
        child = os.fork()
        if not child:
            os.write(tell, b"!")
            time.sleep(60)
            os._exit(1)
        os.read(ready, 1)
        os.kill(child, signal.SIGTERM)  # the child has no cleaning to do
        print(os.waitpid(child, 0)[1], flush=True)
        time.sleep(60)

info.run = run
sys.exit(main.main(["info"]))
"""


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGTERM, 143, "stopped by a signal\n"),
        (signal.SIGHUP, 129, "stopped by a signal\n"),
        (signal.SIGINT, 130, "interrupted\n"),
    ],
)
def test_signals_remove_what_is_unfinished(tmp_path: Path, number: int, code: int, line: str) -> None:
    command = [sys.executable, "-c", WAITING]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment()
    )
    assert process.stdout is not None
    assert process.stdout.readline() == f"{int(signal.SIGTERM)}\n"  # how the child ended: by the signal itself
    assert len(list(tmp_path.iterdir())) == 2  # the staging folder and the draft
    process.send_signal(number)
    _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (code, line)
    assert list(tmp_path.iterdir()) == []


def test_a_handler_of_somebody_else_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        monkeypatch.setattr(info, "run", lambda _: os.kill(os.getpid(), signal.SIGTERM))
        assert main(["info"]) == 0 and heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_the_default_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[object] = []
    monkeypatch.setattr(info, "run", lambda _: inside.append(signal.getsignal(signal.SIGTERM)))
    assert main(["info"]) == 0
    assert inside != [signal.SIG_DFL] and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_missing_stderr_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        raise UserError("nobody reads this")

    monkeypatch.setattr(sys, "stderr", None)
    run: Callable[[], int] = lambda: guarded(act)  # noqa: E731
    assert run() == 2 and sys.stderr is not None
    streams.complain("nor this")
