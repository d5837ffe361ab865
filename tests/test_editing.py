"""Edits as laws: what changes, what must not, and that colours turn with a group."""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import random_scene
from tolerances import tolerance

from tokengroups.cli.main import main
from tokengroups.editing import (
    EDITS,
    Edit,
    duplicate,
    insert,
    keep,
    merge,
    move,
    operations_help,
    parse_edits,
    remove,
    rename,
    rescale,
    rotate,
    scale,
    split,
)
from tokengroups.editing.base import record
from tokengroups.errors import UserError
from tokengroups.gaussians import covariances
from tokengroups.geometry import invert_rigid, rigid, rotation_from_quaternion
from tokengroups.scene import group_centre, load_scene, render_views, save_scene
from tokengroups.scene.consistency import MAX_GROUP_ID
from tokengroups.scene.groups import column_of, gaussian_mask
from tokengroups.types import Cameras, TokenScene


def of_group(scene: TokenScene, group: int) -> torch.Tensor:
    return gaussian_mask(scene, column_of(scene, group))


def centre_of(scene: TokenScene, group: int) -> torch.Tensor:
    return group_centre(scene, column_of(scene, group))


def assert_others_untouched(before: TokenScene, after: TokenScene, group: int) -> None:
    others = ~of_group(before, group)
    for name, values in vars(before.gaussians).items():
        assert torch.equal(values[others], getattr(after.gaussians, name)[: len(others)][others]), name


EXAMPLES: dict[str, Callable[[TokenScene], TokenScene]] = {
    "remove": lambda scene: remove(scene, 5),
    "keep": lambda scene: keep(scene, [8, 2]),
    "move": lambda scene: move(scene, 5, (0.1, -0.2, 0.3)),
    "rotate": lambda scene: rotate(scene, 5, "y", 30),
    "scale": lambda scene: scale(scene, 5, 2),
    "duplicate": lambda scene: duplicate(scene, 5, (0.5, 0, 0)),
    "insert": lambda scene: insert(scene, random_scene(seed=9, degree=2), 2, (0, 0.2, 1.5)),
    "rename": lambda scene: rename(scene, 5, "red lamp"),
    "merge": lambda scene: merge(scene, [5, 2]),
    "rescale": lambda scene: rescale(scene, 2.5),
    "split": lambda scene: split(scene, 5, (*scene.anchors[1] - 0.3, *scene.anchors[1] + 0.3)),
}
CHANGED = {"rename": [5], "merge": [5], "split": [5]}  # groups that get other names or members


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_edit_gives_a_scene_that_can_be_saved_and_leaves_its_argument_alone(name: str, tmp_path: Path) -> None:
    scene, copy = random_scene(), random_scene()
    edited = EXAMPLES[name](scene)
    save_scene(tmp_path / "a.safetensors", edited)
    again = load_scene(tmp_path / "a.safetensors")
    assert again.provenance == edited.provenance
    assert again.provenance["edits"][-1]["operation"] == name
    assert torch.equal(again.gaussians.means, edited.gaussians.means)
    assert torch.equal(scene.gaussians.means, copy.gaussians.means) and torch.equal(scene.assignment, copy.assignment)
    assert "edits" not in scene.provenance


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_edit_keeps_the_owner_of_what_stays(name: str) -> None:
    scene = random_scene()
    edited = EXAMPLES[name](scene)
    for group in set(scene.group_ids.tolist()) & set(edited.group_ids.tolist()) - {*CHANGED.get(name, [])}:
        assert int(of_group(edited, group).sum()) == int(of_group(scene, group).sum())
        kept = edited.group_names[column_of(edited, group)]
        assert kept == scene.group_names[column_of(scene, group)]


def test_remove_takes_one_group_out_and_renormalises() -> None:
    scene = random_scene()
    edited = remove(scene, [5])
    assert edited.group_ids.tolist() == [2, 8]
    assert torch.equal(edited.gaussians.means, scene.gaussians.means[~of_group(scene, 5)])
    stays = scene.assignment.argmax(dim=1) != 1
    expected = scene.assignment[stays][:, [0, 2]]
    torch.testing.assert_close(edited.assignment, expected / expected.sum(dim=1, keepdim=True))
    assert torch.equal(edited.anchors[edited.anchor_ids], scene.anchors[scene.anchor_ids][~of_group(scene, 5)])
    assert torch.equal(edited.group_tokens, scene.group_tokens[[0, 2]])


