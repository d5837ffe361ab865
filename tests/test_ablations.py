"""What benchmarks/ablate.py compares: each variant does what its row says, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tokengroups.systems import load_model
from tokengroups.systems.token_groups_tiny import TokenGroupsTiny
from tokengroups.training.experiments import read_experiment
from tokengroups.training.tasks.system import SystemTask

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SETTINGS = {
    "training.batch_size": 2, "training.precision": "fp32", "data.options.num_rooms": 2, "data.num_frames": 5,
    "data.size": 64, "model.context_patch": 16, "model.anchor_stride": 8, "model.num_anchors": 48,
    "model.num_groups": 8, "model.gaussians_per_anchor": 2, "model.dim": 48, "model.num_heads": 2,
    "model.anchor_layers": 1, "model.group_layers": 1,
    "model.single_view_features": "false", "postprocess": "[bundle_adjustment]",  # this encoder gives no evidence
}  # fmt: skip


@pytest.fixture(scope="module")
def scripts():
    """The modules of benchmarks/ that ablate, which find each other by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        names = ("ablate", "ablation_runs", "ablation_variants", "ablation_systems", "ablation_task")
        yield SimpleNamespace(**{name.removeprefix("ablation_"): __import__(name) for name in names})
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def overrides(tmp_path_factory, random_weights) -> list[str]:
    """Changes to the shipped configuration that make everything small."""
    files = {"data.root": tmp_path_factory.mktemp("rooms"), "encoder": random_weights.parent / "encoder"}
    return [f"{key}={value}" for key, value in (SETTINGS | files).items()]


@pytest.fixture(scope="module")
def experiment(scripts, overrides) -> Any:
    losses = ["losses.segmentation=1", "losses.segmentation_warmup_steps=0"]
    return read_experiment(scripts.ablate.CONFIG, [*overrides, *losses]).config


def test_every_scene_is_encoded_once(scripts, experiment):
    cache: dict = {}
    task = scripts.task.AblationTask(experiment, scripts.systems.CachedTokenGroups, 3, cache)
    fresh = SystemTask(experiment, TokenGroupsTiny)
    images = task.batch(0, range(2)).context.images
    first = task.system.encode_batch(images)
    encoded, task.system.encoder.encode = task.system.encoder.encode, None
    again = task.system.encode_batch(images.flip(0))  # without the encoder
    task.system.encoder.encode = encoded
    assert len(cache) == 2
    expected = fresh.system.encode_batch(images)
    torch.testing.assert_close(first.points, expected.points)
    torch.testing.assert_close(first.cameras.cam_from_world, expected.cameras.cam_from_world)
    torch.testing.assert_close(again.features, expected.features.flip(0))


def test_scenes_repeat_after_their_number(scripts, experiment):
    task = scripts.task.AblationTask(experiment, scripts.systems.CachedTokenGroups, 3, {})
    images = [task.examples.example(step, slot).context.images for step in range(2) for slot in range(2)]
    assert torch.equal(images[0], images[3])
    assert not torch.equal(images[0], images[1])


