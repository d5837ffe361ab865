"""Editing sessions: undo, redo, versions, and the equal command line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import random_scene

import tokengroups as tg
from tokengroups.cli.main import main
from tokengroups.editing import EDITS as EDIT_CLASSES
from tokengroups.editing.motion import Move
from tokengroups.errors import UserError
from tokengroups.types import TokenScene
from tokengroups.viewer import FileExists, Session, StaleVersion, open_session

EDITS = [
    ["rename", "2", "a red box"],
    ["duplicate", "a red box", "0.5", "0", "0"],
    ["rename", "4", "move"],
    ["rotate", "4", "--axis", "y", "--degrees", "-30"],
    ["merge", "2", "3"],
    ["split", "2"],
    ["remove", "floor"],
    ["scale", "4", "0.5"],
    ["rescale", "0.64"],
]
# Each operation in all its forms, with what a browser or a person might send. The scene to insert from is "my room".
OPERATIONS: dict[str, list[list[str]]] = {
    "remove": [["remove", "2"]],
    "remove several": [["remove", " Box ", "003"]],
    "keep": [["keep", "ball", "1"]],
    "move": [["move", "3", "-0.4", "1e-3", "+.5"]],
    "move by hardly anything": [["move", "3", "1e-30", "-0", "0.1000000000000000055511151231257827"]],
    "rotate": [["rotate", "box", "--axis", "y", "--degrees", "-30.5"]],
    "rotate with options joined": [["rotate", "--degrees=1e300", "2", "--axis=z"]],
    "scale": [["scale", "0002", "1e-30"]],
    "duplicate": [["duplicate", "3"]],
    "duplicate and shift": [["duplicate", "3", "0.7", "0", "-0.1"]],
    "insert": [["insert", "my room.safetensors:ball", "--at", "0", "0.2", "1.5"]],
    "insert with the place first": [["insert", "--at", "0", "0.2", "1.5", "./my room.safetensors:2"]],
    "rename": [["rename", "ball", 'a "red" ball\'s `name` $HOME; rm -rf x']],
    "rename over lines": [["rename", "3", " two\nlines\t"], ["move", "two lines", "0", "0", "1"]],
    "rename like an operation": [["rename", "3", "rescale"], ["rename", "2", "a:B"], ["remove", "1"]],
    "rename in another script": [["rename", "3", "\N{HIRAGANA LETTER A}\N{SUPERSCRIPT TWO}<script>"]],
    "take a name away": [["rename", "3", ""]],
    "merge": [["merge", "3", "box"]],
    "split": [["merge", "3", "2"], ["split", "3"]],
    "split by a box": [["merge", "3", "2"], ["split", "3", "-9", "-9", "3.2", "9", "9", "9"]],
    "rescale": [["rescale", "0.64"], ["rescale", "7e-1"]],
}


def same(one: Any, two: Any) -> bool:
    """Equal bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if hasattr(one, "__dataclass_fields__"):
        return all(same(getattr(one, name), getattr(two, name)) for name in one.__dataclass_fields__)
    return one == two


def edited(session: Session, edits: list[list[str]]) -> Session:
    for words in edits:
        session = session.edit(words)
    return session


@pytest.fixture
def scene_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    tg.save_scene("my room.safetensors", tg.example_scene())
    return "my room.safetensors"


def test_the_command_line_and_the_script_make_the_saved_file(scene_file: str) -> None:
    session = edited(open_session(scene_file), EDITS)
    assert session.save("saved.safetensors") == [Path("saved.safetensors")]
    tokengroups, *words = shlex.split(session.command("typed.safetensors"))
    assert tokengroups == "tokengroups" and main(words) == 0
    Path("edits.json").write_text(json.dumps(session.script()))
    assert main(["edit", scene_file, "--script", "edits.json", "-o", "scripted.safetensors"]) == 0
    saved = Path("saved.safetensors").read_bytes()
    assert saved == Path("typed.safetensors").read_bytes() == Path("scripted.safetensors").read_bytes()


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_saves_the_bytes_of_the_command_line(scene_file: str, name: str) -> None:
    session = edited(open_session(scene_file), OPERATIONS[name])
    session.undo().redo().save("saved.safetensors")
    Path("edits.json").write_text(json.dumps(session.script()))
    assert main(["edit", scene_file, "--script", "edits.json", "-o", "scripted.safetensors"]) == 0
    assert main(shlex.split(session.command("typed.safetensors"))[1:]) == 0
    saved = Path("saved.safetensors").read_bytes()
    assert saved == Path("typed.safetensors").read_bytes() == Path("scripted.safetensors").read_bytes()