def test_keep_is_the_complement_of_remove() -> None:
    scene = random_scene()
    kept, rest = keep(scene, [8, 2, 2]), remove(scene, [5])
    assert torch.equal(kept.gaussians.sh, rest.gaussians.sh) and torch.equal(kept.assignment, rest.assignment)


def test_last_group_cannot_be_removed() -> None:
    for edit in (lambda: remove(random_scene(), [2, 5, 8]), lambda: keep(random_scene(), [])):
        with pytest.raises(UserError, match="needs at least one"):
            edit()


def test_move_shifts_means_and_anchors_only_and_back_again() -> None:
    scene = random_scene()
    edited = move(scene, 5, (0.1, -0.2, 0.3))
    mine, shift = of_group(scene, 5), torch.tensor([0.1, -0.2, 0.3])
    assert torch.equal(edited.gaussians.means[mine], scene.gaussians.means[mine] + shift)
    assert torch.equal(edited.anchors[[1, 4]], scene.anchors[[1, 4]] + shift)
    assert torch.equal(edited.anchors[[0, 2, 3, 5]], scene.anchors[[0, 2, 3, 5]])
    assert torch.equal(edited.gaussians.sh, scene.gaussians.sh)
    assert torch.equal(edited.gaussians.quats, scene.gaussians.quats)
    assert_others_untouched(scene, edited, 5)


def test_rotate_keeps_the_centre_and_turns_right_handed() -> None:
    scene = random_scene()
    edited = rotate(scene, 5, "y", 90.0)
    mine, centre = of_group(scene, 5), centre_of(scene, 5)
    torch.testing.assert_close(centre_of(edited, 5), centre, **tolerance("float32"))
    before, after = scene.gaussians.means[mine] - centre, edited.gaussians.means[mine] - centre
    expected = torch.stack([before[:, 2], before[:, 1], -before[:, 0]], dim=1)  # z -> x, x -> -z
    torch.testing.assert_close(after, expected, **tolerance("float32"))
    assert_others_untouched(scene, edited, 5)


def test_rotations_add_up_and_a_full_turn_is_none() -> None:
    scene = random_scene(degree=3)
    turned = rotate(rotate(scene, 5, (1.0, 2.0, 3.0), 100.0), 5, (1.0, 2.0, 3.0), 260.0)
    for name in ("means", "sh"):
        torch.testing.assert_close(
            getattr(turned.gaussians, name), getattr(scene.gaussians, name), **tolerance("float32_chain")
        )
    torch.testing.assert_close(covariances(turned.gaussians), covariances(scene.gaussians), **tolerance("float32"))


def test_turned_group_looks_the_same_to_a_camera_that_turns_with_it() -> None:
    """Means, covariances and view-dependent colours together, through the renderer."""
    scene = random_scene(groups=1, degree=3)
    angle = torch.deg2rad(torch.tensor(25.0 / 2, dtype=torch.float64))
    turn = rotation_from_quaternion(torch.stack([angle.cos(), 0 * angle, angle.sin(), 0 * angle]))
    centre = centre_of(scene, 2).double()
    new_from_old = rigid(turn, centre - turn @ centre)
    poses = (scene.cameras.cam_from_world.double() @ invert_rigid(new_from_old)).float()
    moved = Cameras(poses, scene.cameras.intrinsics, scene.cameras.size_hw)
    before = list(render_views(scene, scene.cameras))
    after = list(render_views(rotate(scene, 2, "y", 25.0), moved))
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a.color, b.color, rtol=0, atol=1e-4)
    wrong = rotate(scene, 2, "y", 25.0)
    wrong = replace(wrong, gaussians=replace(wrong.gaussians, sh=scene.gaussians.sh))  # colours left behind
    assert (next(iter(render_views(wrong, moved))).color - before[0].color).abs().max() > 0.01


