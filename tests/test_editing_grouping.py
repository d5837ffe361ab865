"""Names of groups, and groups that become one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scenes import random_scene

from tokengroups.editing import merge, move, parse_edits, rename
from tokengroups.editing.grouping import with_owners
from tokengroups.errors import UserError
from tokengroups.scene.groups import anchor_mask, column_of, gaussian_columns, gaussian_mask
from tokengroups.types import TokenScene


def owners(scene: TokenScene) -> torch.Tensor:
    return scene.group_ids[gaussian_columns(scene)]


def test_rename_changes_one_name() -> None:
    scene = random_scene()
    assert rename(scene, 5, "  red \n lamp ").group_names == ("thing 0", "red lamp", "thing 2")
    assert rename(scene, "thing 1", "").group_names == ("thing 0", "", "thing 2")
    nameless = replace(scene, group_names=())
    assert rename(nameless, 8, "lamp").group_names == ("", "", "lamp")
    assert rename(rename(nameless, 8, "lamp"), 8, "").group_names == ()
    for name in ("1_0", "\N{ARABIC-INDIC DIGIT THREE}", "caf\udce9"):  # no ids, so that they may be used as names
        assert move(rename(scene, 5, name), name, (0, 0, 1)).provenance["edits"][-1]["group"] == 5
    assert rename(scene, 5, "<script>").provenance["edits"] == [{"operation": "rename", "group": 5, "name": "<script>"}]


@pytest.mark.parametrize("name", ["7", "-1.5", "nan", "-lamp", None, 5, b"lamp", "a\0b", "\ud800"])
def test_names_that_could_not_be_given_again_are_refused(name: object) -> None:
    with pytest.raises(UserError, match="the name must be a text that is neither a number"):
        rename(random_scene(), 5, name)


def test_a_name_may_be_the_word_of_an_operation() -> None:
    scene = random_scene()
    for edit in parse_edits(["rename", "5", "move", "rename", "8", "a:B", "move", "8", "0", "0", "1"]):
        scene = edit.apply(scene)
    assert scene.group_names == ("thing 0", "move", "a:B")


def test_merged_group_owns_what_its_parts_owned_and_probabilities_add_up() -> None:
    scene = random_scene()
    merged = merge(scene, [8, "thing 0"])
    assert merged.group_ids.tolist() == [5, 8] and merged.group_names == ("thing 1", "thing 2")
    assert torch.equal(owners(merged), torch.where(owners(scene) == 2, 8, owners(scene)))
    for name, values in vars(scene.gaussians).items():
        assert torch.equal(values, getattr(merged.gaussians, name)), name
    assert torch.equal(merged.anchor_ids, scene.anchor_ids) and torch.equal(merged.anchors, scene.anchors)
    torch.testing.assert_close(merged.assignment[:, 1], scene.assignment[:, [0, 2]].sum(dim=1))
    assert torch.equal(merged.assignment[:, 0], scene.assignment[:, 1])
    assert merged.provenance["edits"][-1] == {"operation": "merge", "groups": [8, 2]}


def test_means_are_weighted_by_opacity_and_leave_the_unknown_out() -> None:
    scene = replace(random_scene(semantic_dim=6), group_scores=torch.tensor([0.9, 0.0, 0.3]))
    assert scene.semantics is not None
    weights = torch.stack([scene.gaussians.opacities[gaussian_mask(scene, column)].sum() for column in range(3)])
    merged = merge(scene, [2, 5, 8])
    assert merged.semantics is not None and merged.group_scores is not None
    torch.testing.assert_close(merged.group_tokens[0], (weights / weights.sum()) @ scene.group_tokens)
    expected = torch.nn.functional.normalize(weights @ scene.semantics.embeddings, dim=0)
    torch.testing.assert_close(merged.semantics.embeddings[0], expected)
    assert torch.equal(merged.semantics.residuals, scene.semantics.residuals)
    score = (0.9 * weights[0] + 0.3 * weights[2]) / (weights[0] + weights[2])  # that of group 5 is unknown
    torch.testing.assert_close(merged.group_scores, score[None])
    unknown = replace(scene, semantics=replace(scene.semantics, embeddings=torch.zeros(3, 6)))
    both = merge(replace(unknown, group_scores=torch.zeros(3)), [2, 5])
    assert both.semantics is not None and not both.semantics.embeddings.any()
    assert both.group_scores is not None and both.group_scores.tolist() == [0, 0]


def test_anchors_of_others_stay_with_them_where_the_sum_is_larger() -> None:
    scene = random_scene()
    rows = torch.tensor([[0.35, 0.4, 0.25], [0.3, 0.4, 0.3], [0.2, 0.6, 0.2]])
    scene = replace(scene, assignment=torch.cat([rows, scene.assignment[3:]]))
    merged = merge(scene, [2, 8])
    mine = anchor_mask(scene, column_of(scene, 5))
    assert torch.equal(anchor_mask(merged, column_of(merged, 5)), mine)
    torch.testing.assert_close(merged.assignment.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(merged.assignment[:3], torch.tensor([[0.49, 0.51], [0.49, 0.51], [0.4, 0.6]]))


def test_equal_probabilities_leave_the_owner() -> None:
    scene = random_scene(groups=3, anchors_per_group=1)
    thirds = torch.full((1, 3), 1 / 3)  # owned by the first column
    scene = replace(scene, assignment=torch.cat([thirds, torch.eye(3)[1:]]))
    merged = merge(scene, [8, 2])
    assert torch.equal(owners(merged), torch.where(owners(scene) == 2, 8, owners(scene)))


def test_with_owners_keeps_sums_and_rows_that_are_right() -> None:
    rows = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    assert torch.equal(with_owners(rows, rows.argmax(dim=1)), rows)
    second = rows.scatter(1, rows.argmax(dim=1, keepdim=True), -1.0).argmax(dim=1)
    forced = with_owners(rows, second)
    assert torch.equal(forced.argmax(dim=1), second)
    torch.testing.assert_close(forced.sum(dim=1), rows.sum(dim=1))
    assert torch.equal(with_owners(torch.ones(2, 1), torch.zeros(2, dtype=torch.int64)), torch.ones(2, 1))


def test_fewer_than_two_groups_are_refused() -> None:
    for groups in (5, [5, 5], [5, "thing 1"], []):
        with pytest.raises(UserError, match="merge: give two groups or more"):
            merge(random_scene(), groups)