def test_every_operation_is_tried() -> None:
    assert {words[0] for edits in OPERATIONS.values() for words in edits} == set(EDIT_CLASSES)


def test_files_whose_names_look_like_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("-o=a.safetensors", "--all.safetensors"):
        tg.save_scene(name, tg.example_scene())
        session = open_session(name).edit(["insert", f"./{name}:ball", "--at", "0", "0", "1"])
        session.save("saved.safetensors", replace_file=True)
        assert main(shlex.split(session.command("typed.safetensors"))[1:]) == 0
        assert Path("saved.safetensors").read_bytes() == Path("typed.safetensors").read_bytes()


def test_undo_and_redo_pass_through_the_same_scenes() -> None:
    session = Session(tg.example_scene(), "a.safetensors")
    scenes = [session.scene]
    for words in EDITS:
        session = session.edit(words)
        scenes.append(session.scene)
    for expected in reversed(scenes[:-1]):
        session = session.undo()
        assert same(session.scene, expected)
    assert session.scene is session.first and session.command("b") == "" and session.script()["edits"] == []
    for expected in scenes[1:]:
        session = session.redo()
        assert same(session.scene, expected)
    assert session.version == 3 * len(EDITS)
    with pytest.raises(UserError, match="nothing to redo"):
        session.redo()


