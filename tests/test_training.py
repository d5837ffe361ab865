"""The training loop on a toy task: exact resume, processes, signals, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training_toy import ToyTask, run_toy
from tokengroups.checkpoint import load_weights, read_metadata, read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.io.files import locked_folder
from tokengroups.losses.terms import LossTerms
from tokengroups.training.log import read_metrics
from tokengroups.training.processes import StopRequest

TOY = Path(__file__).with_name("training_toy.py")
REORDERED = 1e-4  # float32 sums in another order, then 12 steps of AdamW
TIMES = ("seconds", "steps_per_second")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The number of threads decides the order of sums, here and in the processes that are started."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Crash(Exception):
    pass


class CrashingTask(ToyTask):
    """Dies in the middle of a step: nothing is saved on the way out."""

    def losses(self, batch: Any, step: int) -> LossTerms:
        if step == 7:
            raise Crash
        return super().losses(batch, step)


class SignallingTask(ToyTask):
    """Sends its own process a signal in the middle of a step."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number

    def losses(self, batch: Any, step: int) -> LossTerms:
        if step == 6:
            os.kill(os.getpid(), self.number)
        return super().losses(batch, step)


def newest(output: Path) -> Path:
    return max((output / "checkpoints").glob("step_*.safetensors"))


def rows(output: Path) -> list[dict[str, Any]]:
    """The learning curves without the times."""
    found = read_metrics(output / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in TIMES} for row in found]


def assert_same_end(first: Path, second: Path) -> None:
    """Weights, averages, optimiser state and curves agree bit for bit."""
    assert newest(first).name == newest(second).name
    one, two = read_tensors(newest(first)), read_tensors(newest(second))
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert rows(first) == rows(second)
    weights_one, weights_two = load_weights(first / "weights")[0], load_weights(second / "weights")[0]
    assert all(torch.equal(weights_one[name], weights_two[name]) for name in weights_one)


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(TOY.parent.parent), "OMP_NUM_THREADS": "1"}


def test_a_run_evaluates_learns_and_leaves_everything_behind(tmp_path: Path) -> None:
    result = run_toy(tmp_path, steps=60, trackers=("tensorboard",))
    assert (result.step, result.finished, result.signal) == (60, True, None)
    evaluations = [row for row in rows(tmp_path) if "evaluate/squared" in row]
    assert [row["step"] for row in evaluations] == list(range(0, 61, 5))
    assert evaluations[-1]["evaluate/squared"] < 0.5 * evaluations[0]["evaluate/squared"]
    assert [row["step"] for row in rows(tmp_path) if "loss" in row] == list(range(2, 61, 2))
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["step_00000056.safetensors", "step_00000060.safetensors"]
    assert list((tmp_path / "logs").rglob("events.out.*"))
    averages = {n.removeprefix("average."): t for n, t in read_tensors(newest(tmp_path)).items() if "average." in n}
    exported = load_weights(tmp_path / "weights")[0]
    assert all(torch.equal(exported[name], average) for name, average in averages.items())


def test_a_crashed_run_continues_to_the_same_bits(tmp_path: Path) -> None:
    run_toy(tmp_path / "whole")
    with pytest.raises(Crash):
        run_toy(tmp_path / "crashed", CrashingTask())
    assert newest(tmp_path / "crashed").name == "step_00000004.safetensors"
    assert run_toy(tmp_path / "crashed").finished
    assert_same_end(tmp_path / "whole", tmp_path / "crashed")


def test_a_run_stopped_by_its_time_limit_continues_to_the_same_bits(tmp_path: Path) -> None:
    run_toy(tmp_path / "whole")
    starts = 0
    while not (result := run_toy(tmp_path / "pieces", max_minutes=0.0)).finished:
        starts += 1
        assert result.step == starts and result.signal is None
    assert starts == 11
    assert_same_end(tmp_path / "whole", tmp_path / "pieces")


def test_a_finished_run_started_again_changes_nothing(tmp_path: Path) -> None:
    run_toy(tmp_path)
    before = (newest(tmp_path).read_bytes(), rows(tmp_path))
    assert run_toy(tmp_path).finished
    assert (newest(tmp_path).read_bytes(), rows(tmp_path)) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_leaves_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = run_toy(tmp_path / "stopped", SignallingTask(number))
    assert (result.step, result.finished, result.signal) == (7, False, number)
    assert newest(tmp_path / "stopped").name == "step_00000007.safetensors"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    run_toy(tmp_path / "stopped")
    run_toy(tmp_path / "whole")
    assert_same_end(tmp_path / "whole", tmp_path / "stopped")


def test_a_second_ctrl_c_does_not_wait_for_the_step() -> None:
    with pytest.raises(KeyboardInterrupt), StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


