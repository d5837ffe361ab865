"""The task that trains any system, on rooms of small size: batches, losses, learning, evaluation and export."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
from toy_experiments import MODEL, read

from tokengroups.encoders import load_encoder
from tokengroups.errors import UserError
from tokengroups.hungarian import match_groups
from tokengroups.losses.masks import mask_costs, mask_losses
from tokengroups.systems import SYSTEMS, load_model
from tokengroups.systems.token_groups import TokenGroupsConfig
from tokengroups.systems.token_groups_tiny import objective as tiny_objective
from tokengroups.training.experiments import Experiment
from tokengroups.training.log import read_metrics
from tokengroups.training.loop import train
from tokengroups.training.tasks.system import SystemTask


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, random_weights):
    """Reads configurations with changes; all share one folder of rooms."""
    return partial(read, tmp_path_factory.mktemp("toy"), random_weights.parent / "encoder")


@pytest.fixture(scope="module")
def task(experiment) -> SystemTask:
    return experiment().build()


def test_a_batch_depends_on_seed_step_and_slot_alone(task):
    both = task.batch(3, range(2))
    assert both.context.images.shape == (2, 2, 3, 64, 64)
    assert both.targets.images.shape == (2, 5, 3, 64, 64)
    torch.testing.assert_close(task.batch(3, range(1, 2)).targets.images[0], both.targets.images[1])
    assert not torch.equal(task.batch(4, range(2)).context.images, both.context.images)


def test_the_number_of_photos_is_drawn_for_a_whole_step(experiment):
    varied = experiment(data__min_context_views=1).build()
    counts = []
    for step in range(12):
        scenes = [varied.examples.example(step, slot) for slot in range(2)]
        photos = {len(scene.context.images) for scene in scenes}
        assert photos == {(len(scene.targets.images) - 1) // 2 for scene in scenes}
        counts += photos
    assert len(counts) == 12 and set(counts) == {1, 2}
    single = counts.index(1)
    assert varied.losses(varied.batch(single, range(2)), single).total.isfinite()


def test_a_budget_of_photos_is_shared_by_few_or_many_scenes(experiment):
    """IGGT's sampler with 8 photos: 4 scenes of 2, or 2 of 4; 8 scenes of 1 are more than a batch."""
    wide = {"data__num_frames": 9, "data__context_views": 4, "data__min_context_views": 1}
    examples = experiment(training__batch_size=4, data__photo_budget=8, **wide).build().examples
    shapes = set()
    for step in range(12):
        whole = examples.batch(step, range(4)).context.images
        halves = [examples.batch(step, range(i, i + 2)).context.images for i in (0, 2)]  # two processes
        assert len(whole) * whole.shape[1] == 8 and 2 * len(halves[0]) == 2 * len(halves[1]) == len(whole)
        assert torch.equal(whole[0], halves[0][0])
        shapes.add(whole.shape[:2])
    assert shapes == {(4, 2), (2, 4)}
    with pytest.raises(UserError, match=r"photo_budget 7 cannot be shared evenly by 2, 4, \.\.\. 4 scenes of 1 to 4"):
        experiment(training__batch_size=4, data__photo_budget=7, **wide).build()


@pytest.mark.parametrize("fewest", [0, 3])
def test_an_impossible_number_of_photos_is_refused(experiment, fewest):
    range_or_bounds = r"(1 to context_views \(2\)|.* from 1 to 1,000)"
    with pytest.raises(UserError, match=rf"min_context_views'? must be {range_or_bounds}, got {fewest}"):
        experiment(data__min_context_views=fewest).build()


def test_photos_are_among_the_supervised_views_or_not_as_configured(task, experiment):
    scene = task.examples.example(0, 0)
    assert torch.equal(scene.targets.images[1], scene.context.images[0])
    without = experiment(data__supervise_context=False).build()
    assert without.examples.example(0, 0).targets.images.shape[0] == 3


def test_paths_too_short_and_photos_that_do_not_fit_are_refused(experiment):
    with pytest.raises(UserError, match="2 \\* context_views \\+ 1, got 5 for 3"):
        experiment(data__context_views=3).build()
    with pytest.raises(UserError, match=r"data\.size must be a multiple of 16, got 40"):
        experiment(data__size=40).build()


@pytest.mark.parametrize("name", SYSTEMS)
def test_losses_of_a_batch_are_the_mean_of_its_scenes(experiment, name):
    task = experiment(name).build()
    with torch.no_grad():
        both = task.losses(task.batch(0, range(2)), 5)
        single = [task.losses(task.batch(0, range(i, i + 1)), 5) for i in range(2)]
    torch.testing.assert_close(both.total, (single[0].total + single[1].total) / 2, rtol=1e-4, atol=1e-5)


def test_steps_on_one_batch_lower_the_loss_and_leave_the_encoder_alone(experiment):
    task = experiment().build()
    before = {name: value.clone() for name, value in task.system.encoder.state_dict().items()}
    optimizer = torch.optim.AdamW(task.parameter_groups(), lr=1e-3)
    batch = task.batch(0, range(1))
    totals = []
    for step in range(15):
        terms = task.losses(batch, step)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        totals.append(terms.total.item())
    assert totals[-1] < 0.93 * totals[0], totals
    encoder = task.system.encoder.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in encoder.items())


