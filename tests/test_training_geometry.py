"""The encoder's task on small rooms: its batches, losses, evaluation, and a run from a configuration file."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_encoder import TINY
from tests.tolerances import tolerance
from tokengroups.cli.main import main
from tokengroups.config import build_config, config_to_dict
from tokengroups.data.stream import PathStream, draw_frames
from tokengroups.encoders import load_encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt_tiny import VGGTTinyConfig
from tokengroups.errors import UserError
from tokengroups.training.config import TrainingConfig
from tokengroups.training.experiments import read_experiment
from tokengroups.training.log import read_metrics
from tokengroups.training.tasks.geometry import GeometryDataConfig, GeometryExperiment, GeometryTask

CONFIG = Path(__file__).parent.parent / "configs" / "vggt_tiny.yaml"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> GeometryExperiment:
    cache = str(tmp_path_factory.mktemp("rooms"))
    data = GeometryDataConfig(
        root=cache, options={"num_rooms": 4}, num_frames=4, size=32, max_frames=3, evaluation_scenes=2
    )
    training = TrainingConfig(output="unused", steps=10, batch_size=4, seed=3)
    return GeometryExperiment(training, data, model=config_to_dict(TINY))


@pytest.fixture(scope="module")
def task(experiment: GeometryExperiment) -> GeometryTask:
    return GeometryTask(experiment)


def test_a_batch_is_a_pure_function_of_step_and_slots(task: GeometryTask, experiment: GeometryExperiment) -> None:
    whole, again = task.batch(5, range(4)), GeometryTask(experiment).batch(5, range(4))
    halves = [task.batch(5, range(2)), task.batch(5, range(2, 4))]
    for name in ("images", "depth", "group_ids"):
        assert torch.equal(getattr(whole, name), getattr(again, name))
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves]))
    assert not torch.equal(whole.images[0, 0], task.batch(6, range(1)).images[0, 0])
    assert {task.batch(step, range(1)).images.shape[1] for step in range(12)} == {2, 3}
    assert 0 <= float(whole.images.min()) and float(whole.images.max()) <= 1


def test_every_room_is_drawn_once_an_epoch(experiment: GeometryExperiment) -> None:
    stream = PathStream(experiment.data, seed=3)
    epochs = [[float(stream.path(epoch * 4 + n).depth.sum()) for n in range(4)] for epoch in range(6)]
    assert len(set(epochs[0])) == 4
    assert all(sorted(rooms) == sorted(epochs[0]) for rooms in epochs)
    assert len({tuple(rooms) for rooms in epochs}) > 1


def test_drawn_frames_are_neighbours_along_the_path_in_any_order() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_frames(rng, 8, 4, max_gap=3) for _ in range(300)]
    for frames in draws:
        assert len(set(frames)) == 4 and 0 <= min(frames) and max(frames) <= 7
        assert np.diff(sorted(frames)).max() <= 3
    assert {frames[0] for frames in draws} == set(range(8))
    assert any(frames != sorted(frames) for frames in draws)
    assert draw_frames(rng, 3, 3, max_gap=3) in [[a, b, c] for a in range(3) for b in range(3) for c in range(3)]
    with pytest.raises(ValueError, match="num_frames must be at most the path's 3, got 4"):
        draw_frames(rng, 3, 4, max_gap=1)


def test_the_loss_of_a_batch_is_the_mean_of_its_parts(task: GeometryTask) -> None:
    with torch.no_grad():
        whole = task.losses(task.batch(1, range(4)), 1)
        parts = [task.losses(task.batch(1, slots), 1) for slots in (range(2), range(2, 4))]
    torch.testing.assert_close(whole.total, (parts[0].total + parts[1].total) / 2, **tolerance("float32_chain"))
    for name, value in whole.terms.items():
        mean = (parts[0].terms[name] + parts[1].terms[name]) / 2
        torch.testing.assert_close(value, mean, **tolerance("float32_chain"))


def test_every_trainable_parameter_learns(task: GeometryTask) -> None:
    task.model.zero_grad()
    task.losses(task.batch(0, range(2)), 0).total.backward()
    for name, parameter in task.model.named_parameters():
        assert parameter.requires_grad == (not name.endswith("mask_token")), name
        assert not parameter.requires_grad or (parameter.grad is not None and parameter.grad.abs().max() > 0), name


def test_evaluation_names_its_numbers(task: GeometryTask) -> None:
    with torch.no_grad():
        numbers = task.evaluate()
    assert numbers.keys() == {
        "depth_absrel",
        "point_error",
        "rotation_error_deg",
        "translation_error_deg",
        "translation_length_ratio",
        "match_accuracy",
    }
    assert all(np.isfinite(value) for value in numbers.values())


def test_exported_weights_are_an_encoder_and_a_start(task: GeometryTask, tmp_path: Path) -> None:
    task.export(tmp_path, task.model.state_dict())
    encoder = load_encoder(tmp_path)
    assert encoder.config == TINY
    started = GeometryTask(replace(task.experiment, start_from=str(tmp_path)))
    for name, tensor in started.model.state_dict().items():
        assert torch.equal(tensor, encoder.state_dict()[name])


def test_the_published_architecture_trains_without_matching(experiment: GeometryExperiment, tmp_path: Path) -> None:
    shared = {field.name for field in fields(VGGTConfig)}
    sizes = {name: value for name, value in experiment.model.items() if name in shared}
    task = GeometryTask(replace(experiment, architecture="vggt", model=sizes))
    assert type(task.model) is VGGT
    losses = task.losses(task.batch(0, range(2)), 0)
    losses.total.backward()
    assert "matching" not in losses.terms and losses.total.isfinite()
    for name, parameter in task.model.named_parameters():
        assert parameter.requires_grad == (not name.endswith("mask_token")), name
        assert not parameter.requires_grad or parameter.grad.abs().max() > 0, name
    with torch.no_grad():
        assert "match_accuracy" not in task.evaluate()
    task.export(tmp_path, task.model.state_dict())
    loaded = load_encoder(tmp_path)
    assert type(loaded) is VGGT and config_to_dict(loaded.config) == sizes


def test_architectures_and_sizes_that_do_not_exist_are_one_line(
    experiment: GeometryExperiment, task: GeometryTask, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="architecture must be one of vggt, vggt_tiny, got 'dust3r'"):
        GeometryTask(replace(experiment, architecture="dust3r"))
    with pytest.raises(UserError, match=r"model: unknown key 'embed_dimm'; did you mean 'embed_dim'\?"):
        GeometryTask(replace(experiment, model={"embed_dimm": 32}))
    with pytest.raises(UserError, match="model: unknown key 'matching'"):
        GeometryTask(replace(experiment, architecture="vggt", model={"matching": True}))
    task.export(tmp_path, task.model.state_dict())
    wider = replace(experiment, model=experiment.model | {"embed_dim": 64}, start_from=str(tmp_path))
    with pytest.raises(UserError, match="the weights of .* do not fit this VGGTTiny: .* of another shape"):
        GeometryTask(wider)


def test_frame_counts_that_do_not_fit_are_one_line(experiment: GeometryExperiment) -> None:
    for changes in ({"max_frames": 5}, {"min_frames": 4}):
        with pytest.raises(ValueError, match="data: need 1 <= min_frames <= max_frames <= num_frames, got"):
            replace(experiment.data, **changes)
    with pytest.raises(
        UserError, match=r"vggt_tiny\.yaml: data: need 1 <= min_frames <= max_frames <= num_frames, got"
    ):
        read_experiment(CONFIG, ["data.min_frames=9"])
    with pytest.raises(UserError, match="the key 'data.min_frames' must be a whole number from 1 to 1,000, got 0"):
        read_experiment(CONFIG, ["data.min_frames=0"])


def test_the_shipped_configuration_trains_stops_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = [
        "train",
        str(CONFIG),
        f"training.output={output}",
        f"data.root={tmp_path}/rooms",
        "training.steps=2",
        "training.batch_size=2",
        "training.trackers=[]",
        "training.log_every=1",
        "data.options.num_rooms=2",
        "data.evaluation_scenes=1",
    ]
    assert main([*command, "training.max_minutes=0"]) == 0
    assert f"stopped after 1 steps, saved in {output}/checkpoints" in capsys.readouterr().out
    assert main(command) == 0
    assert f"trained 2 steps: {output}/weights" in capsys.readouterr().out
    rows = read_metrics(output / "metrics.jsonl")
    assert [row["step"] for row in rows] == [0, 1, 2, 2]
    expected = build_config(VGGTTinyConfig, read_experiment(CONFIG).config.model, "model")
    assert load_encoder(output / "weights").config == expected


def test_a_mistyped_key_on_the_command_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(CONFIG), "training.stepz=1"]) == 2
    assert capsys.readouterr().err == (f"error: {CONFIG}: unknown key 'training.stepz'; did you mean 'steps'?\n")
