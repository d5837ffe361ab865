"""The token-groups task on real rooms at small size: batches, losses, learning, evaluation and export."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tokengroups.data.stream import ExampleConfig
from tokengroups.errors import UserError
from tokengroups.hungarian import match_groups
from tokengroups.losses.masks import mask_costs, mask_losses
from tokengroups.systems import TokenGroupsConfig, load_model
from tokengroups.systems.token_groups.objective import TokenGroupsLossWeights
from tokengroups.training.config import TrainingConfig
from tokengroups.training.tasks.token_groups import (
    TokenGroupsExperiment,
    TokenGroupsTask,
    build_task,
)

MODEL = TokenGroupsConfig(
    context_patch=16, anchor_stride=8, num_anchors=128, num_groups=8, gaussians_per_anchor=4, dim=48, num_heads=2,
    anchor_layers=1, group_layers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, random_weights) -> TokenGroupsExperiment:
    cache = tmp_path_factory.mktemp("rooms")
    return TokenGroupsExperiment(
        training=TrainingConfig(output=str(cache / "run"), steps=10, batch_size=2),
        data=ExampleConfig(
            root=str(cache), options={"num_rooms": 3}, num_frames=5, size=64, evaluation_scenes=1
        ),
        encoder=str(random_weights.parent / "encoder"),
        model=MODEL,
        losses=TokenGroupsLossWeights(lpips=0.0, segmentation=0.1, segmentation_warmup_steps=0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def task(experiment) -> TokenGroupsTask:
    return build_task(experiment)


def test_a_batch_depends_on_seed_step_and_slot_alone(task):
    both = task.batch(3, range(2))
    assert both.context.images.shape == (2, 2, 3, 64, 64)
    assert both.targets.images.shape == (2, 5, 3, 64, 64)
    torch.testing.assert_close(task.batch(3, range(1, 2)).targets.images[0], both.targets.images[1])
    assert not torch.equal(task.batch(4, range(2)).context.images, both.context.images)


def test_the_number_of_photos_is_drawn_for_a_whole_step(experiment):
    varied = build_task(
        dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, min_context_views=1))
    )
    counts = []
    for step in range(12):
        scenes = [varied.examples.example(step, slot) for slot in range(2)]
        photos = {len(scene.context.images) for scene in scenes}
        assert photos == {(len(scene.targets.images) - 1) // 2 for scene in scenes}
        counts += photos
    assert len(counts) == 12 and set(counts) == {1, 2}
    single = counts.index(1)
    assert varied.losses(varied.batch(single, range(2)), single).total.isfinite()


@pytest.mark.parametrize("fewest", [0, 3])
def test_an_impossible_number_of_photos_is_refused(experiment, fewest):
    data = dataclasses.replace(experiment.data, min_context_views=fewest)
    with pytest.raises(UserError, match=rf"min_context_views must be 1 to context_views \(2\), got {fewest}"):
        build_task(dataclasses.replace(experiment, data=data))


def test_photos_are_among_the_supervised_views_or_not_as_configured(task, experiment):
    scene = task.examples.example(0, 0)
    assert torch.equal(scene.targets.images[1], scene.context.images[0])
    without = dataclasses.replace(
        experiment, data=dataclasses.replace(experiment.data, supervise_context=False)
    )
    assert build_task(without).examples.example(0, 0).targets.images.shape[0] == 3


def test_losses_of_a_batch_are_the_mean_of_its_scenes(task):
    with torch.no_grad():
        both = task.losses(task.batch(0, range(2)), 5)
        single = [task.losses(task.batch(0, range(i, i + 1)), 5) for i in range(2)]
    torch.testing.assert_close(both.total, (single[0].total + single[1].total) / 2, rtol=1e-4, atol=1e-5)


def test_steps_on_one_batch_lower_the_loss_and_leave_the_encoder_alone(experiment):
    task = build_task(experiment)
    before = {name: value.clone() for name, value in task.groups.encoder.state_dict().items()}
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
    assert all(torch.equal(value, before[name]) for name, value in task.groups.encoder.state_dict().items())


def test_evaluate_reports_the_numbers_of_the_command(task):
    with torch.no_grad():
        numbers = task.evaluate()
    assert {
        "psnr",
        "psnr_nearest_view",
        "ap_all",
        "ap_objects_oracle",
        "ap_all_planes_hdbscan",
    } <= numbers.keys()
    assert all(isinstance(value, float) for value in numbers.values())


def test_export_writes_weights_that_load(task, tmp_path, experiment):
    task.export(tmp_path / "weights", task.model.state_dict())
    model = load_model(tmp_path / "weights")
    assert model.decoder.config == MODEL
    assert model.encoder.config == load_model(tmp_path / "weights").encoder.config
    assert experiment.encoder in (tmp_path / "weights" / "config.json").read_text()


def test_paths_too_short_for_the_views_are_refused(experiment):
    short = dataclasses.replace(experiment, data=dataclasses.replace(experiment.data, context_views=3))
    with pytest.raises(UserError, match="2 \\* context_views \\+ 1, got 5 for 3"):
        build_task(short)


def test_without_rendering_the_masks_on_the_anchors_are_the_loss(experiment, monkeypatch):
    weights = TokenGroupsLossWeights(
        rendering=0.0, segmentation=0.5, segmentation_warmup_steps=0, anchors=1.0
    )
    task = build_task(dataclasses.replace(experiment, losses=weights))
    monkeypatch.setattr(
        "tokengroups.training.tasks.token_groups.render_groups", None
    )  # calling it would fail
    batch = task.batch(0, range(2))
    terms = task.losses(batch, 0)
    terms.total.backward()
    assert all(parameter.grad is not None for parameter in task.model.parameters())  # as DDP demands
    output, _ = task.groups(batch.context.images)
    expected = torch.zeros(())
    for scene in range(2):
        view, row, column = output.anchor_pixels[scene].unbind(-1)
        ids = batch.context.group_ids[scene, view, row, column]
        probabilities = output.assignment[scene][None, :, None]
        pairs = match_groups(mask_costs(probabilities, ids[None, :, None]))
        losses = mask_losses(probabilities, ids[None, :, None], *pairs)
        expected = expected + 0.5 * (2 * losses.bce + losses.dice) / 2
    torch.testing.assert_close(terms.total, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="nothing is learned"):
        TokenGroupsLossWeights(rendering=0.0)
