"""Teachers of semantics against loops."""

from __future__ import annotations

import pytest
import torch
from toy_teachers import Letters, Words

from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.errors import UserError
from tokengroups.text import teachers
from tokengroups.text.cache import EmbeddingCache
from tokengroups.text.teachers import DenseTeacher, LabelTeacher, SemanticsConfig, look_up


@pytest.fixture
def cache(tmp_path) -> EmbeddingCache:
    return EmbeddingCache(Letters(), tmp_path)


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


def test_a_dense_teacher_has_targets_at_the_centres_of_patches(cache):
    views = to_views(generate_room(3, 0, num_views=2, size=24), [0, 1])
    targets = DenseTeacher(cache).targets(views, {})
    assert targets.features.shape == (2 * 16, 6)
    assert (targets.pixel_idx >= 0).sum() == 32
    grid = Letters().encode_images(views.images)
    for view, row, column in [(0, 0, 0), (0, 3, 1), (1, 2, 3)]:
        index = targets.pixel_idx[view, 6 * row + 3, 6 * column + 3]
        torch.testing.assert_close(targets.features[index], grid[view, :, row, column])
    with pytest.raises(UserError, match="needs CLIP or SigLIP, but 'words:1' encodes text only"):
        DenseTeacher(EmbeddingCache(Words()))


def test_load_teacher_takes_the_configured_encoder(monkeypatch):
    asked = []
    monkeypatch.setattr(teachers, "load_text_encoder", lambda name: asked.append(name) or Letters())
    assert isinstance(teachers.load_teacher(SemanticsConfig(text_encoder="mine")), LabelTeacher)
    assert isinstance(teachers.load_teacher(SemanticsConfig(text_encoder="ours", teacher="images")), DenseTeacher)
    assert asked == ["mine", "ours"]


def test_a_negative_number_of_views_is_refused():
    with pytest.raises(ValueError, match="views must be a whole number from 0 to 1,000, got -1"):
        SemanticsConfig(views=-1)
