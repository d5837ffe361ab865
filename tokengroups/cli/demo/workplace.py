"""The folder in which `tokengroups demo` works until all is done, under the name of the folder that it becomes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tokengroups.io.files import staged_folder
from tokengroups.reading import escaped

_NAMES: ContextVar[tuple[str, str]] = ContextVar("names of the workplace", default=("", ""))


class _Renaming:
    """A stream on which the workplace goes by its later name."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text, in which control characters are escaped."""
        folder, final = map(escaped, _NAMES.get())
        return self.stream.write(text.replace(folder, final))

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def workplace(final: Path) -> Iterator[Path]:
    """Yield a folder whose files come to lie in `final` when the block ends well; see `staged_folder`."""
    with staged_folder(final) as folder:
        token = _NAMES.set((str(folder), str(final)))
        try:
            with contextlib.redirect_stdout(_Renaming(sys.stdout)), contextlib.redirect_stderr(_Renaming(sys.stderr)):
                yield folder
        finally:
            _NAMES.reset(token)


def later_name(word: object) -> str:
    """A word of a command line with the later name of the workplace."""
    folder, final = _NAMES.get()
    return str(word).replace(folder, final) if folder else str(word)