def test_scale_keeps_the_centre_and_grows_everything() -> None:
    scene = random_scene()
    edited = scale(scene, 5, 2.0)
    mine, centre = of_group(scene, 5), centre_of(scene, 5)
    torch.testing.assert_close(
        edited.gaussians.means[mine] - centre, 2 * (scene.gaussians.means[mine] - centre), **tolerance("float32_chain")
    )
    assert torch.equal(edited.gaussians.scales[mine], 2 * scene.gaussians.scales[mine])
    assert_others_untouched(scene, edited, 5)


def test_duplicate_adds_a_shifted_copy_under_a_new_id() -> None:
    scene = random_scene()
    edited = duplicate(scene, 5, (0.5, 0.0, 0.0))
    assert edited.group_ids.tolist() == [2, 5, 8, 9] and edited.group_names[3] == "thing 1"
    mine, copy = of_group(scene, 5), of_group(edited, 9)
    shift = torch.tensor([0.5, 0.0, 0.0])
    assert torch.equal(edited.gaussians.means[copy], scene.gaussians.means[mine] + shift)
    assert torch.equal(edited.gaussians.sh[copy], scene.gaussians.sh[mine])
    assert torch.equal(edited.anchors[-2:], scene.anchors[[1, 4]] + shift)
    assert torch.equal(edited.assignment[-2:, 3], scene.assignment[[1, 4], 1])
    assert torch.equal(edited.assignment[:-2, :3], scene.assignment) and not edited.assignment[:-2, 3].any()
    assert torch.equal(edited.group_tokens[3], scene.group_tokens[1])
    assert_others_untouched(scene, edited, 5)


def test_copy_can_be_removed_again() -> None:
    scene = random_scene()
    back = remove(duplicate(scene, 5), 9)
    assert torch.equal(back.gaussians.means, scene.gaussians.means) and torch.equal(back.anchors, scene.anchors)
    torch.testing.assert_close(back.assignment, scene.assignment)


def test_inserted_group_lands_with_its_centre_at_the_position() -> None:
    scene, other = random_scene(degree=1), random_scene(seed=9, degree=3)
    edited = insert(scene, other, 2, (0.0, 0.2, 1.5))
    assert edited.group_ids.tolist() == [2, 5, 8, 9]
    torch.testing.assert_close(centre_of(edited, 9), torch.tensor([0.0, 0.2, 1.5]), **tolerance("float32"))
    mine, new = of_group(other, 2), of_group(edited, 9)
    assert torch.equal(edited.gaussians.sh[new], other.gaussians.sh[mine])
    torch.testing.assert_close(
        edited.gaussians.means[new] - centre_of(edited, 9), other.gaussians.means[mine] - centre_of(other, 2),
        **tolerance("float32_chain"),
    )  # fmt: skip
    assert torch.equal(edited.group_tokens[3], other.group_tokens[0])
    assert torch.equal(edited.assignment[-2:], torch.tensor([[0.0, 0, 0, 1], [0, 0, 0, 1]]))
    assert edited.cameras.size_hw == scene.cameras.size_hw
    assert edited.provenance["edits"][0]["source"] == other.provenance


def test_group_of_an_imported_scene_comes_without_token() -> None:
    edited = insert(random_scene(token_dim=5), random_scene(token_dim=0, seed=9), 2, (0.0, 0.0, 1.0))
    assert not edited.group_tokens[3].any()
    into = insert(random_scene(token_dim=0), random_scene(token_dim=5, seed=9), 2, (0.0, 0.0, 1.0))
    assert into.group_tokens.shape == (4, 0)


def test_scene_without_names_stays_without() -> None:
    scene = replace(random_scene(), group_names=())
    for edited in (remove(scene, 5), duplicate(scene, 5)):
        assert edited.group_names == ()
    named = insert(scene, random_scene(seed=9), 2, (0.0, 0.0, 1.0))
    assert named.group_names == ("", "", "", "thing 0")


