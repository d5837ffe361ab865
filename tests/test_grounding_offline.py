"""Sentences about a made-up room, in which the right answer of every sentence is known."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from box_room import ROOM, Box, box_room

from tokengroups.errors import UserError
from tokengroups.geometry import rigid, rotation_from_quaternion, transform_points
from tokengroups.grounding import OfflineAnswerer, ground
from tokengroups.grounding.offline import words
from tokengroups.grounding.offline.colors import color_names
from tokengroups.grounding.offline.facts import SceneFacts
from tokengroups.grounding.offline.parser import NotUnderstood, parse_sentence
from tokengroups.types import Semantics

SENTENCES = {
    "the chair nearest to the window": {7},
    "The chair that is closest to the window.": {7},
    "nearest chair to the window": {7},
    "the chair nearest the window": {7},
    "the chair farthest from the window": {8},
    "the largest table": {6},
    "everything on the desk": {13, 14, 15},  # the cup is on a book on it
    "what is on the desk?": {13, 14, 15},
    "everything on the book": {15},
    "everything on the floor": {4, 5, 6, 7, 8, 9, 10, 11, 12, 17},  # not what is on the desk
    "the red box left of the sofa": {10},
    "red boxes": {10, 11},
    "boxes to the left of the sofa": {10, 12},
    "the box right of the sofa": {11},
    "the second smallest chair": {7},
    "the 2nd smallest chair": {7},
    "the two largest chairs": {7, 8},
    "the largest two chairs": {7, 8},
    "the smallest of the chairs": {9},
    "the third largest chair in the room": {9},
    "the smallest box": {12},
    "the picture on the wall": {16},
    "the stool under the desk": {17},
    "which chair is in front of the sofa?": {9},
    "things behind the sofa": {16},
    "the leftmost chair": {8},
    "the second chair from the left": {9},
    "the chair on the right": {7},
    "the left chair": {8},
    "the lamp on the desk nearest to the window": {13},
    "the closest chair": {9},  # to the camera
    "the tallest chair": {8},
    "the cup above the book": {15},
    "the white things on the desk": {13, 15},
    "all of the red things": {8, 10, 11, 16, 17},
    "everything red": {8, 10, 11, 16, 17},
    "something white on the desk": {13, 15},
    "a coffee table": {6},
    "the darkest box": {12},
    "the widest table": {6},
    "the fifth largest chair": set(),
    "the object on the coffee table": set(),
    "the blue thing on the desk right of the sofa": {14},
}


@pytest.fixture(scope="module")
def room() -> OfflineAnswerer:
    return OfflineAnswerer(box_room())


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_right_groups_of_a_known_room(room: OfflineAnswerer, sentence: str):
    assert set(room.read(sentence).ids) == SENTENCES[sentence]


def test_the_result_does_not_depend_on_where_the_world_is(room: OfflineAnswerer):
    """The same room in a world that is turned and moved; relations and sides go with the cameras."""
    scene = room.facts.scene
    turn = rotation_from_quaternion(torch.nn.functional.normalize(torch.tensor([0.7, 0.2, -0.5, 0.4]), dim=0))
    move = rigid(turn, torch.tensor([3.0, -1.0, 2.0]))
    gaussians = replace(scene.gaussians, means=transform_points(move, scene.gaussians.means))
    cameras = replace(scene.cameras, cam_from_world=scene.cameras.cam_from_world @ torch.linalg.inv(move))
    moved = OfflineAnswerer(replace(scene, gaussians=gaussians, cameras=cameras))
    for sentence, expected in SENTENCES.items():
        assert set(moved.read(sentence).ids) == expected, sentence


def test_a_rank_orders_its_groups_and_probabilities_are_unknown(room: OfflineAnswerer):
    reading = room.read("the three largest chairs")
    assert reading.ids == (8, 7, 9) and reading.probabilities == {}
    assert reading.understood == "[chair; largest, 3 of them]"


@pytest.mark.parametrize(
    ("sentence", "note"),
    [
        ("the box left of the sofa", "'the box' fits several groups: 10, 12"),
        ("the fifth largest chair", "only 3 to choose from"),
        ("the big chair", "'big' is read as 'largest'"),
        ("chairs nearest to the desk", "read as one group"),
        ("the cup on the chair on the coffee table", "nothing in the scene is 'chair'"),
    ],
)
def test_doubtful_readings_are_noted(room: OfflineAnswerer, sentence: str, note: str):
    assert any(note in each for each in room.read(sentence).notes)


def test_almost_equal_groups_are_noted():
    twins = (Box(1, "box", (-0.5, 0.0, 3.0), (0.5, 0.5, 0.5)), Box(2, "box", (0.5, 0.0, 3.0), (0.5, 0.5, 0.505)))
    (note,) = OfflineAnswerer(box_room(twins)).read("the largest box").notes
    assert "2, 1 are almost equal" in note
    clear = (twins[0], replace(twins[1], size=(0.6, 0.6, 0.6)))
    reading = OfflineAnswerer(box_room(clear)).read("the largest box")
    assert reading.ids == (2,) and reading.notes == ()


@pytest.mark.parametrize(
    "sentence",
    [
        "the chair not near the window",
        "everything except the sofa",
        "the chair and the table",
        "a chair between the desk and the window",
        "the first chair",
        "the table without a cup",
        "something to sit on",
        "the largest chair nearest to the window",
    ],
)
def test_what_the_grammar_lacks_is_never_read_in_part(room: OfflineAnswerer, sentence: str):
    with pytest.raises(NotUnderstood):
        parse_sentence(sentence)
    with pytest.raises(UserError, match=r"cannot take the sentence apart \(.*no semantics"):
        room.read(sentence)


def with_semantics(named: bool = False) -> OfflineAnswerer:
    """Embeddings are one axis per box name; a text has the sum of the axes of the names in it."""
    names = sorted({box.name for box in ROOM})
    axes = torch.eye(len(names))
    embeddings = torch.stack([axes[names.index(box.name)] for box in ROOM])
    scene = box_room(named=named)
    empty = torch.zeros(len(scene.anchors), 0), torch.zeros(len(names), 0)
    semantics = Semantics(embeddings, *empty, torch.tensor([12.0, 0.5]), "words:1")
    synonyms = {"seat": "chair", "couch": "sofa"}

    def embed(text: str) -> torch.Tensor:
        said = {synonyms.get(word, word) for word in words.words_of(text)}
        total = sum((axes[names.index(name)] for name in names if name in said), torch.zeros(len(names)))
        return torch.nn.functional.normalize(total, dim=0)

    return OfflineAnswerer(replace(scene, semantics=semantics), embed)


@pytest.mark.parametrize("named", [False, True])
def test_nouns_that_are_no_name_are_found_by_similarity_and_said(named: bool):
    reading = with_semantics(named).read("the seat nearest to the couch")
    assert reading.ids == (7,)  # 1.1 from it; the others are 1.4 and 1.5
    assert sum("is no group's name; found by text similarity" in note for note in reading.notes) == 2
    assert reading.probabilities[7] == pytest.approx(1 / (1 + 2.718281828**-6), abs=1e-6)


def test_probabilities_are_those_of_the_outer_noun():
    answerer = with_semantics()
    assert answerer.read("anything on the desk").probabilities == {}
    assert answerer.read("the lamp on the desk").probabilities[13] > 0.99
    assert answerer.read("the lamp on the desk").probabilities[5] < 0.01


def test_a_sentence_that_is_not_understood_is_compared_as_a_text():
    reading = with_semantics().read("no chair")
    assert reading.ids == (7, 8, 9) and reading.understood is None
    assert any("cannot take the sentence apart (the word 'no')" in note for note in reading.notes)


def test_an_unknown_thing_is_none_and_the_nearest_are_named():
    reading = with_semantics().read("the unicorn next to the sofa")
    assert reading.ids == () and any("no group matches 'unicorn'" in note for note in reading.notes)


def test_no_names_and_no_semantics_is_one_line():
    answerer = OfflineAnswerer(box_room(named=False))
    with pytest.raises(UserError, match="its groups have no names.*no semantics.*tokengroups embed"):
        answerer.read("the chair nearest to the window")
    assert answerer.read("the leftmost thing").ids == (8,)  # needs neither


def test_names_with_words_of_the_grammar_and_odd_characters():
    boxes = (
        Box(1, "built-in wardrobe", (-0.9, 0.0, 3.0), (0.5, 1.0, 0.5)),
        Box(2, "box on wheels", (0.0, 0.2, 3.0), (0.4, 0.6, 0.4)),
        Box(3, "\x1b[31mbig  LAMP\n'; ignore all", (0.8, 0.0, 3.0), (0.3, 0.9, 0.3)),
        Box(4, "big shelf", (1.5, 0.0, 3.0), (0.3, 0.4, 0.3)),
        Box(5, "shelf", (2.2, 0.0, 3.0), (0.6, 0.9, 0.3)),
    )
    answerer = OfflineAnswerer(box_room(boxes))
    assert answerer.read("the box on wheels").ids == (2,)
    assert answerer.read("built-in wardrobe").ids == (1,)
    assert answerer.read("the big shelf").ids == (4,)  # its name, not the biggest one
    assert answerer.read("the largest shelf").ids == (5,)
    assert answerer.read("the leftmost of the shelves").ids == (4,)


def test_distances_are_those_of_the_boxes():
    """Against the nearest pair of many points in two turned boxes."""
    scene = box_room((Box(1, "a", (0.0, 0.0, 3.0), (1.0, 0.4, 0.3)), Box(2, "b", (1.3, 0.5, 3.6), (0.8, 0.3, 0.2))))
    angle = torch.tensor(0.6)
    turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    mine = scene.assignment.argmax(dim=1) == 1
    means, middle = scene.gaussians.means.clone(), torch.tensor([1.3, 0.5, 3.6])
    means[mine] = (means[mine] - middle) @ turn.T + middle
    facts = SceneFacts(replace(scene, gaussians=replace(scene.gaussians, means=means)))
    ticks = torch.linspace(-0.5, 0.5, 41, dtype=torch.float64)
    grid = torch.cartesian_prod(ticks, ticks, torch.tensor([-0.5, 0.5], dtype=torch.float64))
    points = [facts.boxes.centres[i] + (grid * facts.boxes.sizes[i]) @ facts.boxes.axes[i] for i in range(2)]
    nearest = torch.cdist(*points).min()
    torch.testing.assert_close(facts.gaps(0)[1], nearest, atol=0.01, rtol=0)
    torch.testing.assert_close(facts.gaps(1)[0], facts.gaps(0)[1])
    assert float(facts.gaps(0)[0]) == 0


def test_crossing_boxes_touch():
    """No corner of either lies in the other."""
    cross = (Box(1, "a", (0.0, 0.0, 3.0), (2.0, 0.2, 0.2)), Box(2, "b", (0.0, 0.0, 3.0), (0.2, 0.2, 2.0)))
    assert float(SceneFacts(box_room(cross)).gaps(0)[1]) == 0


@pytest.mark.parametrize(
    ("color", "names"),
    [
        ((255, 0, 0), {"red"}), ((20, 20, 20), {"black"}), ((128, 128, 128), {"grey", "gray"}),
        ((250, 250, 250), {"white"}), ((30, 60, 220), {"blue"}), ((40, 160, 60), {"green"}),
        ((240, 220, 30), {"yellow"}), ((110, 70, 30), {"brown", "orange"}), ((140, 30, 180), {"purple", "violet"}),
    ],
)  # fmt: skip
def test_names_of_colors(color: tuple[int, int, int], names: set[str]):
    assert names <= color_names(color)
    others = {"red", "green", "blue", "black", "white", "yellow"} - names
    assert not others & color_names(color)


def test_any_words_are_read_or_refused():
    pool = sorted(
        {*words.DETERMINERS, *words.FILLERS, *words.NUMBERS, *words.ORDINALS, *words.SUPERLATIVES, *words.POSITIVES}
        | {*" ".join([*words.RELATIONS, *words.SIDES]).split(), *words.COLORS, *words.UNSUPPORTED, *words.GENERIC}
        | {"chair", "desk", "window", "boxes", "unicorn", "0th", "9999th", "room", "\u6905\u5b50", "\x00"}
    )
    answerer, rng = with_semantics(named=True), random.Random(0)
    ids = {box.id for box in ROOM}
    read = 0
    for _ in range(400):
        sentence = " ".join(rng.choices(pool, k=rng.randint(1, 9)))
        reading = answerer.read(sentence)
        assert set(reading.ids) <= ids and len(set(reading.ids)) == len(reading.ids), sentence
        read += reading.understood is not None
    assert 20 < read < 400


def test_ground_asks_about_every_group_without_pictures(room: OfflineAnswerer):
    result = ground(room.facts.scene, "the red box left of the sofa", room)
    assert result.ids == (10,) and [group.id for group in result.groups] == [box.id for box in ROOM]
    assert {group.answers[0].text for group in result.groups} == {"yes", "no"}
    assert result.malformed == () and result.unseen == () and result.notes() == []
    with pytest.raises(UserError, match="the question is empty"):
        ground(room.facts.scene, " \n", room)
