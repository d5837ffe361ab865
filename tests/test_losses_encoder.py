"""The objective of a geometry encoder: scene by scene, with the matching term where cells are matched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.tolerances import tolerance
from tests.walls import BATCH, HEIGHT, NUM_VIEWS, WIDTH, look_at_wall, with_holes
from tokengroups.encoders import Geometry, geometry_of
from tokengroups.encoders.vggt import VGGTOutput
from tokengroups.encoders.vggt.pose_encoding import encode_pose
from tokengroups.encoders.vggt_tiny import VGGTTinyOutput
from tokengroups.losses.cell_matching import cell_targets, match_logits, matching_cells_loss
from tokengroups.losses.encoder import (
    EncoderLossWeights,
    TeacherLossWeights,
    encoder_losses,
    teacher_losses,
    teacher_targets,
)
from tokengroups.losses.geometry import GeometryLossWeights, geometry_losses
from tokengroups.types import Views

WEIGHTS = EncoderLossWeights(camera=3.0, field_of_view=0.25, depth=2.0, matching=0.7)


def random_answer(cells: int = 96) -> VGGTTinyOutput:
    return VGGTTinyOutput(
        tokens=(),
        pose_encodings=tuple(torch.randn(BATCH, NUM_VIEWS, 9) for _ in range(4)),
        depth=torch.rand(BATCH, NUM_VIEWS, HEIGHT, WIDTH),
        depth_confidence=1 + torch.rand(BATCH, NUM_VIEWS, HEIGHT, WIDTH),
        match_descriptors=torch.randn(BATCH, NUM_VIEWS, cells, 8),
    )


def as_vggt(output: VGGTTinyOutput) -> VGGTOutput:
    return VGGTOutput(output.tokens, output.pose_encodings, output.depth, output.depth_confidence, None, None)


def test_the_total_is_the_weighted_sum_of_its_parts():
    losses = encoder_losses(random_answer(), with_holes(look_at_wall()), WEIGHTS)
    named = losses.terms
    assert not any(name.startswith("points") for name in named) and "total" not in named
    camera = named["camera.translation"] + named["camera.rotation"] + 0.25 * named["camera.field_of_view"]
    depth = named["depth.confidence"] + named["depth.regression"] + named["depth.gradient"]
    expected = 3 * camera + 2 * depth + 0.7 * named["matching"]
    torch.testing.assert_close(losses.total, expected, **tolerance("float32"))


def test_every_scene_counts_the_same_whatever_it_shows():
    """A scene with a tenth of the valid pixels and visible cells weighs as much as the other."""
    output, views = random_answer(), look_at_wall()
    views.depth[1] *= torch.rand(NUM_VIEWS, HEIGHT, WIDTH) < 0.3
    whole = encoder_losses(output, views, WEIGHTS)
    for name, value in {"total": whole.total, **whole.terms}.items():
        parts = []
        for scene in range(BATCH):
            one = slice(scene, scene + 1)
            losses = encoder_losses(
                output.map(lambda x, one=one: x[one]), views.map(lambda x, one=one: x[one]), WEIGHTS
            )
            parts.append(losses.total if name == "total" else losses.terms[name])
        torch.testing.assert_close(value, sum(parts) / BATCH)


def test_the_parts_are_vggt_s_losses_and_the_matching_loss():
    output, views = random_answer(), look_at_wall()
    first, scene = (x.map(lambda tensor: tensor[:1]) for x in (output, views))
    losses = encoder_losses(first, scene, WEIGHTS)
    vggt = geometry_losses(first, scene, WEIGHTS)
    logits = match_logits(first.match_descriptors)
    matching = matching_cells_loss(logits, cell_targets(scene, 96))
    assert matching > 0
    torch.testing.assert_close(losses.terms["matching"], matching)
    torch.testing.assert_close(losses.total, vggt.total + 0.7 * matching)
    assert losses.terms.keys() == vggt.terms.keys() | {"matching"}


def test_an_encoder_without_descriptors_has_vggt_s_losses_alone():
    output, views = random_answer(), look_at_wall()
    for silent in (as_vggt(output), replace(output, match_descriptors=None)):
        losses = encoder_losses(silent, views, WEIGHTS)
        assert "matching" not in losses.terms
        scenes = [
            geometry_losses(*(x.map(lambda t, i=i: t[i : i + 1]) for x in (silent, views)), WEIGHTS).total
            for i in range(BATCH)
        ]
        torch.testing.assert_close(losses.total, sum(scenes) / BATCH)


def test_weights_are_vggt_s_and_one_more():
    shared = set(vars(EncoderLossWeights())) - {"matching"}
    assert {name: getattr(EncoderLossWeights(), name) for name in shared} == vars(GeometryLossWeights())


def as_teacher(views: Views, scale: float = 1.0) -> Geometry:
    """An encoder that knows the truth up to a scale, with random confidences."""
    poses = views.cameras.cam_from_world.clone()
    poses[..., :3, 3] *= scale
    confidence = 1 + torch.rand(views.depth.shape, generator=torch.Generator().manual_seed(3))
    features = torch.zeros(BATCH, NUM_VIEWS, 1, 2, 2)
    return geometry_of(features, scale * views.depth, confidence, replace(views.cameras, cam_from_world=poses))


def test_a_normalised_teacher_that_is_right_is_ground_truth():
    output, views = as_vggt(random_answer()), with_holes(look_at_wall())
    weights = TeacherLossWeights(camera=3.0, depth=2.0, scale="normalised")
    expected = encoder_losses(output, views, EncoderLossWeights(camera=3.0, depth=2.0))
    for scale in (1.0, 7.0):
        found = teacher_losses(output, as_teacher(views, scale), weights)
        assert found.terms.keys() == expected.terms.keys()
        for name, value in expected.terms.items():
            torch.testing.assert_close(found.terms[name], value, **tolerance("float32_chain"))
        torch.testing.assert_close(found.total, expected.total, **tolerance("float32_chain"))


def test_a_student_that_answers_as_its_teacher_has_no_error():
    teacher = as_teacher(look_at_wall(), scale=5.0)
    cameras = teacher.cameras
    encoding = encode_pose(cameras.cam_from_world, cameras.intrinsics, cameras.size_hw)
    answer = VGGTOutput((), (encoding,) * 4, teacher.depth, teacher.confidence, None, None)
    terms = teacher_losses(answer, teacher, TeacherLossWeights()).terms
    for name in ("camera.translation", "camera.rotation", "camera.field_of_view", "depth.regression", "depth.gradient"):
        assert terms[name].item() == pytest.approx(0, abs=1e-6), name
    moved = teacher_losses(answer, teacher, TeacherLossWeights(scale="normalised")).terms
    assert moved["camera.translation"] > 0.01 and moved["depth.regression"] > 0.1


def test_the_least_certain_depths_of_every_scene_do_not_count():
    teacher = as_teacher(look_at_wall())
    teacher.confidence[1] *= 10  # the shares are those of each scene
    targets = teacher_targets(teacher, TeacherLossWeights(uncertain=0.3))
    for scene in range(BATCH):
        confidence = teacher.confidence[scene].flatten()
        ranked = confidence.argsort()
        dropped = round(0.3 * (len(confidence) - 1))
        expected = torch.ones(len(confidence), dtype=torch.bool)
        expected[ranked[:dropped]] = False
        assert torch.equal(targets.valid[scene].flatten(), expected) and 0.25 < dropped / len(confidence) < 0.35
    assert bool(teacher_targets(teacher, TeacherLossWeights()).valid.all())


def test_the_teacher_gets_no_gradient():
    teacher = as_teacher(look_at_wall()).map(lambda tensor: tensor.clone().requires_grad_())
    output = as_vggt(random_answer()).map(lambda tensor: tensor.requires_grad_())
    teacher_losses(output, teacher, TeacherLossWeights()).total.backward()
    assert output.depth is not None and output.depth.grad is not None and output.depth.grad.abs().max() > 0
    assert teacher.depth.grad is None and teacher.cameras.cam_from_world.grad is None