UNKNOWN: dict[str, Callable[[TokenScene], TokenScene]] = {
    "remove": lambda scene: remove(scene, [2, 77]),
    "keep": lambda scene: keep(scene, [77]),
    "move": lambda scene: move(scene, 77, (0.0, 0.0, 0.0)),
    "rotate": lambda scene: rotate(scene, 77, "x", 1.0),
    "scale": lambda scene: scale(scene, 77, 1.0),
    "duplicate": lambda scene: duplicate(scene, 77),
    "insert": lambda scene: insert(scene, scene, 77, (0.0, 0.0, 0.0)),
    "rename": lambda scene: rename(scene, 77, "lamp"),
    "merge": lambda scene: merge(scene, [2, 77]),
    "split": lambda scene: split(scene, 77),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_group_is_refused_with_a_list(name: str) -> None:
    with pytest.raises(UserError, match="there is no group 77; the scene has the groups 2, 5, 8"):
        UNKNOWN[name](random_scene())


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda scene: move(scene, 2, (1.0, 2.0)), "offset must be three finite numbers"),
        (lambda scene: move(scene, 2, (1.0, float("nan"), 0.0)), "offset must be three finite numbers"),
        (lambda scene: rotate(scene, 2, "w", 30.0), "axis must be three"),
        (lambda scene: rotate(scene, 2, (0.0, 0.0, 0.0), 30.0), "axis has length 0"),
        (lambda scene: rotate(scene, 2, "x", float("inf")), "degrees must be a finite number"),
        (lambda scene: scale(scene, 2, 0.0), "factor must be positive"),
        (lambda scene: scale(scene, 2, -2.0), "factor must be positive"),
        (lambda scene: scale(scene, 2, float("inf")), "factor must be positive and finite"),
        (lambda scene: scale(scene, 2, float("nan")), "factor must be positive and finite"),
        (lambda scene: insert(scene, scene, 2, (0.0,)), "position must be three"),
    ],
)
def test_impossible_values_are_refused(edit: Callable[[TokenScene], TokenScene], words: str) -> None:
    with pytest.raises(UserError, match=words):
        edit(random_scene())


# --- numbers, vectors and groups of every kind ----------------------------------------------------------------------

# The same edit as with Python's numbers, by NumPy's or torch's, or by name.
SAME_EDITS: dict[str, tuple[Callable[[TokenScene], TokenScene], Callable[[TokenScene], TokenScene]]] = {
    "ids of NumPy": (lambda s: remove(s, [2, 5]), lambda s: remove(s, np.array([2, 5]))),
    "ids of torch": (lambda s: keep(s, [5, 8]), lambda s: keep(s, torch.tensor([5, 8]))),
    "one id of NumPy": (lambda s: remove(s, 5), lambda s: remove(s, np.int64(5))),
    "one id of torch": (lambda s: keep(s, 5), lambda s: keep(s, torch.tensor(5))),
    "names": (lambda s: remove(s, [2, 8]), lambda s: remove(s, ["Thing 0", "thing  2"])),
    "an id as text": (lambda s: move(s, 8, (0, 0, 1)), lambda s: move(s, "8", (0, 0, 1))),
    "a vector of NumPy": (lambda s: move(s, 5, (0.5, 0, -1)), lambda s: move(s, 5, np.array([0.5, 0, -1]))),
    "a vector of torch": (lambda s: duplicate(s, 5, (0.5, 0, 1)), lambda s: duplicate(s, 5, torch.tensor([0.5, 0, 1]))),
    "a mixed vector": (
        lambda s: insert(s, s, 5, (0.5, 0.0, 1.0)),
        lambda s: insert(s, s, "thing 1", [np.float32(0.5), torch.tensor(0), 1]),
    ),
    "numbers of NumPy": (lambda s: rotate(s, 5, "y", 30.0), lambda s: rotate(s, np.int8(5), "Y", np.float64(30))),
    "numbers of torch": (lambda s: scale(s, 5, 0.5), lambda s: scale(s, torch.tensor([5]), torch.tensor(0.5))),
    "a fraction": (lambda s: scale(s, 5, 0.75), lambda s: scale(s, 5, Fraction(3, 4))),
}