def test_a_killed_process_leaves_a_valid_checkpoint_and_the_run_continues(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    with subprocess.Popen([sys.executable, str(TOY), str(killed), "0.05", "0.1"], env=environment()) as process:
        deadline = time.monotonic() + 300
        while not list(killed.glob("checkpoints/step_*")):
            assert process.poll() is None and time.monotonic() < deadline, "the run ended before it was killed"
            time.sleep(0.01)
        process.kill()
    assert read_metadata(newest(killed))["format"].startswith("tokengroups training state")
    assert run_toy(killed).finished
    run_toy(tmp_path / "whole")
    assert_same_end(tmp_path / "whole", killed)


def test_two_processes_give_the_losses_of_one_with_the_same_global_batch(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*torchrun, str(TOY), str(tmp_path / "two"), "0", "0"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    run_toy(tmp_path / "one", ToyTask(dropout=0.0))
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row.keys() for row in one] == [row.keys() for row in two]
    for first, second in zip(one, two, strict=True):
        assert second == pytest.approx(first, rel=REORDERED)


def test_accumulation_changes_nothing_but_memory(tmp_path: Path) -> None:
    run_toy(tmp_path / "whole", ToyTask(dropout=0.0))
    run_toy(tmp_path / "parts", ToyTask(dropout=0.0), accumulation=4)
    for first, second in zip(rows(tmp_path / "whole"), rows(tmp_path / "parts"), strict=True):
        assert second == pytest.approx(first, rel=REORDERED)


def test_a_step_without_finite_gradient_is_skipped_and_counted(tmp_path: Path) -> None:
    run_toy(tmp_path, ToyTask(poison=range(4, 5)))
    logged = {row["step"]: row for row in rows(tmp_path) if "loss" in row}
    assert {step: row["skipped"] for step, row in logged.items()} == {2: 0, 4: 0, 6: 1, 8: 0, 10: 0, 12: 0}
    assert all(torch.isfinite(torch.tensor(list(row.values()))).all() for row in logged.values())


def test_a_diverged_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training diverged: 21 steps in a row"):
        run_toy(tmp_path, ToyTask(poison=range(3, 100)), steps=100)


def test_settings_that_cannot_work_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch_size 4 cannot be shared by 1 process.* make it a multiple of 3"):
        run_toy(tmp_path, accumulation=3)
    with pytest.raises(UserError, match="tracker 'tensorbord' is not available; installed here: .*tensorboard"):
        run_toy(tmp_path, trackers=("tensorbord",))
    with pytest.raises(ValueError, match="steps must be a whole number from 1 to 1,000,000,000, got 0"):
        run_toy(tmp_path, steps=0)


def test_an_output_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    run_toy(tmp_path)
    other = ToyTask()
    other.model = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(UserError, match=r"step_00000012\.safetensors is of another model .*another output folder"):
        run_toy(tmp_path, other)


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_toy(tmp_path / "whole")
    run_toy(tmp_path / "damaged")
    path = newest(tmp_path / "damaged")
    path.write_bytes(path.read_bytes()[:100])
    (tmp_path / "damaged" / "checkpoints" / ".step_00000012.0a1b2c3d.safetensors").write_bytes(b"leftover")
    assert run_toy(tmp_path / "damaged").finished
    assert "trying the one before" in caplog.text
    assert_same_end(tmp_path / "whole", tmp_path / "damaged")
    assert len(os.listdir(tmp_path / "damaged" / "checkpoints")) == 2
    for path in (tmp_path / "damaged" / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint in .* can be read"):
        run_toy(tmp_path / "damaged")


def test_changed_settings_are_named_when_a_run_continues(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_toy(tmp_path)
    run_toy(tmp_path, steps=14)
    assert "resuming with changed settings: training.steps 12 -> 14" in caplog.text


# --- one output folder, one run -------------------------------------------------------------------------------------


@contextmanager
def running(output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A training in another process that has begun to write; it is killed in the end."""
    with subprocess.Popen([sys.executable, str(TOY), str(output), "0.2", "0.1"], env=environment()) as process:
        deadline = time.monotonic() + 300
        while not list(output.glob("checkpoints/step_*")):
            assert process.poll() is None and time.monotonic() < deadline, "the run ended too early"
            time.sleep(0.01)
        yield process
        process.kill()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_training_of_a_folder_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    output = tmp_path / "run"
    with running(output) as first:
        os.kill(first.pid, signal.SIGSTOP)  # nothing changes meanwhile
        before = content(output)
        with pytest.raises(UserError, match=f"another training is writing to {output}; wait for it or stop it, or"):
            run_toy(output)
        assert content(output) == before
        first.kill()
        first.wait()
        assert run_toy(output).finished
    run_toy(tmp_path / "whole")
    assert_same_end(tmp_path / "whole", output)
    assert sorted(path.name for path in output.iterdir()) == ["checkpoints", "metrics.jsonl", "weights"]


def test_no_process_of_a_group_waits_for_one_that_was_refused(tmp_path: Path) -> None:
    with locked_folder(tmp_path, "held"):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command = [*torchrun, str(TOY), str(tmp_path), "0", "0"]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "another training is writing to" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_fewer_steps_than_a_run_has_are_refused_and_as_many_are_the_end(tmp_path: Path) -> None:
    run_toy(tmp_path)
    before = content(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path} holds a run of 12 steps, more than training.steps, 11; raise it"):
        run_toy(tmp_path, steps=11)
    assert content(tmp_path) == before
    assert run_toy(tmp_path, steps=12).finished


class NoData(ToyTask):
    def batch(self, step: int, slots: range) -> Any:
        raise UserError(f"scene too short for slots {slots} of step {step}")


class NoEvaluation(ToyTask):
    def evaluate(self) -> dict[str, float]:
        raise UserError("held-out scene too short")


@pytest.mark.parametrize("task", [NoData, NoEvaluation])
def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path, task: type[ToyTask]) -> None:
    with pytest.raises(UserError, match="scene too short"):
        run_toy(tmp_path / "new" / "run", task(), trackers=("tensorboard",))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="tracker 'none' is not available"):
        run_toy(tmp_path / "new" / "run", trackers=("none",))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*file is no folder"):
        run_toy(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- damaged checkpoints --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    output = tmp_path_factory.mktemp("whole")
    run_toy(output)
    torch.set_num_threads(threads)
    return output


def rewritten(path: Path, tensors: dict[str, torch.Tensor] | None = None, **texts: str | None) -> None:
    """Write a checkpoint again, with a right digest, after changes; None removes a text."""
    metadata = {key: text for key, text in (read_metadata(path) | texts).items() if text is not None}
    write_tensors(path, read_tensors(path) | (tensors or {}), metadata)


def state(**changes: Any) -> str:
    values = {"step": 12, "seconds": 1.0, "evaluated_at": 12, "window": {}, "window_steps": 0, "window_skipped": 0}
    return json.dumps(values | changes)


DAMAGE: dict[str, dict[str, Any]] = {
    "no state": {"state": None},
    "a state that is no JSON": {"state": "{"},
    "deep JSON": {"state": "[" * 100_000},
    "a list": {"state": "[1, 2]"},
    "an unknown counter": {"state": state(speed=1)},
    "a step of another kind": {"state": state(step="12")},
    "a negative step": {"state": state(step=-12)},
    "a step that is infinite": {"state": state(step=float("inf"))},
    "another step than the file's": {"state": state(step=3)},
    "seconds that are no number": {"state": state(seconds=float("nan"))},
    "sums of another kind": {"state": state(window=[1])},
    "no configuration": {"config": None},
    "a configuration of another kind": {"config": "3"},
    "a configuration that is a list": {"config": "[]"},
    "another format": {"format": "something"},
    "NaN in a weight": {"tensors": {"model.0.weight": torch.full((16, 4), float("nan"))}},
    "infinity in a moment": {"tensors": {"optimizer.exp_avg.0.bias": torch.full((16,), float("inf"))}},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_an_unsound_checkpoint_falls_back_to_the_one_before(
    damage: dict[str, Any], whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    rewritten(newest(output), **damage)
    assert run_toy(output).finished
    assert "step_00000012.safetensors" in caplog.text and "trying the one before" in caplog.text
    assert_same_end(whole, output)


def test_if_no_checkpoint_is_sound_the_run_is_refused(whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    for path in (output / "checkpoints").iterdir():
        rewritten(path, {"average.0.weight": torch.full((16, 4), float("inf"))})
    before = content(output)
    with pytest.raises(UserError, match=r"no checkpoint in .*checkpoints can be read; remove them or choose another"):
        run_toy(output)
    assert content(output) == before


@pytest.mark.parametrize(
    "tensors",
    [
        {"optimizer.exp_avg.nowhere": torch.zeros(3)},
        {"optimizer.momentum_buffer.0.weight": torch.zeros(16, 4)},
        {"optimizer.exp_avg.0.weight": torch.zeros(4, 16)},
        {"optimizer.": torch.zeros(1)},
    ],
)
def test_moments_of_another_optimiser_are_one_line(
    tensors: dict[str, torch.Tensor], whole: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    rewritten(newest(output), tensors)
    with pytest.raises(UserError, match="step_00000012.safetensors is of another optimiser .*optimizer") as caught:
        run_toy(output)
    assert "\n" not in str(caught.value)


def test_no_flipped_bit_of_a_checkpoint_gets_through(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    data, before, texts = newest(whole).read_bytes(), read_tensors(newest(whole)), read_metadata(newest(whole))
    for position in range(0, len(data), 97):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1 << position % 8]) + data[position + 1 :])
        try:
            found = read_tensors(path)
        except UserError:
            continue
        assert read_metadata(path) == texts and all(torch.equal(found[name], before[name]) for name in before)


def test_a_folder_in_place_of_a_checkpoint_and_foreign_files_are_passed_over(whole: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    shutil.copytree(whole, output)
    (output / "checkpoints" / "step_final.safetensors").write_bytes(b"mine")
    (output / "checkpoints" / "step_00000099.safetensors").mkdir()
    assert run_toy(output).finished
    assert (output / "checkpoints" / "step_final.safetensors").read_bytes() == b"mine"
