"""Distillation while token groups are trained: the joint loss, and the second stage."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from toy_experiments import MODEL, read
from toy_teachers import Letters

from tokengroups.alignment import align_cameras
from tokengroups.checkpoint import load_weights
from tokengroups.errors import UserError
from tokengroups.systems import load_model
from tokengroups.systems.token_groups import TokenGroupsConfig, TokenGroupsSettings
from tokengroups.text.cache import EmbeddingCache
from tokengroups.text.teachers import DenseTeacher, LabelTeacher, SemanticsConfig
from tokengroups.types import Cameras


@pytest.fixture(scope="module")
def experiment(tmp_path_factory, random_weights):
    return partial(read, tmp_path_factory.mktemp("toy"), random_weights.parent / "encoder")


@pytest.fixture
def distilling(experiment, tmp_path, monkeypatch):
    cache = EmbeddingCache(Letters(), tmp_path / "embeddings")
    monkeypatch.setattr(
        "tokengroups.systems.token_groups.system.load_teacher",
        lambda config: LabelTeacher(cache) if config.teacher == "labels" else DenseTeacher(cache),
    )
    return partial(experiment, losses__distillation=0.5)


@pytest.mark.parametrize("teacher", ["labels", "images"])
def test_joint_training_adds_the_weighted_distillation(distilling, teacher):
    task = distilling(semantics__teacher=teacher).build()
    expected = replace(TokenGroupsConfig(**MODEL), semantic_dim=6, text_encoder="letters:1")
    assert task.model.config == expected
    terms = task.losses(task.batch(0, range(2)), 0)
    parts = {name: value.detach() for name, value in terms.terms.items()}
    expected = parts["mse"] + 0.1 * (2 * parts["bce"] + parts["dice"])
    distilled = ("distill_pixels", "distill_groups", "distill_calibration")
    expected = expected + 0.5 * sum(parts[name] for name in distilled)
    torch.testing.assert_close(terms.total.detach(), expected)
    terms.total.backward()
    assert all(parameter.grad is not None for parameter in task.model.parameters())


def test_the_second_stage_trains_the_head_alone(distilling, experiment, tmp_path):
    first = experiment().build()
    first.export(tmp_path / "first", first.model.state_dict())
    task = distilling(start_from=str(tmp_path / "first"), semantics__only=True).build()
    before = {name: value.clone() for name, value in task.model.state_dict().items()}
    optimizer = torch.optim.Adam([p for group in task.parameter_groups() for p in group["params"]], lr=1e-2)
    batch, history = task.batch(0, range(1)), []
    for step in range(8):
        terms = task.losses(batch, step)
        assert set(terms.terms) == {"distill_pixels", "distill_groups", "distill_calibration"}
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        history.append((terms.terms["distill_pixels"] + terms.terms["distill_groups"]).item())
    assert history[-1] < 0.7 * history[0], history
    for name, value in task.model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("semantic_head."), name
    task.export(tmp_path / "second", task.model.state_dict())
    assert load_weights(tmp_path / "second")[1]["config"]["text_encoder"] == "letters:1"
    model = load_model(tmp_path / "second")
    scene = model.reconstruct(batch.context.images[0])
    assert scene.semantics is not None and scene.semantics.encoder == model.text_encoder == "letters:1"
    assert scene.semantics.embeddings.shape == (len(scene.group_ids), 6)


def test_a_second_stage_without_a_first_is_refused(distilling, experiment):
    message = "set start_from to token groups, and losses.distillation above 0"
    with pytest.raises(UserError, match=message):
        distilling(semantics__only=True)
    with pytest.raises(UserError, match=message):
        experiment(semantics__only=True, start_from="somewhere")
    with pytest.raises(ValueError, match=message):
        TokenGroupsSettings(semantics=SemanticsConfig(only=True))


def test_some_views_may_be_distilled_alone(distilling):
    """One view: the same loss as that of a batch whose targets are that view."""
    task = distilling(semantics__views=1).build()
    batch = task.batch(0, range(2))
    with torch.no_grad():
        geometry = task.system.encode_batch(batch.context.images)
        output = task.model(batch.context.images, geometry)
    cameras, _ = align_cameras(batch.targets.cameras, batch.context, geometry.points)
    one = replace(batch, targets=batch.targets.select([0]))
    first = Cameras(cameras.cam_from_world[:, :1], cameras.intrinsics[:, :1], cameras.size_hw)
    some = task.system.objective.distill(output, batch, cameras)
    every = distilling().build().system.objective
    assert vars(some) == vars(every.distill(output, one, first))
    assert vars(some) != vars(every.distill(output, batch, cameras))