@pytest.mark.parametrize("name", SAME_EDITS)
def test_numbers_and_groups_may_be_of_any_kind(name: str, tmp_path: Path) -> None:
    plain, other = (edit(random_scene()) for edit in SAME_EDITS[name])
    for field, values in vars(plain.gaussians).items():
        assert torch.equal(values, getattr(other.gaussians, field)), field
    assert torch.equal(plain.group_ids, other.group_ids) and torch.equal(plain.anchors, other.anchors)
    assert plain.provenance == other.provenance
    assert json.dumps(plain.provenance) == json.dumps(other.provenance)  # plain numbers, 1 and 1.0 told apart
    save_scene(tmp_path / "a.safetensors", other)
    assert load_scene(tmp_path / "a.safetensors").provenance == plain.provenance


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (True, "a group is given by its id, a whole number, or by its name, got True"),
        (np.True_, "a group is given by its id"),
        (torch.tensor(True), "a group is given by its id"),
        (5.0, "a group is given by its id, a whole number, or by its name, got 5.0"),
        (None, "by its name, got None"),
        (b"thing 1", "a group is given by its id"),
        ([5, [8]], r"a group is given by its id, a whole number, or by its name, got \[8\]"),
        ("5.5", "'5.5' is neither a group id nor a text"),
        ("", "'' is neither a group id nor a text"),
        (10**30, f"there is no group {10**30}; the scene has the groups 2, 5, 8"),
        ("a\x1b[31m lamp", r"no group has the name 'a\\x1b\[31m lamp' .*thing 0, thing 1, thing 2.* tokengroups edit$"),
    ],
)
def test_what_is_no_group_is_refused(group: object, message: str) -> None:
    for edit in (remove, keep):
        with pytest.raises(UserError, match=message):
            edit(random_scene(), group)


def test_a_name_of_several_groups_is_refused() -> None:
    scene = replace(random_scene(), group_names=("lamp", "Lamp", "floor"))
    with pytest.raises(UserError, match="'lamp' matches 2 groups: 2, 5; give their ids"):
        move(scene, "lamp", (0, 0, 1))


@pytest.mark.parametrize(
    "number", [True, "2", b"2", None, 1j, [2.0], 10**400, np.float32("inf"), torch.tensor([1.0, 2.0])]
)
def test_what_is_no_number_is_refused(number: object) -> None:
    scene = random_scene()
    for edit in (
        lambda: scale(scene, 5, number),
        lambda: rotate(scene, 5, "x", number),
        lambda: move(scene, 5, (number, 0, 0)),
        lambda: rotate(scene, 5, (0, number, 0), 30),
        lambda: insert(scene, scene, 5, [0, 0, number]),
    ):
        with pytest.raises(UserError, match="must be (three finite numbers|a finite number|positive and finite), got"):
            edit()


@pytest.mark.parametrize(
    "edit",
    [
        lambda scene: move(scene, 5, (1e38, 0, 0)),
        lambda scene: duplicate(scene, 5, (0, 1e30, 0)),
        lambda scene: insert(scene, scene, 5, (0, 0, -1e38)),
        lambda scene: scale(scene, 5, 1e30),
        lambda scene: scale(scene, 5, 10**30),
        lambda scene: scale(scale(scale(scene, 5, 1e4), 5, 1e4), 5, 1e4),
    ],
)
def test_values_beyond_the_range_of_scenes_are_refused(edit: Callable[[TokenScene], TokenScene]) -> None:
    with pytest.raises(
        UserError, match=r"^(move|duplicate|insert|scale): the edited scene could not be saved: .*beyond"
    ):
        edit(random_scene())


