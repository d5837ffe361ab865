"""Groups by text: cosines, calibrated probabilities and the order of the answers, against loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scenes import random_scene
from torch.nn import functional

from tokengroups.editing import parse_edits, select_groups
from tokengroups.errors import UserError
from tokengroups.retrieval import find_groups, match_probabilities, name_groups, semantics_of, text_cosines
from tokengroups.scene import group_centre, save_scene
from tokengroups.types import TokenScene

GROUPS, DIM = 5, 8


@pytest.fixture
def scene() -> TokenScene:
    made = random_scene(groups=GROUPS, anchors_per_group=3, semantic_dim=DIM)
    assert made.semantics is not None
    embeddings = torch.eye(GROUPS, DIM)
    embeddings[3] = functional.normalize(embeddings[2] + 0.5 * embeddings[3], dim=0)
    embeddings[4] = 0  # without an embedding
    calibration = torch.tensor([10.0, 0.7])
    return replace(
        made, semantics=replace(made.semantics, embeddings=embeddings, calibration=calibration), group_names=()
    )


def axis(index: int) -> torch.Tensor:
    return torch.eye(DIM)[index]


def test_groups_come_by_descending_cosine_with_calibrated_probabilities(scene):
    text = functional.normalize(axis(2) + 0.2 * axis(0), dim=0)
    matches = find_groups(scene, text)
    cosines = [float(torch.dot(text.double(), e.double())) for e in scene.semantics.embeddings]
    known = sorted(range(4), key=lambda column: -cosines[column])
    assert [m.id for m in matches] == [int(scene.group_ids[column]) for column in (*known, 4)]
    for match, column in zip(matches, known, strict=False):
        assert match.cosine == pytest.approx(cosines[column], abs=1e-6)
        assert match.probability == pytest.approx(1 / (1 + math.exp(-10 * (cosines[column] - 0.7))), abs=1e-5)
        assert match.centre == pytest.approx(group_centre(scene, column).tolist())
    assert matches[-1].probability == 0
    assert find_groups(scene, text, top=2) == matches[:2]


def test_a_permutation_of_the_groups_permutes_nothing_in_the_answer(scene):
    order = torch.tensor([3, 0, 4, 2, 1])
    permuted = replace(
        scene,
        assignment=scene.assignment[:, order],
        group_ids=scene.group_ids[order],
        group_tokens=scene.group_tokens[order],
        semantics=replace(scene.semantics, embeddings=scene.semantics.embeddings[order]),
    )
    text = functional.normalize(torch.arange(1.0, DIM + 1), dim=0)
    assert [m.id for m in find_groups(permuted, text)] == [m.id for m in find_groups(scene, text)]


def test_copies_of_a_group_come_in_order_whatever_the_rounding(scene):
    lengths = 1 + 1e-8 * torch.arange(GROUPS).double()[:, None]  # the last one is the nearest
    embeddings = lengths * axis(1)
    copies = replace(scene, semantics=replace(scene.semantics, embeddings=embeddings))
    for top in (None, 2):
        assert [m.id for m in find_groups(copies, axis(1).double(), top)] == scene.group_ids.tolist()[:top]


def test_every_group_gets_the_best_name_of_the_vocabulary(scene):
    names, embeddings = ["zero", "one", "two"], torch.stack([axis(0), axis(1), axis(2)])
    labels = name_groups(scene, names, embeddings)
    assert [label.name for label in labels[:4]] == ["zero", "one", "two", "two"]
    assert labels[0].probability == pytest.approx(1 / (1 + math.exp(-3.0)), abs=1e-5)
    assert labels[4].probability == 0
    with pytest.raises(UserError, match="vocabulary is empty"):
        name_groups(scene, [], torch.zeros(0, DIM))


def test_probabilities_keep_their_batch_axes(scene):
    cosines = text_cosines(scene.semantics, torch.eye(DIM)[:3])
    assert cosines.shape == (3, GROUPS)
    rows = torch.stack([match_probabilities(scene.semantics, row) for row in cosines])
    torch.testing.assert_close(match_probabilities(scene.semantics, cosines), rows)


def test_a_scene_without_semantics_is_refused_with_a_remedy(scene):
    with pytest.raises(UserError, match="has no semantics: reconstruct it with weights that have"):
        semantics_of(replace(scene, semantics=None))


# --- texts in edits ---------------------------------------------------------------------------------------------------

TEXTS = {"zero": axis(0), "two": axis(2), "nothing": axis(7)}


def embed(_: TokenScene, text: str) -> torch.Tensor:
    return TEXTS[text]


def test_a_text_selects_what_it_matches(scene):
    ids = scene.group_ids.tolist()
    assert select_groups(scene, ["zero"], embed) == (ids[0],)
    assert select_groups(scene, [ids[1], "zero", ids[1]], embed) == (ids[1], ids[0])
    assert select_groups(scene, ["two"], embed, every=True) == (ids[2], ids[3])
    with pytest.raises(UserError, match=rf"'two' matches 2 groups: {ids[2]} \(probability 0.95\), {ids[3]} .*--all"):
        select_groups(scene, ["two"], embed)
    with pytest.raises(UserError, match=r"no group is 'nothing'; the nearest are \d+ \(probability 0.00\)"):
        select_groups(scene, ["nothing"], embed, every=True)


def test_a_groups_own_name_comes_first_and_needs_no_semantics(scene):
    named = replace(scene, semantics=None, group_names=("Lamp", "", "", "lamp", "zero"))
    ids = scene.group_ids.tolist()
    assert select_groups(named, ["zero"], embed) == (ids[4],)
    assert select_groups(named, ["LAMP"], embed, every=True) == (ids[0], ids[3])
    with pytest.raises(UserError, match="'lamp' matches 2 groups"):
        select_groups(named, ["lamp"], embed)
    with pytest.raises(UserError, match="has no semantics"):
        select_groups(named, ["two"], embed)


def test_texts_are_resolved_in_the_scene_of_the_instruction(scene, tmp_path):
    ids = scene.group_ids.tolist()
    source = tmp_path / "other.safetensors"
    save_scene(source, replace(scene, group_ids=scene.group_ids + 100))
    move, insert, remove = parse_edits(f"move two 1 0 0 insert {source}:zero --at 0 0 1 remove {ids[1]}".split())
    assert move.resolve(scene, embed, every=True).groups == (ids[2], ids[3])
    assert insert.resolve(scene, embed).groups == (ids[0] + 100,)
    assert remove.resolve(scene, embed) == remove
    (several,) = parse_edits(f"insert {source}:two --at 0 0 1".split())
    with pytest.raises(UserError, match="matches 2 groups"):
        several.resolve(scene, embed, every=True)
