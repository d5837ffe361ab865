"""Groups that are taken apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scenes import random_scene

import tokengroups as tg
from tokengroups.editing import merge, move, parse_edits, remove, split
from tokengroups.errors import UserError
from tokengroups.nearest import connected
from tokengroups.scene.consistency import MAX_GROUP_ID
from tokengroups.scene.groups import gaussian_columns
from tokengroups.types import TokenScene


def owners(scene: TokenScene) -> torch.Tensor:
    return scene.group_ids[gaussian_columns(scene)]


def test_merged_objects_that_stand_apart_are_found_again() -> None:
    scene = tg.example_scene()
    apart = split(merge(scene, ["box", "ball"]), "box")
    assert apart.group_ids.tolist() == [1, 2, 3] and apart.group_names == ("floor", "box", "box")
    assert torch.equal(owners(apart), owners(scene))
    assert apart.provenance["edits"][-1] == {"operation": "split", "group": 2, "new_groups": [3]}


def test_a_copy_inside_the_same_group_is_found_wherever_it_stands() -> None:
    scene = tg.keep(tg.example_scene(), "ball")
    for offset in ((0.0, 3.0, 0.0), (2.5, 0.0, 0.0)):
        double = merge(tg.duplicate(scene, "ball", offset), [3, 4])
        apart = split(double, 3)
        assert apart.group_ids.tolist() == [3, 4]
        assert torch.equal(apart.gaussians.means[owners(apart) == 4], scene.gaussians.means + torch.tensor(offset))


@pytest.mark.parametrize("anchors", [1, 2, 3, 4, 5, 8])
def test_a_copy_of_a_small_group_is_found_where_it_has_two_anchors(anchors: int) -> None:
    scene = random_scene(groups=2, anchors_per_group=anchors)
    first = int(scene.group_ids[0])
    double = merge(tg.duplicate(scene, first, (50.0, 0.0, 0.0)), [first, int(scene.group_ids.max()) + 1])
    if anchors == 1:  # two places alone tell of no spacing
        with pytest.raises(UserError, match="in one piece"):
            split(double, first)
        return
    apart = split(double, first)
    assert len(apart.group_ids) == 3
    counts = torch.bincount(owners(apart))[[first, int(apart.group_ids.max())]]
    assert counts[0] == counts[1]


def test_a_box_takes_the_anchors_inside_out() -> None:
    scene = random_scene(semantic_dim=4)
    scene = replace(scene, group_scores=torch.tensor([0.9, 0.5, 0.25]))
    corner, other = scene.anchors[4] - 0.5, scene.anchors[4] + 0.5
    apart = split(scene, 5, (*other.tolist(), *corner.tolist()))  # any two opposite corners
    assert apart.group_ids.tolist() == [2, 5, 8, 9] and apart.group_names[3] == "thing 1"
    of_anchor = owners(apart)[::4]
    assert of_anchor.tolist() in ([2, 5, 8, 2, 9, 8], [2, 9, 8, 2, 5, 8])  # parts of one size
    assert torch.equal(apart.assignment.sum(dim=1), scene.assignment.sum(dim=1))
    new = 9 == of_anchor
    assert torch.equal(apart.assignment[new, 3], scene.assignment[new, 1])
    assert torch.equal(apart.assignment[~new, :3], scene.assignment[~new])
    assert torch.equal(apart.group_tokens[3], scene.group_tokens[1])
    assert apart.semantics is not None and scene.semantics is not None
    assert torch.equal(apart.semantics.embeddings[3], scene.semantics.embeddings[1])
    assert apart.group_scores is not None and apart.group_scores.tolist() == pytest.approx([0.9, 0.5, 0.25, 0.5])
    for name, values in vars(scene.gaussians).items():
        assert torch.equal(values, getattr(apart.gaussians, name)), name
    back = merge(apart, [5, 9])
    assert torch.equal(back.assignment, scene.assignment)


def test_largest_part_keeps_the_id() -> None:
    scene = tg.example_scene()
    box = scene.gaussians.means[owners(scene) == 2]
    cut = float(0.2 * box[:, 1].min() + 0.8 * box[:, 1].max())
    for low, high in ((-99, cut), (cut, 99)):
        apart = split(scene, 2, (-99, low, -99, 99, high, 99))
        assert int((owners(apart) == 2).sum()) > int((owners(apart) == 4).sum()) > 0


def test_anchors_in_one_place_say_nothing_about_the_spacing() -> None:
    scene = merge(tg.example_scene(), ["box", "ball"])
    crowd = torch.nonzero(owners(scene) == 2)[:1].expand(1200, 1)[:, 0]  # 1200 more anchors where one of the box is
    scene = replace(
        scene,
        gaussians=scene.gaussians.map(lambda values: torch.cat([values, values[crowd]])),
        anchor_ids=torch.cat([scene.anchor_ids, len(scene.anchors) + torch.arange(1200)]),
        anchors=torch.cat([scene.anchors, scene.anchors[scene.anchor_ids[crowd]]]),
        assignment=torch.cat([scene.assignment, scene.assignment[scene.anchor_ids[crowd]]]),
        semantics=None,
    )
    apart = split(scene, "box")
    assert apart.group_ids.tolist() == [1, 2, 3]
    assert torch.equal(owners(apart)[:-1200], owners(tg.example_scene()))


def test_stray_anchors_join_the_nearest_part() -> None:
    scene = tg.keep(tg.example_scene(), "ball")
    means = scene.gaussians.means.clone()
    means[7] += torch.tensor([0.0, -2.0, 0.0])
    stray = replace(scene, gaussians=replace(scene.gaussians, means=means))
    with pytest.raises(UserError, match="cannot split group 3: it is in one piece; give a box"):
        split(stray, 3)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((-99, -99, -99, 99, 99, 99), "cannot split group 2: the box has all of it on one side"),
        ((50, 50, 50, 99, 99, 99), "cannot split group 2: the box has all of it on one side"),
        ((0, 0, 0, 1, 1), "the box must be six numbers, two corners"),
        (5, "the box must be six numbers"),
        ((0, 0, 0, 1, 1, float("nan")), "the corner of the box must be three finite numbers"),
        ("abcdef", "the corner of the box must be three finite numbers"),
    ],
)
def test_boxes_that_divide_nothing_are_refused(box: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split(tg.example_scene(), 2, box)


def test_no_part_gets_an_id_beyond_the_largest() -> None:
    scene = merge(tg.example_scene(), [2, 3])
    with pytest.raises(UserError, match="no ids are left for the parts"):
        split(replace(scene, group_ids=torch.tensor([MAX_GROUP_ID, 2])), 2)


def test_command_line_form() -> None:
    scene = merge(tg.example_scene(), [2, 3])
    whole, boxed = parse_edits("split 2 split 1 -9 -9 -9 0 9 9".split())
    edited = boxed.apply(whole.apply(scene))
    expected = split(split(scene, 2), 1, (-9, -9, -9, 0, 9, 9))
    assert torch.equal(edited.assignment, expected.assignment) and edited.provenance == expected.provenance
    assert str(boxed) == "split 1"


def test_parts_can_be_edited_on() -> None:
    apart = split(merge(tg.example_scene(), [2, 3]), 2)
    assert remove(move(apart, 3, (0, 0, 1)), 2).group_ids.tolist() == [1, 3]


def test_connected_points_of_a_line_with_gaps() -> None:
    line = torch.arange(100.0)[:, None]
    kept = line[(line[:, 0] % 40) < 35]
    assert connected(kept, 1.0).bincount().tolist() == [35, 35, 20]
    assert connected(kept, 6.0).unique().tolist() == [0]
    assert connected(kept[:1], 1.0).tolist() == [0]
    assert connected(torch.zeros(200, 3), 0.0).max() >= 0
