"""Parts of the training loop: schedule, decay groups, averages, shares, random state, curves, prefetching."""

from __future__ import annotations

import copy
import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.training_toy import toy_config
from tokengroups.cli.main import main
from tokengroups.config import build_config
from tokengroups.errors import UserError
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.systems import SYSTEMS
from tokengroups.training import experiments
from tokengroups.training.experiments import TASKS, read_experiment, run_experiment
from tokengroups.training.log import MetricsLog, read_metrics
from tokengroups.training.optim import AveragedWeights, build_optimizer, ema_decay, learning_rate
from tokengroups.training.processes import Prefetcher, micro_batches, seed_step

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def test_the_rate_warms_up_linearly_and_ends_at_its_share() -> None:
    config = toy_config("x", steps=110, warmup_steps=10, learning_rate=2.0, final_fraction=0.1)
    rates = [learning_rate(step, config) for step in range(111)]
    assert rates[:10] == pytest.approx([0.2 * (n + 1) for n in range(10)])
    assert rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(2.0 * (0.1 + 0.9 / 2))  # half way down the cosine
    assert rates[110] == pytest.approx(0.2)
    assert all(later <= earlier for earlier, later in zip(rates[10:], rates[11:], strict=False))


def test_the_average_follows_its_recurrence_and_can_be_borrowed() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    average = AveragedWeights(model)
    assert average.names == ["weight"]
    expected = model.weight.detach().double().clone()
    for step in range(5):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        decay = ema_decay(step, 0.3)
        assert decay == min(0.3, (1 + step) / (10 + step))
        average.update(decay)
        expected = decay * expected + (1 - decay) * model.weight.detach().double()
    torch.testing.assert_close(average.average[0].double(), expected, rtol=1e-5, atol=1e-6)
    before = model.weight.detach().clone()
    with pytest.raises(KeyError), average.applied():
        assert torch.equal(model.weight, average.average[0])
        raise KeyError
    assert torch.equal(model.weight, before)


def test_only_matrices_decay_and_every_trainable_parameter_is_in_one_group() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm(4), nn.Linear(4, 4), nn.Linear(4, 2))
    model.register_parameter("token", nn.Parameter(torch.zeros(1, 4)))
    model[3].requires_grad_(False)
    decayed, kept = decay_groups(model, 0.1)
    assert [id(p) for p in decayed["params"]] == [id(model[0].weight), id(model[2].weight)]
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert len(kept["params"]) == 5
    build_optimizer([decayed, kept], model, toy_config("x"))
    with pytest.raises(AssertionError, match="groups cover 2 of 7 trainable parameters"):
        build_optimizer([decayed], model, toy_config("x"))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_the_shares_of_all_processes_are_the_global_batch(num: int, accumulation: int, size: int) -> None:
    config = toy_config("x", batch_size=num * accumulation * size, accumulation=accumulation)
    parts = [micro_batches(config, process, num) for process in range(num)]
    assert all(len(part) == size for share in parts for part in share)
    assert sorted(slot for share in parts for part in share for slot in part) == list(range(config.batch_size))


def test_random_state_is_a_function_of_seed_step_and_process() -> None:
    def draw(*key: int) -> tuple[float, float, float]:
        seed_step(*key)
        return float(torch.rand(())), float(np.random.rand()), random.random()

    keys = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    draws = [draw(*key) for key in keys]
    assert draws == [draw(*key) for key in keys]
    assert len({value for each in draws for value in each[:1]}) == len(keys)


