"""Training loop for every task, device and number of processes: evaluate, save, learn, log."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from tokengroups.errors import UserError
from tokengroups.training import optim, processes
from tokengroups.training.config import TrainingConfig
from tokengroups.training.log import MetricsLog
from tokengroups.training.processes import Prefetcher, StopRequest
from tokengroups.training.state import Checkpoints, RunState, flatten
from tokengroups.training.task import Task

_MAX_SKIPPED_IN_A_ROW = 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """Outcome of one start of training."""

    step: int  # finished optimiser steps
    finished: bool  # all steps are done
    signal: int | None  # the signal that stopped it, if one did
    output: Path
    is_main: bool  # True in one process of a group


def train(task: Task, config: TrainingConfig, description: dict[str, Any]) -> TrainingResult:
    """Train `task` from its last checkpoint in the output folder, or from the start, until done or stopped.

    Args:
        task: Model, data and losses.
        config: Settings of the loop.
        description: The whole experiment's configuration as plain values, kept in checkpoints and trackers.

    Raises:
        UserError: Unusable settings, an output folder of another model, of a longer run, or in use, or losses that
            stay non-finite.
    """
    accelerator, output = processes.start_accelerator(config), Path(config.output)
    with contextlib.ExitStack() as stack:
        stack.callback(accelerator.end_training)
        stack.enter_context(processes.held_folder(accelerator, output))
        run = _Run(task, config, description, accelerator)
        stack.callback(run.close)
        return run.until_done(stack.enter_context(StopRequest()))


class _Run:
    """One start of a training run: the objects that live as long as the loop."""

    def __init__(
        self, task: Task, config: TrainingConfig, description: dict[str, Any], accelerator: Accelerator
    ) -> None:
        self.task, self.config, self.description, self.accelerator = task, config, description, accelerator
        self.output = output = Path(config.output)
        self.losses = accelerator.prepare_model(processes.LossModule(task))
        task.model.train()
        self.optimizer = optim.build_optimizer(task.parameter_groups(), task.model, config)
        self.average = optim.AveragedWeights(task.model)
        self.checkpoints = Checkpoints(output, task.model, self.optimizer, self.average)
        self.log = MetricsLog(output)
        restored = self.checkpoints.restore(description)
        self.state = restored or RunState()
        if self.state.step > config.steps:
            raise UserError(
                f"{output} holds a run of {self.state.step} steps, more than training.steps, {config.steps}; "
                "raise it, or choose another training.output"
            )
        slots = processes.micro_batches(config, accelerator.process_index, accelerator.num_processes)
        self.data = Prefetcher(lambda step: [task.batch(step, part) for part in slots], config.steps)
        if self.state.step < config.steps:
            self.data.check(self.state.step)  # before anything is written
        self.saved_at = self.state.step if restored else -1
        self.saved_time = self.row_time = self.start_time = time.monotonic()
        self.row_step = self.state.step
        self.earlier_seconds = self.state.seconds
        self.skipped_in_a_row = 0
        self.tracking = False
        if accelerator.is_main_process:
            self.checkpoints.remove_leftovers()
            self.log.keep_until(self.state.step)
            where = f"{accelerator.num_processes} process(es) on {accelerator.device.type}"
            _log.info("step %d of %d, %s, output in %s", self.state.step, config.steps, where, output)
        self.bar = tqdm(
            total=config.steps, initial=self.state.step, unit="step", mininterval=1.0, dynamic_ncols=True,
            disable=None if accelerator.is_main_process else True,  # None: no bar where no terminal is
        )  # fmt: skip

    def close(self) -> None:
        self.data.close()
        self.bar.close()
        # The wrapped model would keep the process group and its threads alive beyond the interpreter.
        del self.losses
        self.accelerator.free_memory()

    def until_done(self, stop: StopRequest) -> TrainingResult:
        """Run the loop; all processes stop between the same two steps."""
        config, state = self.config, self.state
        stopping = save_now = False
        while True:
            finished, pause_start = state.step == config.steps, time.monotonic()
            if finished or (state.step % config.evaluate_every == 0 and not stopping):
                self.evaluate()
            checkpoint_due = state.step > 0 and state.step % config.checkpoint_every == 0
            if stopping or finished or save_now or checkpoint_due:
                self.save()
            if stopping or finished:
                break
            self.row_time += time.monotonic() - pause_start  # the logged speed is that of learning alone
            values = self.learn()
            stopping, save_now = self.agree(stop, values)
            self.record(values)
        caught = stop.signal or (signal.SIGTERM if stopping and not self.out_of_time() else None)
        return TrainingResult(
            state.step, finished, None if finished else caught, self.output, self.accelerator.is_main_process
        )

    def learn(self) -> dict[str, float]:
        """Take one optimiser step; return this process's losses and the gradient norm before clipping."""
        step, parts = self.state.step, self.data.get(self.state.step)
        processes.seed_step(self.config.seed, step, self.accelerator.process_index)
        rate = optim.learning_rate(step, self.config)
        optim.set_learning_rate(self.optimizer, rate)
        sums: dict[str, Tensor] = {}
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.losses):
                self.backward(part, step, len(parts), sums)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = float(self.accelerator.clip_grad_norm_(parameters, self.config.clip_norm or math.inf))  # pyright: ignore
        self.update_weights(step, norm)
        self.optimizer.zero_grad()
        return {name: float(value) for name, value in sums.items()} | {"grad_norm": norm, "lr": rate}

    def backward(self, part: Any, step: int, num_parts: int, sums: dict[str, Tensor]) -> None:
        """Add the gradients of one micro-batch, and its losses to `sums`."""
        total, terms = self.losses(part.to(self.accelerator.device), step)
        self.accelerator.backward(total / num_parts)
        for name, value in {"loss": total, **terms}.items():
            sums[name] = sums.get(name, 0) + value.detach() / num_parts

    def update_weights(self, step: int, norm: float) -> None:
        """Step the optimiser and the average; a step whose gradient is not finite changes nothing."""
        if math.isfinite(norm):
            self.optimizer.step()
            self.average.update(optim.ema_decay(step, self.config.ema_decay))
            self.skipped_in_a_row = 0
            return
        self.skipped_in_a_row += 1
        if self.skipped_in_a_row > _MAX_SKIPPED_IN_A_ROW:
            raise UserError(
                f"training diverged: {self.skipped_in_a_row} steps in a row without a finite gradient, the last "
                f"is step {step}; lower training.learning_rate or use training.precision=fp32"
            )

    def agree(self, stop: StopRequest, values: dict[str, float]) -> tuple[bool, bool]:
        """Average the losses over the processes, in place; return (stop, save), True if any process asks for it."""
        wants_stop = stop.signal is not None or self.out_of_time()
        wants_save = time.monotonic() - self.saved_time > 60 * self.config.checkpoint_minutes
        shared = torch.tensor([*values.values(), float(wants_stop), float(wants_save)], dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            shared = self.accelerator.reduce(shared.to(self.accelerator.device), reduction="mean")
        *means, any_stop, any_save = shared.tolist()  # pyright: ignore[reportAttributeAccessIssue]
        values.update(zip(values, means, strict=True))
        return any_stop > 0, any_save > 0

    def out_of_time(self) -> bool:
        limit = self.config.max_minutes
        return limit is not None and time.monotonic() - self.start_time > 60 * limit

    def record(self, values: dict[str, float]) -> None:
        """Count the step; every `log_every` steps write the means since the last row."""
        state = self.state
        state.step += 1
        self.bar.update()
        if math.isfinite(values["grad_norm"]):
            state.window_steps += 1
            for name, value in values.items():
                state.window[name] = state.window.get(name, 0.0) + value
            self.bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
        else:
            state.window_skipped += 1
        if state.step % self.config.log_every == 0:
            row = {name: value / state.window_steps for name, value in state.window.items()}
            self.write(row | {"skipped": float(state.window_skipped), "steps_per_second": self.speed()})
            state.window, state.window_steps, state.window_skipped = {}, 0, 0

    def speed(self) -> float:
        """Return the steps per second since the last row, or since the start."""
        elapsed, steps = time.monotonic() - self.row_time, self.state.step - self.row_step
        self.row_time, self.row_step = self.row_time + elapsed, self.state.step
        return steps / max(1e-9, elapsed)

    def write(self, row: dict[str, float]) -> None:
        self.state.seconds = self.earlier_seconds + time.monotonic() - self.start_time
        if self.accelerator.is_main_process:
            self.log.append({"step": self.state.step, "seconds": round(self.state.seconds, 2), **row})
        if self.config.trackers:
            if not self.tracking:  # the first row: only now is it known that the run can work
                self.accelerator.init_trackers("logs", config=flatten(self.description))
            self.tracking = True
            self.accelerator.log(row, step=self.state.step)

    def evaluate(self) -> None:
        """Evaluate and export the averaged weights, on the main process alone."""
        if self.state.evaluated_at == self.state.step:
            return
        self.state.evaluated_at = self.state.step
        row: dict[str, float] = {}
        if self.accelerator.is_main_process:
            model = self.task.model
            model.eval()
            with self.average.applied(), torch.no_grad():
                row = {f"evaluate/{name}": float(value) for name, value in self.task.evaluate().items()}
                self.task.export(self.output / "weights", model.state_dict())
            model.train()
            text = ", ".join(f"{name.split('/')[1]} {value:.4g}" for name, value in row.items())
            self.bar.write(f"step {self.state.step}: {text}", file=sys.stderr)
        self.write(row)
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Write a checkpoint, unless this step has one."""
        self.saved_time = time.monotonic()
        if self.saved_at == self.state.step:
            return
        self.saved_at = self.state.step
        self.state.seconds = self.earlier_seconds + time.monotonic() - self.start_time
        if self.accelerator.is_main_process:
            self.checkpoints.save(self.state, self.description)
        self.accelerator.wait_for_everyone()