def test_no_copy_gets_an_id_beyond_the_largest() -> None:
    for largest in (MAX_GROUP_ID, 2**63 - 1):
        scene = replace(random_scene(), group_ids=torch.tensor([2, 5, largest]))
        for edit in (lambda scene=scene: duplicate(scene, 5), lambda scene=scene: insert(scene, scene, 5, (0, 0, 1))):
            with pytest.raises(UserError, match=f"no id is left for the copy: the largest of the scene is {largest}"):
                edit()
    last = replace(random_scene(), group_ids=torch.tensor([2, 5, MAX_GROUP_ID - 1]))
    assert duplicate(last, 5).group_ids.tolist()[-1] == MAX_GROUP_ID


def test_a_scene_that_takes_groups_from_itself_keeps_a_short_provenance(tmp_path: Path) -> None:
    """Each insertion records where the group came from; with all of that scene's own records they would double."""
    scene = random_scene()
    for number in range(20):
        scene = insert(scene, scene, 2, (0.1 * number, 0, 1))
    edits = scene.provenance["edits"]
    assert len(edits) == 20 and len(edits[-1]["source"]["edits"]) == 19
    assert edits[-1]["source"]["weights"] == "none" and edits[-1]["source"]["edits"][3]["source"] is None
    assert len(json.dumps(scene.provenance)) < 50_000
    save_scene(tmp_path / "a.safetensors", scene)


def test_a_group_of_embeddings_of_another_length_comes_without_embedding() -> None:
    mine, theirs = random_scene(semantic_dim=6), random_scene(semantic_dim=4, seed=9)
    assert mine.semantics is not None and theirs.semantics is not None
    edited = insert(mine, theirs, 2, (0, 0, 1))
    assert edited.semantics is not None and not edited.semantics.embeddings[3].any()


def test_odd_entries_in_a_provenance_do_not_stop_an_edit() -> None:
    odd = [1, {"operation": "paint"}, None]
    scene = replace(random_scene(), provenance={"edits": odd})
    for edit in (lambda: remove(scene, 5), lambda: insert(scene, scene, 5, (0, 0, 1))):
        assert edit().provenance["edits"][:-1] == odd


def test_an_edit_of_ones_own_records_plain_json() -> None:
    details = {"factor": np.float32(0.5), "box": torch.ones(2, 2), "path": Path("a/b"), "ids": (np.int64(1),)}
    recorded = record(random_scene(), "tint", **details).provenance["edits"][-1]
    expected = {"operation": "tint", "factor": 0.5, "box": [[1.0, 1.0], [1.0, 1.0]], "path": "a/b", "ids": [1]}
    assert recorded == expected and type(recorded["factor"]) is float
    with pytest.raises(ValueError, match="tint: details that are no JSON"):
        record(random_scene(), "tint", brush=object())


def test_names_with_odd_characters_survive_edits_and_files(tmp_path: Path) -> None:
    names = ("caf\udce9", "a\x00b\x1b[31m", "\N{WOMAN}\u200d\N{FIRE ENGINE}")
    scene = keep(duplicate(replace(random_scene(), group_names=names), "caf\udce9"), [2, 5, 8, 9])
    save_scene(tmp_path / "a.safetensors", scene)
    assert load_scene(tmp_path / "a.safetensors").group_names == (*names, "caf\udce9")


# --- written instructions -------------------------------------------------------------------------------------------


