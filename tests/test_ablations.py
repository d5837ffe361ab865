"""What benchmarks/ablate.py compares: each variant does what its row says, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from tokengroups.training.tasks.token_groups import TokenGroupsExperiment, TokenGroupsTask

from tokengroups.data.stream import ExampleConfig
from tokengroups.systems import TokenGroupsConfig
from tokengroups.systems.token_groups.objective import TokenGroupsLossWeights
from tokengroups.training.config import TrainingConfig

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODEL = TokenGroupsConfig(
    context_patch=16, anchor_stride=8, num_anchors=48, num_groups=8, gaussians_per_anchor=2, dim=48, num_heads=2,
    anchor_layers=1, group_layers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def scripts():
    """The modules `ablate` and `ablation_variants`, which find each other by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield __import__("ablate"), __import__("ablation_variants")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, random_weights) -> TokenGroupsExperiment:
    cache = tmp_path_factory.mktemp("rooms")
    return TokenGroupsExperiment(
        training=TrainingConfig(output=str(cache / "run"), steps=4, batch_size=2),
        data=ExampleConfig(
            root=str(cache), options={"num_rooms": 2}, num_frames=5, size=64, evaluation_scenes=1
        ),
        encoder=str(random_weights.parent / "encoder"),
        model=MODEL,
        losses=TokenGroupsLossWeights(lpips=0.0, segmentation=1.0, segmentation_warmup_steps=0),
    )  # fmt: skip


def test_the_encoder_sees_every_scene_once(scripts, experiment):
    _, variants = scripts
    remembered: dict = {}
    task = variants.AblationTask(experiment, 3, remembered)
    fresh = TokenGroupsTask(experiment)
    images = task.batch(0, range(2)).context.images
    first, again = task.groups.encode(images), task.groups.encode(images.flip(0))
    assert len(remembered) == 2
    expected = fresh.groups.encode(images)
    torch.testing.assert_close(first.points, expected.points)
    torch.testing.assert_close(first.cameras.cam_from_world, expected.cameras.cam_from_world)
    torch.testing.assert_close(again.features, expected.features.flip(0))


def test_scenes_repeat_after_their_number(scripts, experiment):
    _, variants = scripts
    task = variants.AblationTask(experiment, 3, {})
    images = [task.examples.example(step, slot).context.images for step in range(2) for slot in range(2)]
    assert torch.equal(images[0], images[3])
    assert not torch.equal(images[0], images[1])


def test_the_second_sequential_stage_moves_groups_alone(scripts, experiment):
    _, variants = scripts
    task = variants.GroupsAlone(experiment, 2, {})
    task.losses(task.batch(0, range(2)), 0).total.backward()
    moved = {name for name, p in task.model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert any(name.startswith("group_decoder.") for name in moved)
    assert any(name.startswith("anchor_key.") for name in moved)
    assert not any(name.startswith(("anchor_decoder.", "gaussian_head.", "context.")) for name in moved)


def test_copies_fill_up_what_context_tokens_are_missing(scripts, experiment):
    _, variants = scripts
    task = variants.DuplicatedAnchors(experiment, 2, {})
    images = task.batch(0, range(2)).context.images
    output = task.model(images, task.groups.encode(images))
    for pixels in output.anchor_pixels:
        distinct, counts = pixels.unique(dim=0, return_counts=True)
        assert len(distinct) == 2 * 4 * 4  # two views of 64 pixels in patches of 16
        assert counts.max() == 48 - 32 + 1
    assert (output.anchor_pixels == output.anchor_pixels[:, -1:]).all(-1).sum(1).tolist() == [17, 17]


def test_separate_matching_of_everything_together_is_the_usual_loss_on_renderings(scripts, experiment):
    _, variants = scripts
    usual, apart = TokenGroupsTask(experiment), variants.SeparateMatching(experiment, 2, {})
    apart.model.load_state_dict(usual.model.state_dict())
    batch = apart.batch(0, range(2))
    expected, got = usual.losses(batch, 0).terms, apart.losses(batch, 0).terms
    for name in ("mse", "bce", "dice"):
        torch.testing.assert_close(got[name], expected[name])


def test_matching_per_view_never_costs_more_than_one_matching(scripts, experiment):
    _, variants = scripts
    together, per_view = (kind(experiment, 2, {}) for kind in (variants.SeparateMatching, variants.PerViewMatching))
    per_view.model.load_state_dict(together.model.state_dict())
    probabilities = torch.rand(2, 6, 5, 4).softmax(dim=-1)
    ids = torch.arange(60).reshape(2, 6, 5) % 3
    weights = experiment.losses.masks
    one = together.matched(probabilities, ids).total(weights)
    two = torch.stack([per_view.matched(probabilities[v, None], ids[v, None]).total(weights) for v in (0, 1)])
    assert two.mean() <= one + 0.05  # Dice is no mean over views


def test_unlabelled_pixels_are_ignored_or_pushed_down(scripts, experiment):
    _, variants = scripts
    ignored, pushed = (kind(experiment, 2, {}) for kind in (variants.UnlabelledIgnored, variants.UnlabelledPushedDown))
    probabilities = torch.rand(1, 6, 6, 4).softmax(dim=-1).requires_grad_()
    ids = torch.zeros(1, 6, 6, dtype=torch.int64)
    ids[:, 3:] = -1
    for task, wanted in ((ignored, False), (pushed, True)):
        (gradient,) = torch.autograd.grad(task.matched(probabilities, ids).bce, probabilities)
        assert bool(gradient[:, 3:].abs().max() > 0) == wanted
        assert bool((gradient[:, 3:] >= 0).all())  # down, never up
    hidden = [pushed.examples.example(0, slot).targets.group_ids for slot in range(2)]
    assert any(bool((ids < 0).any()) for ids in hidden)


def test_bootstrap_agrees_with_scipy_for_one_seed(scripts):
    ablate, _ = scripts
    values = np.random.default_rng(1).normal(size=(1, 40))
    low, high = ablate.bootstrap(values)
    expected = stats.bootstrap((values[0],), np.mean, method="percentile", n_resamples=10_000).confidence_interval
    assert abs(low - expected.low) < 0.02 and abs(high - expected.high) < 0.02


def test_every_set_is_readable(scripts):
    ablate, variants = scripts
    for name, rows in variants.SETS.items():
        for variant in rows.values():
            for stage in variant.stages:
                overrides = [*variant.overrides, *stage.overrides]
                assert ablate.read_experiment(ablate.CONFIG, overrides)[0] == "token_groups", name


def test_a_variant_is_trained_measured_and_tabulated(scripts, experiment, tmp_path, capsys, monkeypatch):
    ablate, variants = scripts
    monkeypatch.setitem(
        variants.SETS, "training", {"joint": variants.Variant(), "sequential": variants.sequential(0.5)}
    )
    sizes = {f"model.{k}": v for k, v in dataclasses.asdict(MODEL).items() if isinstance(v, int) and v > 1}
    settings = sizes | {
        "training.batch_size": 1, "training.precision": "fp32", "data.root": experiment.data.root,
        "data.options.num_rooms": 2, "data.num_frames": 5, "data.size": 64, "encoder": experiment.encoder,
        "model.photo_features": "false", "model.border_rounds": "0",  # this encoder tells neither
    }  # fmt: skip
    options = ["--seeds", "0", "--steps", "4", "--scenes", "2", "--held-out", "1", "--out", str(tmp_path)]
    arguments = ["ablate.py", "training", *options, *(f"{key}={value}" for key, value in settings.items())]
    monkeypatch.setattr(sys, "argv", arguments)
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
