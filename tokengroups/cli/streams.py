"""Standard streams and signals of a command: what the console cannot show or take, and a clean stop by a signal."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from tokengroups.reading import escaped

_LONGEST_LINE = 2000  # characters of a message
_STOPPING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


class OutputLost(Exception):
    """Standard output takes nothing; the message says why."""


class Stopped(BaseException):
    """A signal asks the process to end; like KeyboardInterrupt, it passes all code that handles errors."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def complain(message: object) -> None:
    """Print one line on stderr, if there is somebody to read it."""
    line = escaped(" ".join(str(message).split()))
    line = line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 3]}..."
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def prepared_streams() -> Iterator[None]:
    """Context in which stdout and stderr escape what their encoding lacks, and stdout reports what it cannot write.

    Raises:
        OutputLost: Standard output is closed. A file that is opened later would get its number, and the output.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process
    if sys.stdout is None:
        raise OutputLost("it is closed")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    given = sys.stdout
    if isinstance(getattr(given, "buffer", None), io.RawIOBase):  # PYTHONUNBUFFERED: it would lose the end of a text
        sys.stdout = open(given.fileno(), "w", 1, given.encoding, "backslashreplace", closefd=False)  # noqa: SIM115
    try:
        yield
    finally:
        sys.stdout = given


@contextlib.contextmanager
def writing_stdout() -> Iterator[None]:
    """Context of every write to stdout; a reader that has closed its pipe stays a BrokenPipeError.

    Raises:
        OutputLost: The system refused, such as on a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.strerror or str(error)) from error


def flush_stdout() -> None:
    """Write what is buffered; errors as in `writing_stdout`."""
    with writing_stdout():
        sys.stdout.flush()


def finish_stdout() -> None:
    """Write what is buffered, or drop it: the interpreter would try once more, and complain, when it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        try:
            sys.stdout.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise `Stopped` in the main thread when a signal asks the process to end, unless somebody handles that signal.

    The exception removes temporary files on its way, which the signal by itself would leave.
    """
    process, previous = os.getpid(), {}

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() == process:
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)  # a forked child ends as it would have without us
        os.kill(os.getpid(), number)

    if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
        for number in _STOPPING:
            if signal.getsignal(number) is signal.SIG_DFL:
                previous[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def signals_waiting() -> Iterator[None]:
    """Context in which Ctrl-C and the like wait, for code that would not survive an exception."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, *_STOPPING])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