def test_written_operations_do_what_the_functions_do(tmp_path: Path) -> None:
    scene, other = random_scene(), random_scene(seed=9)
    save_scene(tmp_path / "other.safetensors", other)
    words = (
        "remove 2 move 5 -0.4 1e-2 -.5 rotate 5 --axis y --degrees -30 rotate 5 --degrees=5 --axis=z scale 5 0.5 "
        "rotate 5 --axis -0.6,0,0.8 --degrees 20 "
        f"duplicate 5 0 -1 0 duplicate 8 insert {tmp_path / 'other.safetensors'}:8 --at -1 0.2 1.5 keep 5 8 9 10 11"
    )
    edited = scene
    for edit in parse_edits(words.split()):
        edited = edit.apply(edited)
    expected = move(remove(scene, 2), 5, (-0.4, 1e-2, -0.5))
    expected = scale(rotate(rotate(expected, 5, "y", -30.0), 5, "z", 5.0), 5, 0.5)
    expected = rotate(expected, 5, (-0.6, 0.0, 0.8), 20.0)
    expected = duplicate(duplicate(expected, 5, (0.0, -1.0, 0.0)), 8)
    expected = keep(insert(expected, other, 8, (-1.0, 0.2, 1.5)), [5, 8, 9, 10, 11])
    assert torch.equal(edited.gaussians.means, expected.gaussians.means)
    assert torch.equal(edited.gaussians.sh, expected.gaussians.sh)
    assert edited.group_ids.tolist() == [5, 8, 9, 10, 11]
    assert edited.provenance == expected.provenance


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "no operation given; there are remove, keep, move"),
        ("delete 3", "unknown operation 'delete'; there are remove"),
        ("3 remove", "unknown operation '3'"),
        ("remove", "'remove': a group is missing; the form is: remove GROUP"),
        ("remove --sofa", "'--sofa' is neither a group id nor a text"),
        ("remove 1.5", "'1.5' is neither a group id nor a text"),
        ("move 3 1 2", "4 arguments expected, 3 found; the form is: move GROUP DX DY DZ"),
        ("move 3 1 2 3 4", "4 arguments expected, 5 found"),
        ("move 3 a b c", "'a b c' should be numbers"),
        ("rotate 3 --axis y", "--degrees is missing"),
        ("rotate 3 --degrees 30", "--axis is missing"),
        ("rotate 3 --axis w --degrees 30", "no axis 'w'"),
        ("rotate 3 --axis 1,0 --degrees 30", "no axis '1,0'"),
        (
            "rotate 3 --axis 1,a,0 --degrees 30",
            "'1 a 0' should be numbers; the form is: rotate GROUP --axis x|y|z|X,Y,Z",
        ),
        ("rotate 3 --axis y --degrees", "--degrees needs 1 value"),
        ("rotate 3 --axis y --axis y --degrees 3", "--axis is given twice"),
        ("rotate 3 4 --axis y --degrees 3", "1 argument expected, 2 found"),
        ("scale 3", "2 arguments expected, 1 found"),
        ("scale 3 big", "'big' should be numbers"),
        ("duplicate 3 1", "4 arguments expected, 2 found"),
        ("insert other.safetensors --at 0 0 1", "written SCENE:GROUP"),
        ("insert :4 --at 0 0 1", "written SCENE:GROUP"),
        ("insert -o=a:4 --at 0 0 1", "a file whose name begins with '-' is written ./-o=a, unlike an option"),
        ("insert a.safetensors:2.5 --at 0 0 1", "'2.5' is neither a group id nor a text"),
        ("insert a.safetensors:4 --at 0 0", "--at needs 3 values"),
        ("insert a.safetensors:4", "--at is missing"),
        ("move 3 1 2 3 remove", "a group is missing"),
        ("rename 3", "2 arguments expected, 1 found; quote a name of several words; the form is: rename GROUP NAME"),
        ("rename 3 red lamp", "2 arguments expected, 3 found; quote a name of several words"),
        ("merge", "a group is missing"),
        ("split 3 1 2 3", "7 arguments expected, 4 found; the form is: split GROUP [X0 Y0 Z0 X1 Y1 Z1]"),
    ],
)
def test_wrong_instructions_are_refused_with_the_right_form(words: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_edits(words.split())
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_inserted_scene_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_scene(tmp_path / "other.safetensors", random_scene(seed=9))
    read: list[object] = []

    def counted(path: str) -> TokenScene:
        read.append(path)
        return load_scene(path)

    monkeypatch.setattr("tokengroups.editing.copies.load_scene", counted)
    scene = random_scene()
    for group in ("thing 2", "8"):  # by name, by id
        (edit,) = parse_edits(["insert", f"{tmp_path / 'other.safetensors'}:{group}", *"--at 0 0 1".split()])
        read.clear()
        edited = edit.resolve(scene, no_embedding).apply(scene)
        assert len(read) == 1
        assert torch.equal(
            edited.gaussians.means, insert(scene, load_scene(read[0]), 8, (0.0, 0.0, 1.0)).gaussians.means
        )


def no_embedding(_scene: TokenScene, text: str) -> torch.Tensor:
    raise AssertionError(f"'{text}' is a name")


def test_texts_are_resolved_before_an_edit_applies() -> None:
    (edit,) = parse_edits(["remove", "thing 1", "8"])
    with pytest.raises(ValueError, match="resolved to group ids first"):
        edit.apply(random_scene())
    assert str(edit) == "removed thing 1, 8"
    assert str(edit.resolve(random_scene(), no_embedding)) == "removed 5, 8"


def test_help_and_messages_list_every_edit() -> None:
    assert list(EDITS) == [
        "remove",
        "keep",
        "move",
        "rotate",
        "scale",
        "duplicate",
        "insert",
        "rename",
        "merge",
        "split",
        "rescale",
    ]
    lines = operations_help().splitlines()
    for line, (name, edit) in zip(lines, EDITS.items(), strict=True):
        assert line.split() == [name, *edit.FORM.split(), *edit.HELP.split()]


# --- edits of one's own ---------------------------------------------------------------------------------------------


@pytest.fixture
def fade_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example in the docstring of `Edit`, in a file of the working folder."""
    example = inspect.cleandoc(Edit.__doc__ or "").partition("::\n\n")[2]
    (tmp_path / "fade.py").write_text(textwrap.dedent(example))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("fade", None)


@pytest.mark.usefixtures("fade_module")
def test_an_edit_of_ones_own_is_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    scene = random_scene()
    save_scene("scene.safetensors", scene)
    words = "edit scene.safetensors move 5 0 0 1 fade:Fade 5 0.5 remove 2 -o out.safetensors"
    assert main(words.split()) == 0
    assert capsys.readouterr().out.splitlines()[:3] == ["moved 5 by 0 0 1", "faded 5 by 0.5", "removed 2"]
    edited = load_scene("out.safetensors")
    expected = remove(move(scene, 5, (0, 0, 1)), 2).gaussians.opacities
    factors = torch.where(of_group(edited, 5), 0.5, 1.0)
    assert torch.equal(edited.gaussians.opacities, expected * factors)
    assert [edit["operation"] for edit in edited.provenance["edits"]] == ["move", "fade", "remove"]
    assert "fade" not in EDITS  # a foreign class never hides one of ours


@pytest.mark.usefixtures("fade_module")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fade:Fade 5", "'fade:Fade 5': 2 arguments expected, 1 found; the form is: fade:Fade GROUP FACTOR"),
        ("remove 2 fade:Fode 5 1", "no operation 'fade:Fode': fade has no Fode"),
        ("remove 2 feed:Fade 5 1", "no operation 'feed:Fade': there is no module feed"),
        ("pathlib:Path 5 1", "pathlib:Path is no operation; derive it from"),
    ],
)
def test_wrong_edits_of_ones_own_are_refused(words: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_edits(words.split())
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_scene_to_insert_is_not_taken_for_an_import_path() -> None:
    for words in ("insert fade:Lamp --at 0 0 1 remove 2", "insert --at 0 0 1 fade:Lamp remove 2"):
        inserted, _ = parse_edits(words.split())
        assert str(inserted) == "inserted group Lamp of fade at 0 0 1"


def test_scores_stay_with_their_groups() -> None:
    plain = random_scene()
    scored = replace(plain, group_scores=torch.tensor([0.9, 0.5, 0.25]))
    assert remove(plain, 5).group_scores is None and duplicate(plain, 5).group_scores is None
    for edited, scores in (
        (remove(scored, 5), [0.9, 0.25]),
        (keep(scored, [8]), [0.25]),
        (duplicate(scored, 5), [0.9, 0.5, 0.25, 0.5]),
        (insert(plain, scored, 8, (0, 0, 3)), [0, 0, 0, 0.25]),
        (insert(scored, plain, 8, (0, 0, 3)), [0.9, 0.5, 0.25, 0]),
        (move(scored, 2, (1, 0, 0)), [0.9, 0.5, 0.25]),
    ):
        assert edited.group_scores is not None and edited.group_scores.tolist() == pytest.approx(scores)