def test_evaluate_reports_the_numbers_of_the_command(task):
    with torch.no_grad():
        numbers = task.evaluate()
    assert {
        "psnr", "psnr_nearest_view", "ap_all", "ap_objects_oracle", "ap_all_planes_hdbscan",
    } <= numbers.keys()  # fmt: skip
    assert all(isinstance(value, float) for value in numbers.values())


def test_export_writes_weights_that_load(task, tmp_path, random_weights):
    task.export(tmp_path / "weights", task.model.state_dict())
    model = load_model(tmp_path / "weights")
    encoder = random_weights.parent / "encoder"
    assert model.network.config == TokenGroupsConfig(**MODEL)
    assert model.encoder.config == load_encoder(encoder).config
    assert str(encoder) in (tmp_path / "weights" / "config.json").read_text()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("name", SYSTEMS)
def test_any_system_trains_and_leaves_weights_that_name_it(experiment, name, optimizer, tmp_path):
    read_one: Experiment = experiment(
        name, training__steps=2, training__optimizer=optimizer, training__output=str(tmp_path)
    )
    task = read_one.build()
    before = {key: value.clone() for key, value in task.model.state_dict().items()}
    result = train(task, read_one.config.training, read_one.description())
    assert result.finished and result.step == 2
    metrics = read_metrics(tmp_path / "metrics.jsonl")
    assert {row["step"] for row in metrics} >= {0, 2} and any("evaluate/" in str(row) for row in metrics)
    trained = {key for key, value in task.model.named_parameters() if value.requires_grad}
    moved = {key for key in trained if not torch.equal(before[key], task.model.state_dict()[key])}
    assert len(moved) > 0.9 * len(trained)
    saved = json.loads((tmp_path / "weights" / "config.json").read_text())
    if name == "pixel_gaussians":  # an encoder is what it leaves
        assert saved["encoder"] == "vggt" and "system" not in saved
        assert load_encoder(tmp_path / "weights").feature_dim == task.model.encoder.feature_dim
    else:
        assert saved["system"] == name
        assert type(load_model(tmp_path / "weights")) is type(task.system)


def test_without_rendering_the_masks_on_the_anchors_are_the_loss(experiment, monkeypatch):
    task = experiment("token_groups_tiny", losses__rendering=0.0, losses__segmentation=0.5, losses__anchors=1.0).build()
    monkeypatch.setattr(tiny_objective, "render_groups", None)  # calling it would fail
    batch = task.batch(0, range(2))
    terms = task.losses(batch, 0)
    terms.total.backward()
    assert all(parameter.grad is not None for parameter in task.model.parameters())  # as DDP demands
    output = task.model(batch.context.images, task.system.encode_batch(batch.context.images))
    expected = torch.zeros(())
    for scene in range(2):
        view, row, column = output.anchor_pixels[scene].unbind(-1)
        ids = batch.context.group_ids[scene, view, row, column]
        probabilities = output.assignment[scene][None, :, None]
        pairs = match_groups(mask_costs(probabilities, ids[None, :, None]))
        losses = mask_losses(probabilities, ids[None, :, None], *pairs)
        expected = expected + 0.5 * (2 * losses.bce + losses.dice) / 2
    torch.testing.assert_close(terms.total, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="nothing is learned"):
        experiment("token_groups_tiny", losses__rendering=0.0)


def test_training_goes_on_from_weights_of_the_same_system(experiment, task, tmp_path):
    task.export(tmp_path, task.model.state_dict())
    started = experiment(start_from=str(tmp_path)).build()
    for name, value in task.model.state_dict().items():
        assert torch.equal(started.model.state_dict()[name], value.half().float()), name
    with pytest.raises(UserError, match="do not fit this TokenGroupTinyModel: .*anchor_color"):
        experiment("token_groups_tiny", start_from=str(tmp_path)).build()


def test_the_steps_of_a_configuration_are_those_of_its_weights(experiment, tmp_path):
    spec = ["flip_ensemble", {"name": "photometric_refinement", "steps": 3}]
    task = experiment(postprocess=spec).build()
    task.export(tmp_path, task.model.state_dict())
    saved = json.loads((tmp_path / "config.json").read_text())["postprocess"]
    assert saved == [
        {"name": "flip_ensemble"},
        {"name": "photometric_refinement", "steps": 3, "full_steps": 30, "full_size": 256},
    ]
    assert load_model(tmp_path).steps == task.system.steps


def test_settings_of_another_system_are_unknown(experiment):
    with pytest.raises(UserError, match=r"unknown key 'model\.anchor_growth'"):
        experiment(model__anchor_growth=0.5)
    config = experiment("token_groups_tiny", model__anchor_growth=0.5).config
    assert config.model.anchor_growth == 0.5


def test_images_of_other_shapes_have_sides_that_the_encoder_takes(experiment):
    """Patches of 16 and 24 pixels: multiples of 48 alone do."""
    examples = experiment(data__size=96, data__aspect=2.0, model__context_patch=24).build().examples
    assert {side for step in range(40) for side in examples.paths.shape(step)} == {48, 96}
