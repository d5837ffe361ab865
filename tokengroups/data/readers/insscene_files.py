"""Files of InsScene-15K (see `insscene`), and the count of what is left out because it lacks something."""

from __future__ import annotations

import contextlib
import math
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tokengroups.errors import UserError
from tokengroups.reading import check_file, malformed, shown

ADVICE, NO_CAMERA = "unpack the scene again", "no camera"
_NAMED = 3  # names in a note


@dataclass
class Shortfall:
    """Count of the things that lack something, by what they lack."""

    where: str
    things: str
    advice: str
    total: int = 0
    lacking: dict[str, list[str]] = field(default_factory=dict)

    def count(self, name: str, lacks: str) -> bool:
        """Count one thing; "" = it lacks nothing. Returns whether it lacks something."""
        self.total += 1
        self.drop(name, lacks)
        return bool(lacks)

    def drop(self, name: str, lacks: str) -> None:
        """Leave out a thing that was counted before."""
        if lacks:
            self.lacking.setdefault(lacks, []).append(name)

    def settle(self, limit: float) -> str:
        """Note on what is left out; "" = nothing.

        Raises:
            UserError: It is more than this share of all, rounded up, or all.
        """
        number = sum(len(names) for names in self.lacking.values())
        if number == 0:
            return ""
        parts = (
            f"{lacks}: {', '.join(names[:_NAMED])}{', ...' * (len(names) > _NAMED)}"
            for lacks, names in self.lacking.items()
        )
        what = f"{number} of {self.total} {self.things} that lack a part or do not fit ({'; '.join(parts)})"
        if number > math.ceil(limit * self.total) or number == self.total:
            raise UserError(f"{self.where}: {what}; {self.advice}, or allow more with skip_limit (now {limit:g})")
        return f"{self.where}: left out {what}"


def by_number(paths: Iterable[Path], pattern: str = r"(\d+)") -> list[Path]:
    """Files in order of the number in their names; those without one are no frames."""
    found = ((re.search(pattern, path.name), path) for path in paths)
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]


def read_camera(path: Path, pose: str, intrinsics: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Pose [4, 4] and intrinsics [3, 3] of an npz file; None if it is missing or has no such numbers."""
    try:
        matrices = read_arrays(path, (pose, intrinsics), ADVICE)
        with malformed(path, ADVICE):
            world_from_cam, pinhole = (matrix.astype(np.float64) for matrix in matrices)
    except UserError:
        return None
    return (world_from_cam, pinhole) if pinhole.shape == (3, 3) else None


def read_arrays(path: Path, names: Sequence[str], advice: str) -> list[np.ndarray]:
    """Arrays of an npz file."""
    with _damaged(path, advice), np.load(check_file(path, advice)) as content:
        return [content[name] for name in names]


def read_array(path: Path, advice: str) -> np.ndarray:
    """Array of an npy file."""
    with _damaged(path, advice):
        return np.load(check_file(path, advice))


def array_shape(path: Path, advice: str) -> tuple[int, int]:
    """Height and width of the array in an npy file; its content is not read."""
    with _damaged(path, advice):
        height, width = np.load(check_file(path, advice), mmap_mode="r").shape
        return height, width


@contextlib.contextmanager
def _damaged(path: Path, advice: str) -> Iterator[None]:
    """Context that turns the errors of NumPy's readers into one line."""
    try:
        with malformed(path, advice):
            yield
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged ({shown(error)}); {advice}") from error
