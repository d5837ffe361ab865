"""`tokengroups ask`: the offline answer, a local model, an endpoint, pictures, and every wrong input."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from box_room import ROOM, Box, box_room
from chat_server import Handler, chat_server
from PIL import Image

from tokengroups import example_scene, load_scene
from tokengroups.cli import ask as command
from tokengroups.cli.main import main
from tokengroups.grounding import COMBINATIONS
from tokengroups.scene import save_scene
from tokengroups.text import load_text_encoder
from tokengroups.types import Semantics

KEY = "sk-secret-0123456789"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes") / "room.safetensors"
    save_scene(path, box_room())
    return path


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("TOKENGROUPS_API_KEY", raising=False)


def run(*words: object) -> int:
    return main([str(word) for word in words])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run("ask", *words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and captured.out == ""
    return captured.err


def asked(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    assert run("ask", *words, "--json") == 0
    captured = capsys.readouterr()
    assert KEY not in captured.out + captured.err
    return json.loads(captured.out)


def says_about_blue(handler: Handler, _: int) -> None:
    """Yes if the red paint lies on something blue: a vision model that finds the blue things of the example."""
    import base64
    import io

    parts = handler.server.requests[-1]["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in urls]
    purple = [((p[..., 0] > 130) & (p[..., 2] > 70) & (p[..., 1] < 70)).sum() for p in map(np.int64, pictures)]
    handler.say("Yes." if max(purple) > 50 else "No.")


def test_the_answer_is_ready_for_an_edit(room: Path, tmp_path: Path, capsys):
    assert run("ask", room, "the chair nearest to the window") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "understood: [chair; nearest to [window]]"
    assert lines[-2].split()[:2] == ["7", "chair"]
    assert lines[-1].startswith("1 of 17 groups; next: tokengroups edit ")
    words = re.search(r"next: tokengroups (.*)", lines[-1])[1].replace("edited", str(tmp_path / "edited")).split()
    assert run(*words) == 0
    assert set(load_scene(tmp_path / "edited.safetensors").group_ids.tolist()) == {box.id for box in ROOM} - {7}


def test_json_has_every_group(room: Path, capsys):
    answer = asked(capsys, room, "the box left of the sofa")
    assert answer["sentence"] == "the box left of the sofa" and answer["answered_by"] == "offline"
    assert answer["groups"] == [10, 12] and answer["malformed"] == 0 and answer["unseen"] == []
    assert answer["understood"] == "[box left of [sofa]]" and "10, 12" in answer["notes"][0]
    assert [group["id"] for group in answer["answers"]] == [box.id for box in ROOM]
    assert {group["id"] for group in answer["answers"] if group["yes"]} == {10, 12}
    assert answer["answers"][0]["answers"] == [{"yes": False, "probability": None, "text": "no", "malformed": False}]


def test_nothing_found_is_no_error(room: Path, capsys):
    assert run("ask", room, "the object on the coffee table") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 of 17 groups"


def test_semantics_find_what_has_no_name(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    encoder = load_text_encoder("minilm")
    names = [box.name for box in ROOM]
    embeddings = encoder.encode_text(names)
    scene = box_room(named=False)
    empty = torch.zeros(len(scene.anchors), 0), torch.zeros(encoder.dim, 0)
    semantics = Semantics(embeddings, *empty, torch.tensor([15.0, 0.55]), encoder.name)
    save_scene(tmp_path / "scene.safetensors", replace(scene, semantics=semantics))
    answer = asked(capsys, tmp_path / "scene.safetensors", "the couch")
    assert answer["groups"] == [4] and "found by text similarity" in answer["notes"][0]
    assert answer["answers"][3]["probability"] > 0.5
    answer = asked(capsys, tmp_path / "scene.safetensors", "the chair nearest to the window")
    assert answer["groups"] == [7]
    answer = asked(capsys, tmp_path / "scene.safetensors", "a couch, not a table")
    assert 4 in answer["groups"] and answer["understood"] is None and "the word 'not'" in answer["notes"][-1]


def test_an_endpoint_sees_the_marked_groups(tmp_path: Path, capsys, monkeypatch):
    save_scene(tmp_path / "scene.safetensors", example_scene())
    monkeypatch.setenv("TOKENGROUPS_API_KEY", KEY)
    options = ["--model", "m", "--save-views", tmp_path / "views", "--picture-size", 64]
    with chat_server(says_about_blue) as server:
        answer = asked(capsys, tmp_path / "scene.safetensors", "the ball", "--endpoint", server.url, *options)
    assert answer["groups"] == [3] and answer["answered_by"] == "endpoint" and answer["combine"] == "together"
    assert len(server.requests) == 3 and server.headers[0]["authorization"] == f"Bearer {KEY}"
    ball = answer["answers"][2]
    assert ball["views"] == [0, 1] and ball["answers"][0]["text"] == "Yes."
    assert ball["pictures"] == [str(tmp_path / "views" / f"group_003_view_00{view}.png") for view in (0, 1)]
    red = np.asarray(Image.open(ball["pictures"][0])).astype(int)
    assert red.shape == (48, 64, 3) and ((red[..., 0] > 130) & (red[..., 2] > 70)).sum() > 50
    assert len(list((tmp_path / "views").iterdir())) == 6


@pytest.mark.parametrize(("combine", "groups", "calls"), [("union", [1, 2, 3], 6), ("majority", [], 6)])
def test_views_vote(tmp_path: Path, capsys, combine: str, groups: list[int], calls: int):
    save_scene(tmp_path / "scene.safetensors", example_scene())
    with chat_server(lambda handler, number: handler.say("yes" if number % 2 else "no")) as server:
        options = ["--endpoint", server.url, "--model", "m", "--combine", combine, "--picture-size", 64]
        answer = asked(capsys, tmp_path / "scene.safetensors", "x", *options)
    assert answer["groups"] == groups and len(server.requests) == calls


def test_nonsense_is_counted_and_shown_safely(tmp_path: Path, capsys):
    save_scene(tmp_path / "scene.safetensors", example_scene())
    with chat_server(lambda handler, _: handler.say("\x1b[2J I cannot\nhelp")) as server:
        assert run("ask", tmp_path / "scene.safetensors", "x", "--endpoint", server.url, "--model", "m") == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out and "3 of 3 answers were neither yes nor no" in out and "I cannot help" in out
        assert out.splitlines()[-1] == "0 of 3 groups"
        answer = asked(capsys, tmp_path / "scene.safetensors", "x", "--endpoint", server.url, "--model", "m")
    assert answer["malformed"] == 3 and answer["groups"] == []


def test_a_local_model(tmp_path: Path, capsys):
    pytest.importorskip("transformers")
    from tiny_vlm import save_tiny_llava

    save_scene(tmp_path / "scene.safetensors", example_scene())
    model = save_tiny_llava(tmp_path / "vlm", says="yes")
    answer = asked(capsys, tmp_path / "scene.safetensors", "everything", "--model", model, "--device", "cpu")
    assert answer["groups"] == [1, 2, 3] and answer["answered_by"] == "model"
    assert answer["answers"][0]["probability"] == pytest.approx(0.5)


def test_photos_are_shown_instead_of_renderings(tmp_path: Path, capsys):
    """Grey photos: what is saved is grey but for the marks; an edited scene is noted."""
    scene = replace(example_scene(), provenance={"photos": ["a.png", "b.png"], "edits": [{"operation": "move"}]})
    save_scene(tmp_path / "scene.safetensors", scene)
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (128, 96), (90, 90, 90)).save(tmp_path / "photos" / name)
    options = ["--photos", tmp_path / "photos", "--save-views", tmp_path / "views", "--picture-size", 64]
    answer = asked(capsys, tmp_path / "scene.safetensors", "the ball", *options)
    assert any("the scene was edited" in note for note in answer["notes"])
    assert any("a.png looks unlike the scene" in note for note in answer["notes"])
    colors = {tuple(c) for c in np.asarray(Image.open(tmp_path / "views" / "group_003_view_000.png")).reshape(-1, 3)}
    assert len(colors) == 3 and {(90, 90, 90), (255, 255, 0)} < colors


def test_odd_names_break_neither_terminal_nor_question(tmp_path: Path, capsys):
    boxes = (Box(1, "\x1b]0;evil\x07 chair\n", (0.0, 0.0, 3.0), (0.5, 0.5, 0.5)),)
    save_scene(tmp_path / "scene.safetensors", box_room(boxes))
    assert run("ask", tmp_path / "scene.safetensors", "the chair") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "1 of 1 group" in out and r"\x1b]0;evil" in out
    with chat_server(lambda handler, _: handler.say("yes")) as server:
        assert run("ask", tmp_path / "scene.safetensors", "x", "--endpoint", server.url, "--model", "m") == 0
    assert "evil" not in json.dumps(server.requests) and "\x1b" not in capsys.readouterr().out


def test_wrong_input_is_one_line(room: Path, tmp_path: Path, capsys):
    assert "the text is empty" in refused(capsys, room, " \n ")
    assert "10,000 characters" in refused(capsys, room, "x" * 10_000)
    assert "no such file" in refused(capsys, tmp_path / "none.safetensors", "chair")
    assert "no group is named 'unicorn'" in refused(capsys, room, "the unicorn")
    save_scene(tmp_path / "plain.safetensors", box_room(named=False))
    line = refused(capsys, tmp_path / "plain.safetensors", "the chair nearest to the window")
    assert "its groups have no names" in line and "no semantics" in line
    assert "give --key-env or --key-file" in refused(
        capsys, room, "x", "--endpoint", "http://a", "--model", "m", "--key-env", "A", "--key-file", "b"
    )
    assert "needs the name of a model" in refused(capsys, room, "x", "--endpoint", "http://a")
    assert "a key is for an endpoint" in refused(capsys, room, "x", "--key-env", "HOME")
    assert "--photos are shown to a model" in refused(capsys, room, "x", "--photos", tmp_path)
    assert "the variable NONE holds no key" in refused(
        capsys, room, "x", "--endpoint", "http://a", "--model", "m", "--key-env", "NONE"
    )
    assert "begins with http" in refused(capsys, room, "x", "--endpoint", "a", "--model", "m")
    assert "no such folder" in refused(capsys, room, "x", "--model", "owner/name")
    assert "no photo in the folder" in refused(capsys, room, "x", "--photos", tmp_path, "--save-views", tmp_path / "v")
    for option, value in (("--timeout", "nan"), ("--timeout", 0), ("--requests-per-minute", 0), ("--picture-size", 1)):
        assert option in refused(capsys, room, "x", option, value)
    (tmp_path / "file").write_text("x")
    assert "cannot write" in refused(capsys, room, "chair", "--save-views", tmp_path / "file")
    assert not (tmp_path / "v").exists()


def test_endpoints_that_fail_are_one_line_and_write_nothing(room: Path, tmp_path: Path, capsys):
    options = ["--model", "m", "--save-views", tmp_path / "views", "--picture-size", 64]
    start = time.monotonic()
    with chat_server(lambda *_: time.sleep(1.5)) as server:
        line = refused(capsys, room, "x", "--endpoint", server.url, "--timeout", 0.3, *options)
    assert "no complete response within 0.3 s" in line and time.monotonic() - start < 10
    assert "no connection" in refused(capsys, room, "x", "--endpoint", server.url, *options)  # it is gone
    with chat_server(lambda handler, _: handler.send(b"<html>")) as server:
        assert "OpenAI-compatible" in refused(capsys, room, "x", "--endpoint", server.url, *options)
    assert not (tmp_path / "views").exists()


def test_too_many_questions_are_refused_before_the_first(room: Path, capsys):
    with chat_server(lambda handler, _: handler.say("yes")) as server:
        options = ["--endpoint", server.url, "--model", "m", "--picture-size", 64]
        assert "more than 2" in refused(capsys, room, "x", *options, "--max-questions", 2)
        line = refused(capsys, room, "x", *options, "--requests-per-minute", 1, "--time-limit", 60)
        assert "longer than --time-limit 60" in line
    assert server.requests == []


def test_a_key_over_plain_http_to_another_machine_is_noted(room: Path, capsys, monkeypatch):
    monkeypatch.setenv("TOKENGROUPS_API_KEY", KEY)
    assert run("ask", room, "x", "--endpoint", "http://nowhere.invalid", "--model", "m", "--picture-size", 64) == 2
    err = capsys.readouterr().err
    assert "travels unencrypted" in err and KEY not in err


def test_help_has_examples_and_the_copy_of_the_choices(capsys):
    with pytest.raises(SystemExit):
        run("ask", "--help")
    out = capsys.readouterr().out
    assert '"the chair nearest to the window"' in out and "TOKENGROUPS_API_KEY" in out
    assert command.COMBINATIONS == COMBINATIONS