def test_the_second_sequential_stage_moves_groups_alone(scripts, experiment):
    task = scripts.task.AblationTask(experiment, scripts.systems.GroupsAlone, 2, {})
    task.losses(task.batch(0, range(2)), 0).total.backward()
    moved = {name for name, p in task.model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert any(name.startswith("group_decoder.") for name in moved)
    assert any(name.startswith("assignment.anchor_key.") for name in moved)
    assert not any(name.startswith(("anchor_decoder.", "gaussian_head.", "context.")) for name in moved)


def test_copies_fill_up_what_context_tokens_are_missing(scripts, experiment):
    task = scripts.task.AblationTask(experiment, scripts.systems.DuplicatedAnchors, 2, {})
    images = task.batch(0, range(2)).context.images
    output = task.model(images, task.system.encode_batch(images))
    for pixels in output.anchor_pixels:
        distinct, counts = pixels.unique(dim=0, return_counts=True)
        assert len(distinct) == 2 * 4 * 4  # two views of 64 pixels in patches of 16
        assert counts.max() == 48 - 32 + 1
    assert (output.anchor_pixels == output.anchor_pixels[:, -1:]).all(-1).sum(1).tolist() == [17, 17]


def test_separate_matching_of_everything_together_is_the_usual_loss_on_renderings(scripts, experiment):
    """Without anchors in the usual matching."""
    experiment = dataclasses.replace(experiment, losses=dataclasses.replace(experiment.losses, anchors=0.0))
    usual = SystemTask(experiment, TokenGroupsTiny)
    apart = scripts.task.AblationTask(experiment, scripts.systems.SeparateMatching, 2, {})
    apart.model.load_state_dict(usual.model.state_dict())
    batch = apart.batch(0, range(2))
    expected, got = usual.losses(batch, 0).terms, apart.losses(batch, 0).terms
    for name in ("mse", "bce", "dice", "contrastive"):
        torch.testing.assert_close(got[name], expected[name])


def test_separate_losses_are_weighted_as_usual(scripts, experiment):
    """Where one matching of views and anchors is that of each alone, as with a single instance and this seed."""
    experiment = dataclasses.replace(experiment, training=dataclasses.replace(experiment.training, seed=2))
    usual = SystemTask(experiment, TokenGroupsTiny)
    apart = scripts.task.AblationTask(experiment, scripts.systems.SeparateMatching, 2, {})
    apart.model.load_state_dict(usual.model.state_dict())
    batch = apart.batch(0, range(2)).map(lambda tensor: tensor.clone())
    for views in (batch.context, batch.targets):
        views.group_ids.fill_(3)
    torch.testing.assert_close(apart.losses(batch, 7).total, usual.losses(batch, 7).total)


def test_matching_per_view_never_costs_more_than_one_matching(scripts, experiment):
    together, per_view = (
        kind(experiment.losses)
        for kind in (scripts.systems.SeparateMatchingObjective, scripts.systems.PerViewObjective)
    )
    probabilities = torch.rand(2, 6, 5, 4).softmax(dim=-1)
    ids = torch.arange(60).reshape(2, 6, 5) % 3
    (one,) = together.view_losses(probabilities, ids)
    two = per_view.view_losses(probabilities, ids)
    assert len(two) == 2
    weights = experiment.losses.masks
    mean = torch.stack([each.total(weights) for each in two]).mean()
    assert mean <= one.total(weights) + 0.05  # Dice is no mean over views


def test_unlabelled_pixels_are_ignored_or_pushed_down(scripts, experiment):
    ignored, pushed = (
        scripts.task.AblationTask(experiment, kind, 2, {})
        for kind in (scripts.systems.UnlabelledIgnored, scripts.systems.UnlabelledPushedDown)
    )
    probabilities = torch.rand(1, 6, 6, 4).softmax(dim=-1).requires_grad_()
    ids = torch.zeros(1, 6, 6, dtype=torch.int64)
    ids[:, 3:] = -1
    for task, wanted in ((ignored, False), (pushed, True)):
        (gradient,) = torch.autograd.grad(task.system.objective.matched(probabilities, ids).bce, probabilities)
        assert bool(gradient[:, 3:].abs().max() > 0) == wanted
        assert bool((gradient[:, 3:] >= 0).all())  # down, never up
    hidden = [pushed.examples.example(0, slot).targets.group_ids for slot in range(2)]
    assert any(bool((ids < 0).any()) for ids in hidden)


def test_bootstrap_agrees_with_scipy_for_one_seed(scripts):
    values = np.random.default_rng(1).normal(size=(1, 40))
    low, high = scripts.runs.bootstrap(values)
    expected = stats.bootstrap((values[0],), np.mean, method="percentile", n_resamples=10_000).confidence_interval
    assert abs(low - expected.low) < 0.02 and abs(high - expected.high) < 0.02


def test_every_set_is_readable(scripts):
    ablate = scripts.ablate
    for name, rows in scripts.variants.SETS.items():
        for variant in rows.values():
            for stage in variant.stages:
                overrides = [*variant.overrides, *stage.overrides]
                assert ablate.read_experiment(ablate.CONFIG, overrides).task == "token_groups_tiny", name


def test_a_variant_is_trained_measured_and_tabulated(scripts, overrides, tmp_path, capsys, monkeypatch):
    ablate, variants = scripts.ablate, scripts.variants
    monkeypatch.setitem(
        variants.SETS, "training", {"joint": variants.Variant(), "sequential": variants.sequential(0.5)}
    )
    options = ["--seeds", "0", "--steps", "4", "--scenes", "2", "--held-out", "1", "--out", str(tmp_path)]
    arguments = ["ablate.py", "training", *options, *overrides, "training.batch_size=1"]
    cut_short = [*arguments, "training.max_minutes=1e-6"]
    monkeypatch.setattr(sys, "argv", cut_short)
    with pytest.raises(SystemExit, match="joint_0.*stopped at step 1 of 4; the same command goes on"):
        ablate.main()
    assert not list(tmp_path.rglob("result.json"))  # a run that was stopped is not measured
    monkeypatch.setattr(sys, "argv", arguments)
    ablate.main()
    table = capsys.readouterr().out
    assert "| joint | 0 |" in table and "| sequential | 0 |" in table.split("difference")[1]
    result = tmp_path / "training" / "sequential_0" / "result.json"
    assert len(json.loads(result.read_text())["psnr"]) == 1
    written = result.stat().st_mtime_ns
    ablate.main()  # finished runs are not repeated
    assert result.stat().st_mtime_ns == written
    weights = tmp_path / "training" / "joint_0" / "stage0" / "weights"
    assert type(load_model(weights)) is TokenGroupsTiny
