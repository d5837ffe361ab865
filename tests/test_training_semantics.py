"""Distillation in the token-groups task: teachers against loops, the joint loss, and the second stage."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_training_token_groups import MODEL, experiment  # noqa: F401 (a fixture)
from tokengroups.training.tasks.token_groups import build_task
from torch.nn import functional

from tokengroups.checkpoint import load_weights
from tokengroups.data.augment import to_views
from tokengroups.data.procedural.generate import generate_room
from tokengroups.errors import UserError
from tokengroups.systems import load_model
from tokengroups.systems.token_groups.objective import TokenGroupsLossWeights, supervision_cameras
from tokengroups.text.cache import EmbeddingCache
from tokengroups.text.teachers import DenseTeacher, LabelTeacher, SemanticsConfig, look_up
from tokengroups.types import Cameras


class Letters:
    """A text encoder that counts letters, and an image teacher that averages colours."""

    name, dim = "letters:1", 6

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        counts = torch.tensor([[1.0 + text.count(letter) for letter in "aeiolr"] for text in texts])
        return functional.normalize(counts, dim=-1)

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        colours = functional.adaptive_avg_pool2d(images, 4)
        return functional.normalize(torch.cat([colours, 1 - colours], dim=1), dim=1)


class Words:
    """Never saw an image."""

    name, dim = "words:1", 6
    encode_text = Letters.encode_text


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(Letters(), tmp_path)


@pytest.fixture
def distilling(experiment, cache, monkeypatch):  # noqa: F811
    monkeypatch.setattr(
        "tokengroups.training.tasks.token_groups.load_teacher",
        lambda config: LabelTeacher(cache) if config.teacher == "labels" else DenseTeacher(cache),
    )
    losses = TokenGroupsLossWeights(
        lpips=0.0, segmentation=0.1, segmentation_warmup_steps=0, distillation=0.5
    )
    return dataclasses.replace(experiment, losses=losses)


def test_a_label_teacher_names_every_pixel(cache):
    room = generate_room(3, 0, num_views=2, size=24)
    views = to_views(room, [0, 1])
    targets = LabelTeacher(cache).targets(views, room.instance_classes)
    for view, row, column in [(0, 0, 0), (0, 12, 12), (1, 20, 3), (1, 23, 23)]:
        instance, index = int(views.group_ids[view, row, column]), int(targets.pixel_idx[view, row, column])
        if instance < 0:
            assert index == -1
        else:
            expected = Letters().encode_text([room.instance_classes[instance]])[0]
            torch.testing.assert_close(targets.features[index], expected)
    assert look_up(torch.tensor([-1, 0, 7, 9]), {7: 2, 0: 1}).tolist() == [-1, 1, 2, -1]


def test_a_dense_teacher_answers_at_the_cells_centres(cache):
    views = to_views(generate_room(3, 0, num_views=2, size=24), [0, 1])
    targets = DenseTeacher(cache).targets(views, {})
    assert targets.features.shape == (2 * 16, 6)
    assert (targets.pixel_idx >= 0).sum() == 32
    grid = Letters().encode_images(views.images)
    for view, row, column in [(0, 0, 0), (0, 3, 1), (1, 2, 3)]:
        index = targets.pixel_idx[view, 6 * row + 3, 6 * column + 3]
        torch.testing.assert_close(targets.features[index], grid[view, :, row, column])
    with pytest.raises(UserError, match="needs CLIP or SigLIP, but 'words:1' has never seen an image"):
        DenseTeacher(EmbeddingCache(Words()))


@pytest.mark.parametrize("teacher", ["labels", "images"])
def test_joint_training_adds_the_weighted_distillation(distilling, experiment, teacher):  # noqa: F811
    semantics = SemanticsConfig(teacher=teacher)
    task = build_task(dataclasses.replace(distilling, semantics=semantics))
    assert task.experiment.model == dataclasses.replace(MODEL, semantic_dim=6, text_encoder="letters:1")
    plain = dataclasses.replace(experiment.losses)
    batch = task.batch(0, range(2))
    terms = task.losses(batch, 0)
    parts = {name: value.detach() for name, value in terms.terms.items()}
    expected = parts["mse"] + plain.segmentation * (2 * parts["bce"] + parts["dice"])
    distilled = ("distill_pixels", "distill_groups", "distill_calibration")
    expected = expected + 0.5 * sum(parts[name] for name in distilled)
    torch.testing.assert_close(terms.total.detach(), expected)
    terms.total.backward()
    assert all(parameter.grad is not None for parameter in task.model.parameters())


def test_the_second_stage_trains_the_head_alone(distilling, experiment, tmp_path):  # noqa: F811
    first = build_task(experiment)
    first.export(tmp_path / "first", first.model.state_dict())
    second = dataclasses.replace(
        distilling, start_from=str(tmp_path / "first"), semantics=SemanticsConfig(only=True)
    )
    task = build_task(second)
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
    scene = load_model(tmp_path / "second").reconstruct(batch.context.images[0])
    assert scene.semantics is not None and scene.semantics.encoder == "letters:1"
    assert scene.semantics.embeddings.shape == (len(scene.group_ids), 6)


def test_a_second_stage_without_a_first_is_refused(distilling, experiment):  # noqa: F811
    only = SemanticsConfig(only=True)
    for wrong in (
        dataclasses.replace(distilling, semantics=only),
        dataclasses.replace(experiment, semantics=only, start_from="somewhere"),
    ):
        with pytest.raises(
            UserError, match="set start_from to token groups, and losses.distillation above 0"
        ):
            build_task(wrong)


def test_load_teacher_takes_the_configured_encoder(monkeypatch):
    from tokengroups.text import teachers

    asked = []
    monkeypatch.setattr(teachers, "load_text_encoder", lambda name: asked.append(name) or Letters())
    assert isinstance(teachers.load_teacher(SemanticsConfig(text_encoder="mine")), LabelTeacher)
    assert isinstance(
        teachers.load_teacher(SemanticsConfig(text_encoder="ours", teacher="images")), DenseTeacher
    )
    assert asked == ["mine", "ours"]


def test_some_views_may_be_distilled_alone(distilling):
    """One view: the same loss as that of a batch whose targets are that view."""
    task = build_task(dataclasses.replace(distilling, semantics=SemanticsConfig(views=1)))
    batch = task.batch(0, range(2))
    with torch.no_grad():
        geometry = task.groups.encode(batch.context.images)
        output = task.model(batch.context.images, geometry)
    cameras = supervision_cameras(batch.targets, batch.context, geometry.points)
    one = dataclasses.replace(batch, targets=batch.targets.select([0]))
    first = Cameras(cameras.cam_from_world[:, :1], cameras.intrinsics[:, :1], cameras.size_hw)
    some = task._distillation(batch, output, cameras)
    every = build_task(distilling)
    assert vars(some) == vars(every._distillation(one, output, first))
    assert vars(some) != vars(every._distillation(batch, output, cameras))


def test_a_negative_number_of_views_is_refused():
    with pytest.raises(ValueError, match=r"semantics\.views must be >= 0, got -1"):
        SemanticsConfig(views=-1)
