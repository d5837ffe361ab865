"""Processes that share independent work without training: each takes every n-th piece."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

T = TypeVar("T")
_PATIENCE = timedelta(days=30)  # one process may have much more to do than another


@dataclass(frozen=True)
class Processes:
    """The processes that torchrun or accelerate started, on all machines; without them a single one."""

    index: int
    count: int
    device: str  # of this process

    def share(self, pieces: Sequence[T]) -> Sequence[T]:
        """The pieces that this process works on; every piece belongs to one process."""
        return pieces[self.index :: self.count]

    def total(self, value: int) -> int:
        """Sum over all processes, for which every one waits."""
        return sum(gather_object([value])) if self.count > 1 else value


def join_processes(device: str) -> Processes:
    """Join the process group that torchrun or accelerate started, if any.

    Args:
        device: "cpu", or "cuda": then each process on a machine gets its own GPU.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not several:
        return Processes(0, 1, device)
    if device == "cpu":
        # Threads of two processes on the same cores slow each other down tenfold; one each by default.
        torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
    state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    return Processes(state.process_index, state.num_processes, str(state.device))