def test_curves_are_cut_back_to_the_resumed_step(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.keep_until(0)
    assert read_metrics(log.path) == [] and not log.path.exists()
    for step in (0, 2, 4, 6):
        log.append({"step": step, "loss": 0.1 * step})
    with log.path.open("a") as file:
        file.write('{"step": 8, "lo')
    assert [row["step"] for row in read_metrics(log.path)] == [0, 2, 4, 6]
    log.keep_until(4)
    log.append({"step": 5, "loss": 1.0})
    assert [row["step"] for row in read_metrics(log.path)] == [0, 2, 4, 5]


def test_damaged_rows_of_the_curves_are_dropped_and_the_others_stay(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    odd = ["[1]", "3", "null", "{}", '{"step": "2"}', '{"step": true}', '{"step": 2.5}', '{"step": NaN}', "{", "\0"]
    odd += ["[" * 99_999, '{"step": ' + "9" * 5000 + "}"]
    lines = ['{"step": 0, "loss": NaN}', *odd, '{"step": 2, "loss": 0.5}', '{"step": 4}']
    log.path.write_bytes("\n".join(lines).encode() + b'\n\xff\xfe\n{"step": 5, "lo')
    assert [row["step"] for row in read_metrics(log.path)] == [0, 2, 4]
    log.keep_until(3)
    assert log.path.read_text() == '{"step": 0, "loss": NaN}\n{"step": 2, "loss": 0.5}\n'
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl: it is a folder"):
        log.keep_until(3)
    with pytest.raises(UserError, match=r"cannot write .*metrics\.jsonl: it is a folder"):
        log.append({"step": 1})


def test_prefetching_reads_each_step_once_one_ahead_in_another_thread() -> None:
    read: list[int] = []

    def reader(step: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        read.append(step)
        return 10 * step

    data = Prefetcher(reader, last_step=5)
    assert [data.get(step) for step in (2, 3, 4)] == [20, 30, 40]
    data.close()
    assert read == [2, 3, 4]


def test_errors_of_the_reader_reach_the_loop() -> None:
    def reader(step: int) -> int:
        raise UserError(f"no data for {step}")

    data = Prefetcher(reader, last_step=5)
    with pytest.raises(UserError, match="no data for 0"):
        data.get(0)
    data.close()


def test_unknown_tasks_and_keys_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("task: geometri\n")
    known = ", ".join(["geometry", "single_view", *SYSTEMS, "or module:Class"])
    with pytest.raises(UserError, match=f"'task' must be one of {known}; got 'geometri'"):
        run_experiment(path)
    with pytest.raises(UserError, match=r"unknown key 'training.stepz'; did you mean 'steps'\?"):
        run_experiment(CONFIGS[0], ["training.stepz=3"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_can_be_read(path: Path) -> None:
    experiment = read_experiment(path, ["training.steps=7"])
    assert experiment.task in {**TASKS, **SYSTEMS}
    assert experiment.config.training.steps == 7
    description = experiment.description()
    assert description.pop("task") == experiment.task
    assert build_config(type(experiment.config), description, "again") == experiment.config


def test_muon_takes_the_hidden_matrices_and_adamw_the_rest() -> None:
    """Each part against torch's own optimiser on the same gradients, over several steps; the state comes back."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    twin = copy.deepcopy(model)
    config = toy_config("x", optimizer="muon", learning_rate=0.02)
    groups = decay_groups(model, 0.1, hidden=[model[2]])
    assert [len(group["params"]) for group in groups] == [1, 4, 1] and groups[2]["muon"]
    optimizer = build_optimizer(groups, model, config)
    muon = torch.optim.Muon([twin[2].weight], weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(decay_groups(twin, 0.1)[:1] + decay_groups(twin, 0.1)[1:], betas=config.betas)
    adamw.param_groups[0]["params"] = [twin[0].weight]
    for step in range(4):
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(step))
        for each, optimizers in ((model, [optimizer]), (twin, [muon, adamw])):
            each.zero_grad()
            each(x).square().sum().backward()
            for one in optimizers:
                for group in one.param_groups:
                    group["lr"] = 0.02 / (step + 1)
                one.step()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    assert set(optimizer.state) == set(model.parameters())
    assert "momentum_buffer" in optimizer.state[model[2].weight]
    assert "exp_avg" in optimizer.state[model[0].weight]


def test_muon_on_an_old_torch_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    model = nn.Linear(3, 3)
    with pytest.raises(UserError, match="needs torch >= 2.9"):
        build_optimizer(decay_groups(model, 0.1, hidden=[model]), model, toy_config("x"))


SETTINGS_THAT_CANNOT_BE = [
    ("training.learning_rate=.nan", "training.learning_rate"),
    ("training.learning_rate=.inf", "training.learning_rate"),
    ("training.learning_rate=0", "training.learning_rate"),
    ("training.learning_rate=-1e-3", "training.learning_rate"),
    ("training.weight_decay=-1", "training.weight_decay"),
    ("training.betas=[0.9, 1.0]", "training.betas"),
    ("training.betas=[-0.1, 0.9]", "training.betas"),
    ("training.ema_decay=1.5", "training.ema_decay"),
    ("training.batch_size=0", "training.batch_size"),
    ("training.batch_size=1000000000", "training.batch_size"),
    ("training.batch_size=65536", "8,589,934,592 pixels in each process, more than 134,217,728: lower training.batch"),
    ("data.size=4096", "1,073,741,824 pixels in each process"),
    ("training.accumulation=0", "training.accumulation"),
    ("training.steps=-3", "training.steps"),
    ("training.steps=1e3", "training.steps"),
    ("training.warmup_steps=-1", "training.warmup_steps"),
    ("training.checkpoint_minutes=.nan", "training.checkpoint_minutes"),
    ("training.max_minutes=-1", "training.max_minutes"),
    ("training.seed=-1", "training.seed"),
    ("training.seed=9223372036854775808", "training.seed"),
    ("training.output=''", "training.output"),
    ("training.precision=fp8", "training.precision"),
    ("data.mirror=-0.5", "data.mirror"),
    ("data.mirror=1.5", "data.mirror"),
    ("data.zoom=.inf", "data.zoom"),
    ("data.size=0", "data.size"),
    ("data.size=1000000", "data.size"),
    ("data.num_frames=0", "data.num_frames"),
    ("data.num_frames=1000000000", "data.num_frames"),
    ("data.evaluation_scenes=0", "data.evaluation_scenes"),
    ("data.colour_jitter=-1", "data.colour_jitter"),
    ("data.options.seeds=[-1]", "seeds"),
    ("data.options.num_rooms=1000000000000", "num_rooms"),
    ("data.root=3", "data.root"),
    ("data.options.root=[3]", "root"),
    ("losses.depth=.nan", "losses.depth"),
    ("losses.depth=-1", "losses.depth"),
    ("model.embed_dim=1000000000", "embed_dim"),
    pytest.param("model={embed_dim: 16384, num_heads: 128, depth: 256}", "parameters", marks=pytest.mark.slow),  # 13 GB
    ("model={embed_dim: 192, num_heads: 5}", "num_heads must divide the width, got 5 heads for 192 channels"),
    ("model.dpt_layers=[0, 1, 2, 4]", "dpt_layers"),
    ("task=..a:b", "no system"),
]


@pytest.mark.parametrize(("override", "name"), SETTINGS_THAT_CANNOT_BE)
def test_settings_that_cannot_be_are_one_line_and_nothing_is_written(
    override: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(__file__).parent.parent / "configs" / "vggt_tiny.yaml"
    assert main(["train", str(path), "training.output=new/run", override]) == 2
    answer = capsys.readouterr().err.splitlines()
    assert len(answer) == 1 and answer[0].startswith("error: ") and name in answer[0]
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_too_many_parameters_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments, "_MOST_PARAMETERS", 10**5)
    path = Path(__file__).parent.parent / "configs" / "vggt_tiny.yaml"
    assert main(["train", str(path), "training.output=new/run"]) == 2
    assert "more than 1e+05 parameters; lower its sizes" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
