"""Semantics of a scene survive saving, and follow their groups and anchors through every edit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scenes import random_scene

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.editing import duplicate, insert, keep, move, remove
from tokengroups.errors import UserError
from tokengroups.scene import load_scene, save_scene
from tokengroups.types import Semantics, TokenScene


@pytest.fixture
def scene() -> TokenScene:
    return random_scene(groups=4, anchors_per_group=3, semantic_dim=6)


def semantics_by_anchor(scene: TokenScene) -> dict[tuple[float, ...], tuple[torch.Tensor, torch.Tensor]]:
    """Embedding of the owning group and residual of every anchor, by the anchor's position."""
    assert scene.semantics is not None
    owners = scene.assignment.argmax(dim=1)
    rows = zip(scene.anchors, scene.semantics.embeddings[owners], scene.semantics.residuals, strict=True)
    return {tuple(anchor.tolist()): (embedding, residual) for anchor, embedding, residual in rows}


def semantics(scene: TokenScene) -> Semantics:
    assert scene.semantics is not None
    return scene.semantics


def test_a_scene_comes_back_bit_equal(scene, tmp_path):
    save_scene(tmp_path / "a.safetensors", scene)
    loaded = semantics(load_scene(tmp_path / "a.safetensors"))
    for name in ("embeddings", "residuals", "projection", "calibration"):
        assert torch.equal(getattr(loaded, name), getattr(scene.semantics, name))
    assert loaded.encoder == "words:1"
    save_scene(tmp_path / "b.safetensors", replace(scene, semantics=None))
    assert load_scene(tmp_path / "b.safetensors").semantics is None


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("embeddings", torch.zeros(3, 6), r"embeddings has shape \[3, 6\], the other tensors ask for \[4, 6\]"),
        ("residuals", torch.full((12, 2), float("nan")), "residuals holds NaN"),
        ("projection", torch.zeros(6, 3), r"projection has shape \[6, 3\]"),
        ("calibration", torch.zeros(3), r"calibration has shape \[3\]"),
    ],
)
def test_damaged_semantics_are_one_line(scene, tmp_path, name, value, fault):
    path = tmp_path / "a.safetensors"
    save_scene(path, scene)
    write_tensors(path, {**read_tensors(path), name: value}, read_metadata(path))
    with pytest.raises(UserError, match=fault):
        load_scene(path)


def test_inconsistent_semantics_are_not_saved(scene, tmp_path):
    wrong = replace(scene, semantics=replace(semantics(scene), embeddings=torch.zeros(3, 6)))
    with pytest.raises(ValueError, match="inconsistent scene"):
        save_scene(tmp_path / "a.safetensors", wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["embeddings", "residuals", "projection", "calibration"])
def test_missing_tensors_are_one_line(scene, tmp_path, missing):
    path = tmp_path / "a.safetensors"
    save_scene(path, scene)
    tensors = read_tensors(path)
    del tensors[missing]
    write_tensors(path, tensors, read_metadata(path))
    with pytest.raises(UserError, match=f"missing or unexpected .{missing}"):
        load_scene(path)


def test_what_stays_keeps_its_semantics(scene):
    before = semantics_by_anchor(scene)
    for edited in (remove(scene, 5), keep(scene, [2, 11]), move(scene, 5, (0.0, 0.0, 0.0))):
        after = semantics_by_anchor(edited)
        assert set(after) <= set(before)
        assert all(torch.equal(a, b) for at in after for a, b in zip(after[at], before[at], strict=True))


def test_a_copy_has_the_same_semantics(scene):
    copied = duplicate(scene, 5, (1.0, 0.0, 0.0))
    assert torch.equal(semantics(copied).embeddings[-1], semantics(scene).embeddings[1])
    mine = scene.assignment.argmax(dim=1) == 1
    assert torch.equal(semantics(copied).residuals[len(scene.anchors) :], semantics(scene).residuals[mine])


def test_an_inserted_group_keeps_its_semantics_if_the_text_encoders_are_the_same(scene):
    other = random_scene(groups=3, anchors_per_group=2, semantic_dim=6, seed=7)
    mine = other.assignment.argmax(dim=1) == 2
    same = insert(scene, other, 8, (0.0, 0.0, 2.0))
    assert torch.equal(semantics(same).embeddings[-1], semantics(other).embeddings[2])
    assert torch.equal(semantics(same).residuals[-2:], semantics(other).residuals[mine])
    turned = replace(other, semantics=replace(semantics(other), projection=torch.ones(6, 2)))
    partly = insert(scene, turned, 8, (0.0, 0.0, 2.0))
    assert torch.equal(semantics(partly).embeddings[-1], semantics(other).embeddings[2])
    assert (semantics(partly).residuals[-2:] == 0).all()
    for foreign in (replace(other, semantics=replace(semantics(other), encoder="words:2")), random_scene(seed=7)):
        mute = insert(scene, foreign, 8, (0.0, 0.0, 2.0))
        assert (semantics(mute).embeddings[-1] == 0).all() and (semantics(mute).residuals[-2:] == 0).all()
    assert insert(random_scene(), other, 8, (0.0, 0.0, 2.0)).semantics is None


def test_edits_of_scenes_with_semantics_can_be_saved(scene, tmp_path):
    edited = duplicate(remove(scene, [2]), 5, (0.5, 0.0, 0.0))
    save_scene(tmp_path / "a.safetensors", edited)
    assert torch.equal(semantics(load_scene(tmp_path / "a.safetensors")).embeddings, semantics(edited).embeddings)
