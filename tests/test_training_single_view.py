"""The single-view network's task on small rooms: batches, learning, evaluation, export, and a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny_encoder import TINY, WITH_SINGLE_VIEW
from tests.tolerances import tolerance
from tokengroups.checkpoint import read_tensors
from tokengroups.cli.main import main
from tokengroups.config import config_to_dict
from tokengroups.encoders import load_encoder, save_encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt_tiny import VGGTTiny
from tokengroups.errors import UserError
from tokengroups.training.config import TrainingConfig
from tokengroups.training.experiments import read_experiment
from tokengroups.training.loop import train
from tokengroups.training.tasks.geometry import GeometryDataConfig, GeometryExperiment, GeometryTask
from tokengroups.training.tasks.single_view import (
    SingleViewConfig,
    SingleViewDataConfig,
    SingleViewExperiment,
    SingleViewTask,
)

CONFIG = Path(__file__).parent.parent / "configs" / "vggt_tiny_single_view.yaml"


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> SingleViewExperiment:
    folder = tmp_path_factory.mktemp("single_view")
    torch.manual_seed(0)
    save_encoder(folder / "encoder", VGGTTiny(TINY).state_dict(), TINY)
    data = SingleViewDataConfig(
        root=str(folder / "rooms"), options={"num_rooms": 4}, num_frames=4, size=32, zoom=1.3, evaluation_scenes=2
    )
    training = TrainingConfig(output="unused", steps=10, batch_size=4, optimizer="muon", seed=3)
    model = SingleViewConfig((8, 8, 16, 32), depth=1)
    return SingleViewExperiment(training, data, str(folder / "encoder"), model=model)


@pytest.fixture(scope="module")
def task(experiment: SingleViewExperiment) -> SingleViewTask:
    return SingleViewTask(experiment)


def test_a_batch_is_a_pure_function_of_step_and_slots(task: SingleViewTask, experiment: SingleViewExperiment) -> None:
    whole, again = task.batch(5, range(4)), SingleViewTask(experiment).batch(5, range(4))
    halves = [task.batch(5, range(2)), task.batch(5, range(2, 4))]
    assert whole.images.shape == (4, 2, 3, 32, 32)
    assert torch.equal(whole.images, again.images)
    assert torch.equal(whole.images, torch.cat([half.images for half in halves]))
    assert not torch.equal(whole.images, task.batch(6, range(4)).images)


def test_the_loss_of_a_batch_is_the_mean_of_its_parts(task: SingleViewTask) -> None:
    with torch.no_grad():
        whole = task.losses(task.batch(1, range(4)), 1)
        parts = [task.losses(task.batch(1, slots), 1) for slots in (range(2), range(2, 4))]
    mean = (parts[0].total + parts[1].total) / 2
    torch.testing.assert_close(whole.total, mean, **tolerance("float32_chain"))
    assert whole.terms.keys() == {"focal", "up", "normals", "depth"}


def test_it_learns_a_few_photos_by_heart(experiment: SingleViewExperiment) -> None:
    """Every parameter gets a gradient sooner or later, and the predictions for one batch become right."""
    task = SingleViewTask(experiment)
    batch = task.batch(0, range(2))
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    first = task.losses(batch, 0)
    for _ in range(40):
        optimizer.zero_grad()
        losses = task.losses(batch, 0)
        losses.total.backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in task.model.parameters())
    assert all(bool((parameter.grad != 0).any()) for parameter in task.model.parameters())
    for name in ("focal", "up", "normals", "depth"):
        assert losses.terms[name] < first.terms[name]
    assert losses.terms["up"] < 0.05 < first.terms["up"]


def test_evaluation_names_its_numbers(task: SingleViewTask) -> None:
    with torch.no_grad():
        numbers = task.evaluate()
    assert numbers.keys() == {"focal", "focal_of_room", "focal_expected", "up_deg", "normals_deg"}
    assert 0 < numbers["focal_of_room"] <= numbers["focal"] + 1e-9
    assert 0 < numbers["up_deg"] < 180 and 0 < numbers["normals_deg"] < 180


def test_exported_weights_are_the_encoder_with_the_network(
    task: SingleViewTask, experiment: SingleViewExperiment, tmp_path: Path
) -> None:
    task.export(tmp_path, task.model.state_dict())
    encoder, before = load_encoder(tmp_path), load_encoder(experiment.encoder)
    assert encoder.config == WITH_SINGLE_VIEW
    state = encoder.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in before.state_dict().items())
    photo = torch.rand(1, 1, 3, 32, 32)
    loaded, trained = encoder.predict_single_view(photo), task.model.eval()(photo[0])
    torch.testing.assert_close(loaded.log_focal[0], trained.log_focal, atol=2e-3, rtol=0)  # half precision

    other = SingleViewConfig((8, 32), depth=2)  # not asked for a new network, so the old one keeps its shape
    resumed = SingleViewTask(replace(experiment, encoder=str(tmp_path), resume_network=True, model=other))
    assert torch.equal(resumed.model.state_dict()["positions"], state["single_view.positions"])
    resumed.export(tmp_path / "resumed", resumed.model.state_dict())
    assert load_encoder(tmp_path / "resumed").config == encoder.config
    anew = SingleViewTask(replace(experiment, encoder=str(tmp_path)))
    assert not torch.equal(anew.model.state_dict()["positions"], state["single_view.positions"])
    anew.export(tmp_path / "again", anew.model.state_dict())
    assert load_encoder(tmp_path / "again").config == encoder.config


def test_a_resumed_network_gets_details(task: SingleViewTask, experiment: SingleViewExperiment, tmp_path: Path) -> None:
    """Its weights stay; the new map learns to tell objects apart, and is kept when training goes on again."""
    task.export(tmp_path / "plain", task.model.state_dict())
    wish = replace(experiment.model, details=8)
    resumed = SingleViewTask(replace(experiment, encoder=str(tmp_path / "plain"), resume_network=True, model=wish))
    before = load_encoder(tmp_path / "plain").state_dict()
    state = resumed.model.state_dict()
    added = {name for name in state if f"single_view.{name}" not in before}
    assert added and all(name.startswith("details.") for name in added)
    assert all(torch.equal(state[name], before[f"single_view.{name}"]) for name in state.keys() - added)
    batch = resumed.batch(0, range(2))
    optimizer = torch.optim.AdamW(resumed.model.parameters(), lr=3e-3)
    first = resumed.losses(batch, 0)
    for _ in range(120):
        optimizer.zero_grad()
        losses = resumed.losses(batch, 0)
        losses.total.backward()
        optimizer.step()
    assert losses.terms["pair_affinity"] < 0.7 * first.terms["pair_affinity"]
    with torch.no_grad():
        assert "pair_affinity" in resumed.evaluate()
    resumed.export(tmp_path / "detailed", resumed.model.state_dict())
    assert load_encoder(tmp_path / "detailed").config.single_view_details == 8
    again = SingleViewTask(replace(experiment, encoder=str(tmp_path / "detailed"), resume_network=True))
    assert again.shape == wish and again.model.details is not None


def test_the_geometry_task_keeps_the_network(
    task: SingleViewTask, experiment: SingleViewExperiment, tmp_path: Path
) -> None:
    """Training that starts from such an encoder leaves its network as it is, and exports it again."""
    task.export(tmp_path, task.model.state_dict())
    rooms = experiment.data
    data = GeometryDataConfig(root=rooms.root, options=rooms.options, num_frames=4, size=32, evaluation_scenes=2)
    geometry = GeometryTask(
        GeometryExperiment(experiment.training, data, model=config_to_dict(TINY), start_from=str(tmp_path))
    )
    geometry.model.train()
    geometry.losses(geometry.batch(0, range(2)), 0).total.backward()
    network = geometry.model.single_view
    assert network is not None and all(not p.requires_grad and p.grad is None for p in network.parameters())
    geometry.export(tmp_path / "again", geometry.model.state_dict())
    again, before = load_encoder(tmp_path / "again").state_dict(), load_encoder(tmp_path).state_dict()
    assert all(torch.equal(again[name], before[name]) for name in before) and again.keys() == before.keys()


def test_what_does_not_fit_is_one_line(experiment: SingleViewExperiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no single-view network to resume"):
        SingleViewTask(replace(experiment, resume_network=True))
    sizes = {name: value for name, value in vars(TINY).items() if name in VGGTConfig.__dataclass_fields__}
    published = VGGTConfig(**sizes)
    save_encoder(tmp_path, VGGT(published).state_dict(), published)
    with pytest.raises(UserError, match="is no vggt_tiny, which alone has a single-view network"):
        SingleViewTask(replace(experiment, encoder=str(tmp_path)))
    with pytest.raises(ValueError, match="must not be empty"):
        SingleViewConfig(())
    with pytest.raises(ValueError, match="2 to 6 multiples of 8, the last one of 32, got \\[8, 20\\]"):
        SingleViewConfig((8, 20))
    with pytest.raises(ValueError, match="data: need 1 <= photos_per_room <= num_frames, got 5 and 4"):
        replace(experiment.data, photos_per_room=5)
    with pytest.raises(UserError, match=r"yaml: the key 'data.photos_per_room' must be .* from 1 to 1,000, got 0"):
        read_experiment(CONFIG, ["data.photos_per_room=0"])


def test_the_shipped_configuration_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    command = ["train", str(CONFIG), f"training.output={output}", f"data.root={tmp_path}/rooms"]
    command += ["training.steps=1", "training.batch_size=2", "training.trackers=[]", "data.options.num_rooms=2"]
    assert main([*command, "data.evaluation_scenes=1"]) == 0
    assert f"trained 1 steps: {output}/weights" in capsys.readouterr().out
    assert load_encoder(output / "weights").single_view is not None


def test_a_stopped_run_continues_to_the_same_bits(experiment: SingleViewExperiment, tmp_path: Path) -> None:
    """The network's channels come last in memory, and so must the restored moments of its optimiser."""
    for name, minutes in (("whole", None), ("pieces", 0.0)):
        settings = replace(experiment.training, output=str(tmp_path / name), steps=4, optimizer="adamw")
        settings = replace(settings, trackers=(), device="cpu", max_minutes=minutes, evaluate_every=100)
        while not train(SingleViewTask(experiment), settings, {}).finished:
            assert minutes == 0
    last = "checkpoints/step_00000004.safetensors"
    whole, pieces = (read_tensors(tmp_path / name / last) for name in ("whole", "pieces"))
    assert whole.keys() == pieces.keys() and any(name.startswith("optimizer.exp_avg") for name in whole)
    assert [name for name in whole if not torch.equal(whole[name], pieces[name])] == []