def test_undo_has_no_limit_though_few_scenes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few scenes are kept, and few edits are made anew by one undo, wherever it is in the history."""
    number, applied, moved = 300, [0], Move.apply

    def counted(edit: Move, scene: TokenScene) -> TokenScene:
        applied[0] += 1
        return moved(edit, scene)

    monkeypatch.setattr(Move, "apply", counted)
    session, first, expected = Session(random_scene(), "a"), random_scene(), {}
    for _ in range(number):
        expected[len(session.steps)] = session.scene.gaussians.means.clone()
        session = session.edit(["move", "5", "0.1", "0", "0"])
        assert len(session.scenes) < 64 and len(session.steps) in session.scenes
    for _ in range(number):
        applied[0] = 0
        session = session.undo()
        assert applied[0] < number / 8 and len(session.scenes) < 64
        assert torch.equal(session.scene.gaussians.means, expected[len(session.steps)])
    assert same(session.scene, first) and not session.scenes
    with pytest.raises(UserError, match="nothing to undo"):
        session.undo()


ACTIONS = st.lists(st.sampled_from(["undo", "redo", *range(len(EDITS))]), max_size=12)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(actions=ACTIONS)
def test_any_history_ends_where_its_edits_alone_end(actions: list[Any]) -> None:
    """Model: two lists. What the session refuses changes nothing."""
    session = Session(tg.example_scene(), "a.safetensors")
    steps: list[list[str]] = []
    undone: list[list[str]] = []
    for version, action in enumerate(actions):
        before = session
        try:
            session = session.edit(EDITS[action]) if isinstance(action, int) else getattr(session, action)()
        except UserError:
            assert before is session
            continue
        assert session.version == before.version + 1 <= version + 1
        if action == "undo":
            undone.append(steps.pop())
        elif action == "redo":
            steps.append(undone.pop())
        else:
            steps, undone = [*steps, EDITS[action]], []
    assert session.script()["edits"] == steps
    assert same(session.scene, edited(Session(tg.example_scene(), "a"), steps).scene)


def test_edits_of_one_step_are_undone_together() -> None:
    session = Session(tg.example_scene(), "a.safetensors").edit(["remove", "box"])
    step = session.edit(["duplicate", "ball"], ["move", "4", "0", "0", "1"], ["remove", "3"])
    assert same(step.scene, edited(session, [list(words) for words in step.steps[-1].words]).scene)
    assert step.version == 2 and step.steps[-1].done.count("; ") == 2
    assert same(step.undo().scene, session.scene) and same(step.undo().redo().scene, step.scene)
    with pytest.raises(UserError):
        session.edit(["duplicate", "ball"], ["remove", "9"])
    with pytest.raises(UserError, match="no edit"):
        session.edit()


def test_sessions_are_values() -> None:
    session = Session(tg.example_scene(), "a.safetensors")
    other = session.edit(["remove", "box"])
    assert (session.version, other.version) == (0, 1)
    assert session.scene.group_names == ("floor", "box", "ball") and other.scene.group_names == ("floor", "ball")
    assert other.steps[0].done == "removed 2" and session.edit(["duplicate", "3"]).steps[0].done.endswith("as group 4")


def test_an_older_version_is_refused_with_the_present_one() -> None:
    session = Session(tg.example_scene(), "a.safetensors").edit(["remove", "box"], version=0)
    for attempt in (
        lambda: session.edit(["remove", "ball"], version=0),
        lambda: session.undo(version=0),
        lambda: session.redo(version=7),
        lambda: session.save("never.safetensors", version=0),
    ):
        with pytest.raises(StaleVersion, match=r"it is now version 1; look at it anew, or do the same with version 1"):
            attempt()
    with pytest.raises(StaleVersion) as caught:
        session.undo(version=0)
    assert session.undo(version=caught.value.version).version == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "an edit is a list of texts"),
        (["remove", 2], "an edit is a list of texts"),
        (["remove", "9"], "there is no group 9"),
        (["remove", "a lamp"], "no group has the name 'a lamp'"),
        (["remove", "2", "move", "3", "0", "0", "1"], "are 2 operations"),
        (["remove", "1", "2", "3"], "no group would be left"),
        (["os:System", "2"], "no operation|a file asks for the operation"),
    ],
)
def test_a_refused_edit_changes_nothing(words: list[Any], message: str) -> None:
    session = Session(tg.example_scene(), "a.safetensors")
    with pytest.raises(UserError, match=message):
        session.edit(words)
    assert session.version == 0 and same(session.scene, tg.example_scene())


def test_descriptions_find_groups_through_an_encoder() -> None:
    scene = tg.example_scene()
    assert scene.semantics is not None
    embedding = scene.semantics.embeddings[2]

    def embed(_scene: TokenScene, text: str) -> torch.Tensor:
        assert text == "something round"
        return embedding

    session = Session(scene, "a.safetensors").edit(["remove", "something round"], embed=embed)
    assert session.scene.group_names == ("floor", "box")
    assert same(session.undo().redo().scene, session.scene)


def test_an_inserted_group_stays_as_it_was_when_its_file_changes(scene_file: str) -> None:
    session = Session(random_scene(), "a.safetensors").edit(["insert", f"{scene_file}:ball", "--at", "0", "0", "1"])
    tg.save_scene(scene_file, tg.scale(tg.example_scene(), "ball", 3))
    assert same(session.undo().redo().scene, session.scene)
    Path(scene_file).unlink()
    assert same(session.undo().redo().scene, session.scene)


def test_saving_writes_what_is_asked_for(scene_file: str) -> None:
    session = open_session(scene_file).edit(["remove", "box"])
    assert [path.name for path in session.save("a.ply")] == ["a.ply", "groups.json", "cameras.json"]
    files = session.save("parts", groups=True)
    assert [path.name for path in files][:2] == ["group_001.ply", "group_003.ply"]
    for again in (lambda: session.save("a.ply"), lambda: session.save("parts", groups=True)):
        with pytest.raises(FileExists, match="exists; give another name, or say that it may be replaced"):
            again()
    assert session.save("a.ply", replace_file=True) and session.save("parts", groups=True, replace_file=True)
    with pytest.raises(UserError, match="there is no folder"):
        session.save("no/b.safetensors")
    own = Path(scene_file).read_bytes()
    with pytest.raises(UserError, match="is the open scene, to which the edits apply; give another name"):
        session.save(Path("parts", "..", scene_file), replace_file=True)
    with pytest.raises(UserError, match="no file can have this name"):
        session.save("a\0.safetensors")
    assert Path(scene_file).read_bytes() == own


def test_a_file_that_somebody_replaced_is_noticed(scene_file: str) -> None:
    session = open_session(scene_file)
    assert not session.file_changed()
    tg.save_scene(scene_file, tg.remove(tg.example_scene(), 2))
    assert session.file_changed() and not open_session(scene_file).file_changed()
    Path(scene_file).unlink()
    assert session.file_changed()
    assert not Session(tg.example_scene(), "never.safetensors").file_changed()
