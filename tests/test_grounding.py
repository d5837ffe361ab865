"""Pictures with marked groups, the best views, photos of a scene, and the union of answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from box_room import RED, Box, box_room
from PIL import Image

from tokengroups import example_scene, render_views
from tokengroups.errors import UserError
from tokengroups.grounding import Answer, Question, ScenePictures, draw_mask, ground, parse_answer
from tokengroups.io.scene_photos import RecordedPhoto, ScenePhoto, find_scene_photos
from tokengroups.types import TokenScene


class Scripted:
    """Says what a function of the question and the pictures says; keeps both."""

    looks = True

    def __init__(self, say) -> None:
        self.say, self.asked = say, []

    def ask(self, images, question: Question) -> Answer:
        self.asked.append((question, images))
        return parse_answer(self.say(question, images))


@pytest.mark.parametrize(
    ("text", "yes", "malformed"),
    [
        ("yes", True, False), ("Yes.", True, False), (" \n**YES**, it is", True, False), ("'yes'", True, False),
        ("no", False, False), ("No, the other one.", False, False), ("_no_", False, False),
        ("", False, True), ("yesterday", False, True), ("nope", False, True), ("not at all", False, True),
        ("The answer is yes.", False, True), ("yes or no", False, True), ("Yes / No", False, True),
        ("<think>yes", False, True), ("1", False, True), ("\x00\x1b[2J", False, True), ("yes no", True, False),
        ("sí", False, True), ("ye s", False, True), ("no-one", False, False),
    ],
)  # fmt: skip
def test_only_the_first_word_counts(text: str, yes: bool, malformed: bool):
    answer = parse_answer(text, probability=0.7)
    assert (answer.yes, answer.malformed, answer.text) == (yes, malformed, text)
    assert answer.probability == (None if malformed else 0.7)


def test_a_question_holds_the_sentence_and_no_markup():
    text = Question("the <image> chair\n[INST] {{ x }} <|im_end|>", 3, 2).text
    assert "'the image chair INST x im_end'" in text and "2 pictures" in text
    assert not set("<>[]{}|\n") & set(text)


def test_the_mask_is_half_red_with_an_outline():
    picture, mask = torch.rand(20, 30, 3), torch.zeros(20, 30, dtype=torch.bool)
    mask[5:9, 10:20] = True
    drawn = draw_mask(picture, mask)
    torch.testing.assert_close(drawn[mask], 0.5 * picture[mask] + torch.tensor([0.5, 0, 0]))
    ring = torch.zeros(20, 30, dtype=torch.bool)
    ring[4:10, 9:21] = True
    ring &= ~mask
    assert (drawn[ring] == torch.tensor([1.0, 1.0, 0.0])).all()
    assert torch.equal(drawn[~ring & ~mask], picture[~ring & ~mask])


def three_views() -> TokenScene:
    """A box that comes nearer from view to view, and one that only the first view shows."""
    boxes = (Box(5, "near", (0.0, 0.0, 4.0), (0.8, 0.8, 0.8), RED), Box(2, "side", (-2.0, 0.0, 4.0), (0.6, 0.6, 0.6)))
    scene = box_room(boxes, size_hw=(48, 64))
    poses = torch.eye(4).repeat(4, 1, 1)
    poses[1, 2, 3], poses[2, 2, 3] = -0.6, -1.2  # the camera moves forward
    poses[3, 2, 3] = -0.9
    poses[1:, 0, 3] = 0.4  # and to the left, but past the side box
    poses[1:, :3, :3] = torch.tensor([[0.9553, 0.0, -0.2955], [0.0, 1.0, 0.0], [0.2955, 0.0, 0.9553]])
    cameras = replace(scene.cameras, cam_from_world=poses, intrinsics=scene.cameras.intrinsics[:1].repeat(4, 1, 1))
    return replace(scene, cameras=cameras)


def test_the_best_views_show_most_of_a_group():
    scene = three_views()
    counts = [[int((view.group_map == group).sum()) for view in render_views(scene, scene.cameras)] for group in (5, 2)]
    assert counts[0][2] > counts[0][3] > counts[0][1] > counts[0][0] > 0 and counts[1][0] > 0
    seen = tuple(view for view in sorted(range(4), key=lambda view: -counts[1][view]) if counts[1][view])[:3]
    assert ScenePictures(scene, size=64).best_views() == {5: (2, 3, 1), 2: seen}
    assert ScenePictures(scene, size=64).best_views(most=1)[5] == (2,)


def test_the_marked_picture_is_the_rendering_with_the_scenes_own_mask():
    scene = example_scene()
    pictures = ScenePictures(scene, size=64)
    (view, _) = render_views(scene, scene.cameras)
    expected = draw_mask(view.color.clamp(0, 1), view.group_map == 3)
    torch.testing.assert_close(pictures.marked(3, 0), expected, atol=0.5 / 255 + 1e-6, rtol=0)
    larger = ScenePictures(scene, size=128).marked(3, 0)
    assert larger.shape == (96, 128, 3)
    small = torch.nn.functional.avg_pool2d(larger.permute(2, 0, 1), 2).permute(1, 2, 0)
    assert float((small - pictures.marked(3, 0)).abs().mean()) < 0.05


def test_many_views_are_drawn_in_bounded_memory():
    """Evicted views are drawn again, with the same result."""
    scene = example_scene()
    count = 40
    poses = scene.cameras.cam_from_world[:1].repeat(count, 1, 1)
    poses[:, 0, 3] = torch.linspace(0.3, -0.3, count)
    cameras = replace(scene.cameras, cam_from_world=poses, intrinsics=scene.cameras.intrinsics[:1].repeat(count, 1, 1))
    pictures = ScenePictures(replace(scene, cameras=cameras), size=64)
    first = pictures.marked(2, 0)
    assert len(pictures.best_views()[2]) == 3
    assert pictures._view.cache_info().currsize < count
    assert torch.equal(pictures.marked(2, 0), first)


@pytest.mark.parametrize(
    ("combine", "says", "ids"),
    [
        ("together", {1: ["no"], 2: ["yes"], 3: ["Yes!"]}, (2, 3)),
        ("union", {1: ["no", "no"], 2: ["no", "yes"], 3: ["yes", "maybe"]}, (2, 3)),
        ("majority", {1: ["no", "yes"], 2: ["yes", "yes"], 3: ["yes", "maybe"]}, (2,)),
    ],
)
def test_answers_are_united(combine, says, ids):
    scene = example_scene()
    script = {group: iter(words) for group, words in says.items()}
    answerer = Scripted(lambda question, _: next(script[question.group]))
    watched = []

    def watch(calls):
        watched.extend(calls)
        return calls

    result = ground(scene, "something", answerer, ScenePictures(scene, size=64), combine, watch)
    assert result.ids == ids
    assert [len(group.answers) for group in result.groups] == [len(says[group.id]) for group in result.groups]
    assert all(set(group.views) == {0, 1} for group in result.groups)
    assert len(watched) == len(answerer.asked) == sum(map(len, says.values()))
    counts = {len(images) for _, images in answerer.asked}
    assert counts == ({2} if combine == "together" else {1})
    assert all(question.num_pictures == len(images) for question, images in answerer.asked)
    malformed = sum(word == "maybe" for words in says.values() for word in words)
    assert len(result.malformed) == malformed
    assert [
        note for note in result.notes() if f"{malformed} of 6 answers" in note and "'maybe'" in note
    ] or not malformed


def test_an_answerer_that_sees_red_finds_the_red_box():
    """The pictures of each group go with the question about it: only the blue ball turns purple."""
    scene = example_scene()

    def reddish_blue(_, images):
        purple = [(image[..., 0] > 0.5) & (image[..., 2] > 0.3) & (image[..., 1] < 0.3) for image in images]
        return "yes" if max(int(pixels.sum()) for pixels in purple) > 50 else "no"

    assert ground(scene, "the ball", Scripted(reddish_blue), ScenePictures(scene, size=64)).ids == (3,)


def test_malformed_answers_are_shown_without_control_characters():
    scene = example_scene()
    result = ground(scene, "x", Scripted(lambda *_: "\x1b[2J" + "bad " * 200), ScenePictures(scene, size=64))
    (note,) = result.notes()
    assert result.ids == () and note.isprintable() and len(note) < 320 and r"\x1b[2J" in note


def test_groups_that_no_view_shows_are_said():
    boxes = (Box(1, "seen", (0.0, 0.0, 4.0), (0.8, 0.8, 0.8)), Box(2, "behind", (0.0, 0.0, -4.0), (0.8, 0.8, 0.8)))
    scene = box_room(boxes)
    result = ground(scene, "anything", Scripted(lambda *_: "yes"), ScenePictures(scene, size=64))
    assert result.ids == (1,) and result.unseen == (2,) and "hardly a view shows: 2" in result.notes()[0]


def test_scenes_without_groups_or_cameras_are_refused():
    scene = example_scene()
    cameras = replace(
        scene.cameras, cam_from_world=scene.cameras.cam_from_world[:0], intrinsics=scene.cameras.intrinsics[:0]
    )
    with pytest.raises(UserError, match="no groups, or no cameras"):
        ScenePictures(replace(scene, cameras=cameras))
    columns = {"group_ids": scene.group_ids[:0], "group_tokens": scene.group_tokens[:0]}
    empty = replace(scene, assignment=scene.assignment[:, :0], group_names=(), semantics=None, **columns)
    with pytest.raises(UserError, match="no groups, or no cameras"):
        ScenePictures(empty)
    with pytest.raises(ValueError, match="looks at pictures"):
        ground(scene, "x", Scripted(lambda *_: "yes"))


# --- photos ---------------------------------------------------------------------------------------------------------


def recorded(photos: object) -> TokenScene:
    return replace(example_scene(), provenance={"photos": photos})


def save_photo(path: Path, array: np.ndarray) -> None:
    Image.fromarray(array).save(path)


def renderings() -> list[np.ndarray]:
    scene = example_scene()
    views = render_views(scene, scene.cameras)
    return [(view.color.clamp(0, 1) * 255).round().byte().numpy() for view in views]


def photos_of(scene: TokenScene, folder: Path) -> list[ScenePhoto]:
    return find_scene_photos([str(folder)], scene.provenance, len(scene.cameras.intrinsics))[0]


def test_photos_are_found_by_name_and_cropped_as_recorded(tmp_path: Path):
    """Each photo is the rendering with a frame around it, which the crop takes off; twice as large on the disk."""
    entries = []
    for name, picture in zip(("b.png", "a.png"), renderings(), strict=True):
        framed = np.full((68, 74, 3), 255, np.uint8)
        framed[12:60, 4:68] = picture
        save_photo(tmp_path / name, framed.repeat(2, axis=0).repeat(2, axis=1))
        entries.append({"name": name, "size_hw": [68, 74], "crop_box": [4, 12, 68, 60]})
    scene = recorded(entries)
    photos = photos_of(scene, tmp_path)
    assert [photo.path.name for photo in photos] == ["b.png", "a.png"]
    shown, rendered = ScenePictures(scene, 64, photos), ScenePictures(scene, 64)
    for view in range(2):
        difference = (shown.marked(2, view) - rendered.marked(2, view)).abs()
        assert float(difference.mean()) < 0.02
    assert shown.notes == []
    corner = RecordedPhoto("", (68, 74), (0, 0, 30, 30))
    swapped = ScenePictures(scene, 64, [replace(photo, recorded=corner) for photo in photos])
    assert float((swapped.marked(2, 0) - rendered.marked(2, 0)).abs().mean()) > 0.05


def test_photos_of_a_fit_are_whole(tmp_path: Path):
    for name, picture in zip(("0.png", "1.png"), renderings(), strict=True):
        save_photo(tmp_path / name, picture)
    scene = recorded(["0.png", "1.png"])
    shown, rendered = ScenePictures(scene, 64, photos_of(scene, tmp_path)), ScenePictures(scene, 64)
    torch.testing.assert_close(shown.marked(1, 1), rendered.marked(1, 1), atol=1.5 / 255, rtol=0)


def test_photos_of_something_else_are_noted(tmp_path: Path):
    rng = np.random.default_rng(0)
    for name in ("0.png", "1.png"):
        save_photo(tmp_path / name, rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    pictures = ScenePictures(recorded(["0.png", "1.png"]), 64, photos_of(recorded(["0.png", "1.png"]), tmp_path))
    pictures.best_views()
    assert len(pictures.notes) == 2 and "0.png looks unlike the scene" in pictures.notes[0]


def test_photos_of_another_shape_are_refused(tmp_path: Path):
    for name in ("0.png", "1.png"):
        save_photo(tmp_path / name, np.zeros((48, 64, 3), np.uint8))
    other = recorded([{"name": name, "size_hw": [64, 48], "crop_box": [0, 0, 48, 48]} for name in ("0.png", "1.png")])
    with pytest.raises(UserError, match="0.png: 64x48 pixels, but the scene was made from 48x64"):
        ScenePictures(other, 64, photos_of(other, tmp_path)).best_views()
