"""Starting accelerate: device, processes, threads, trackers and random state."""

from __future__ import annotations

import os
import random
from pathlib import Path
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
    """Set the state of all random generators from (seed, step, process): nothing of it needs to be stored."""
    drawn = int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint32)[0])
    torch.manual_seed(drawn)
    np.random.seed(drawn)
    random.seed(drawn)
