"""Golden files: tensors and facts that a reference implementation wrote, and the errors of our code against them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from tokengroups.errors import UserError


@dataclass(frozen=True)
class Golden:
    """Contents of one file."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]  # values decoded from JSON where they are JSON

    def fact(self, name: str) -> Any:
        """Return what a tensor or the metadata says under this name: a number, a list, or None if nothing does."""
        if name in self.tensors:
            values = self.tensors[name].tolist()
            return values[0] if len(values) == 1 else values
        return self.metadata.get(name)

    def numbered(self, prefix: str) -> list[int]:
        """Numbers N of the tensors ``PREFIX.N``, in order."""
        stems = [name.rpartition(".") for name in self.tensors]
        return sorted(int(number) for stem, _, number in stems if stem == prefix and number.isdigit())


@dataclass(frozen=True)
class Comparison:
    """One stored output against ours."""

    name: str
    error: float  # relative L2
    largest: float  # absolute difference
    gate: float  # largest relative error of a correct implementation

    @property
    def passed(self) -> bool:
        """Whether the error is below the gate; NaN is not."""
        return self.error < self.gate


def read_golden(path: str | Path) -> Golden:
    """Read a golden file.

    Raises:
        UserError: It cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return Golden(Path(path), tensors, _decoded(file.metadata() or {}))
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the golden file {path}: {error}") from None


def relative_l2(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of the expectation."""
    return float((actual.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-12))


def compare_tensors(name: str, actual: Tensor, expected: Tensor, gate: float) -> Comparison:
    """Compare one output; a wrong shape is an infinite error."""
    if actual.shape != expected.shape:
        return Comparison(name, math.inf, math.inf, gate)
    largest = float((actual.double() - expected.double()).abs().max())
    return Comparison(name, relative_l2(actual, expected), largest, gate)


def _decoded(metadata: dict[str, str]) -> dict[str, Any]:
    def decode(text: str) -> Any:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text

    return {name: decode(text) for name, text in metadata.items()}
