"""Processes of a run: accelerate, random state, the thread that reads batches, and signals to stop."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.tracking import get_available_trackers

from tokengroups.errors import UserError
from tokengroups.training.config import TrainingConfig
from tokengroups.training.state import flatten


def start_accelerator(config: TrainingConfig, output: Path, description: dict[str, Any]) -> Accelerator:
    """Join the process group that torchrun or accelerate started, if any, and start the trackers.

    Raises:
        UserError: A tracker that is unknown or not installed, or a batch that the processes cannot share equally.
    """
    available = [str(name.value) for name in get_available_trackers()]
    unknown = [name for name in config.trackers if name not in available]
    if unknown:
        known = ", ".join(available) or "none"
        raise UserError(f"tracker '{unknown[0]}' is not available; installed here: {known}")
    cpu = config.device == "cpu" or not torch.cuda.is_available()
    if cpu and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Threads of two processes on the same cores slow each other down tenfold; one each by default.
        torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "1")))
    parallel = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
    accelerator = Accelerator(
        cpu=cpu, log_with=list(config.trackers) or None, project_dir=str(output), kwargs_handlers=[parallel]
    )
    share = accelerator.num_processes * config.accumulation
    if config.batch_size % share:
        raise UserError(
            f"training.batch_size {config.batch_size} cannot be shared by {accelerator.num_processes} "
            f"process(es) x training.accumulation {config.accumulation}; make it a multiple of {share}"
        )
    if config.trackers:
        accelerator.init_trackers("logs", config=flatten(description))
    return accelerator


def micro_batches(config: TrainingConfig, process: int, num_processes: int) -> list[range]:
    """Slots of the global batch that a process computes in one step, one range a micro-batch."""
    size = config.batch_size // (num_processes * config.accumulation)
    starts = [(index * num_processes + process) * size for index in range(config.accumulation)]
    return [range(start, start + size) for start in starts]


def seed_step(seed: int, step: int, process: int) -> None:
    """Set the state of all random generators from (seed, step, process), so that none is stored."""
    drawn = int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint32)[0])
    torch.manual_seed(drawn)
    np.random.seed(drawn)
    random.seed(drawn)


class Prefetcher:
    """Background thread that calls ``read(step)`` one step ahead; `read` must be a pure function of the step."""

    def __init__(self, read: Callable[[int], Any], last_step: int) -> None:
        self.read, self.last_step = read, last_step
        self.pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self.pending: tuple[int, Future[Any]] | None = None

    def get(self, step: int) -> Any:
        """Return the data of `step`, or raise the reader's error, and start reading `step` + 1."""
        if self.pending is None or self.pending[0] != step:
            self.pending = (step, self.pool.submit(self.read, step))
        result = self.pending[1].result()
        self.pending = None
        if step + 1 < self.last_step:
            self.pending = (step + 1, self.pool.submit(self.read, step + 1))
        return result

    def close(self) -> None:
        """Stop the thread and drop what it was reading."""
        self.pool.shutdown(wait=True, cancel_futures=True)


class StopRequest:
    """Context in which SIGINT and SIGTERM only set `signal`; a second Ctrl-C interrupts at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal == signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
