"""Processes of a run: accelerate, random state, the thread that reads batches, and signals to stop."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.tracking import get_available_trackers
from torch import Tensor, nn

from tokengroups.errors import UserError
from tokengroups.io.files import check_folder, locked_folder, make_folder
from tokengroups.reading import path_kind
from tokengroups.training.config import TrainingConfig
from tokengroups.training.task import Task


def start_accelerator(config: TrainingConfig) -> Accelerator:
    """Join the process group that torchrun or accelerate started, if any; writes nothing.

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
        cpu=cpu, log_with=list(config.trackers) or None, project_dir=config.output, kwargs_handlers=[parallel]
    )
    share = accelerator.num_processes * config.accumulation
    if config.batch_size % share:
        raise UserError(
            f"training.batch_size {config.batch_size} cannot be shared by {accelerator.num_processes} "
            f"process(es) x training.accumulation {config.accumulation}; make it a multiple of {share}"
        )
    return accelerator


@contextlib.contextmanager
def held_folder(accelerator: Accelerator, output: Path) -> Iterator[None]:
    """Hold the output folder in the main process, so that no other run writes into it; all processes go on, or none.

    It is created where missing. What is still empty in the end is removed: a refusal leaves nothing.

    Raises:
        UserError: Another run holds it, or it cannot be written to.
    """
    busy = f"another training is writing to {output}; wait for it or stop it, or choose another training.output"
    refusal: UserError | None = None
    with contextlib.ExitStack() as stack:
        if accelerator.is_main_process:
            try:
                stack.enter_context(_created(output))
                stack.enter_context(locked_folder(output, busy))
            except UserError as error:
                refusal = error
        if in_any_process(accelerator, refusal is not None):
            raise refusal or UserError(f"the main process cannot write to {output}; see its message")
        yield


@contextlib.contextmanager
def _created(folder: Path) -> Iterator[None]:
    missing = [place for place in (folder, *folder.parents) if path_kind(place) == "missing"]
    make_folder(check_folder(folder))
    try:
        yield
    finally:
        for place in missing:
            with contextlib.suppress(OSError):  # not empty
                place.rmdir()


def in_any_process(accelerator: Accelerator, flag: bool) -> bool:
    """True in all processes if the flag is true in one of them."""
    shared = torch.tensor(float(flag), device=accelerator.device)
    return bool(accelerator.reduce(shared, reduction="sum") if accelerator.num_processes > 1 else shared)


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


class LossModule(nn.Module):
    """Module around a task's losses, so that data-parallel wrapping sees one forward pass a micro-batch."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model, self.task = task.model, task

    def forward(self, batch: Any, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and named terms."""
        losses = self.task.losses(batch, step)
        return losses.total, dict(losses.terms)


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

    def check(self, step: int) -> None:
        """Wait for the data of a step, which `get` will return, or raise the reader's error."""
        self.pending = (step, self.pool.submit(self.read, step))
        self.pending[1].result()

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
