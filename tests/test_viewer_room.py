"""Requests of browsers that share a scene, without a network."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tokengroups as tg
from tokengroups.cli.main import main
from tokengroups.errors import UserError
from tokengroups.types import TokenScene
from tokengroups.viewer import Session, look, looks, open_session, pack_scene
from tokengroups.viewer.room import Room


@pytest.fixture
def room(tmp_path: Path) -> Room:
    tg.save_scene(tmp_path / "my room.safetensors", tg.example_scene())
    return Room(open_session(tmp_path / "my room.safetensors"))


def post(room: Room, path: str, **order: Any) -> tuple[int, dict[str, Any]]:
    answer = room.post(path, json.dumps(order).encode())
    return answer.status, json.loads(answer.body)


def folder(room: Room) -> list[str]:
    return sorted(path.name for path in Path(room.session.source).parent.iterdir())


def test_edits_undo_and_redo_answer_with_the_state(room: Room) -> None:
    state = json.loads(room.get("/state").body)
    first = state.pop("source")
    assert state == {
        "version": 0, "steps": [], "undone": [], "command": "", "file_changed": False, "query": True,
    }  # fmt: skip
    status, state = post(room, "/edit", edits=[["remove", "box"]], version=0)
    source = room.session.source
    assert (status, state["version"], len(state["steps"]), state["undone"]) == (200, 1, 1, [])
    assert state["source"] == first
    assert state["steps"] == [{"edits": [["remove", "box"]], "done": "removed 2"}]
    assert state["command"] == f"tokengroups edit '{source}' remove box -o edited.safetensors"
    assert json.loads(room.get("/script").body)["edits"] == [["remove", "box"]]
    assert len(post(room, "/undo", version=1)[1]["undone"]) == 1 and room.session.scene.group_names == (
        "floor",
        "box",
        "ball",
    )
    assert post(room, "/redo", version=2)[1]["version"] == 3 and room.session.scene.group_names == ("floor", "ball")
    assert folder(room) == ["my room.safetensors"]


def test_the_packed_scene_and_the_page_follow_the_edits(room: Room) -> None:
    first = look(room.session.scene)
    for edits in (None, [["remove", "box"]]):
        if edits:
            post(room, "/edit", edits=edits, version=0)
        answer = room.get("/scene")
        assert answer.zipped and answer.kind == "application/octet-stream"
        packed = gzip.decompress(answer.body)
        assert packed == pack_scene(room.session.scene, "my room", None, first.after(room.session.scene)).data
        page = room.get("/").body.decode()
        assert "<title>my room</title>" in page
    few = Room(room.session, max_gaussians=50)
    assert gzip.decompress(few.get("/scene").body) == pack_scene(room.session.scene, "my room", 50).data


def header(room: Room) -> dict[str, Any]:
    packed = gzip.decompress(room.get("/scene").body)
    return json.loads(packed[8 : 8 + int.from_bytes(packed[4:8], "little")])


def test_no_edit_renders_the_context_views_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits and merges change what groups are; sizes and centres follow, shares add up, photos stay."""
    photos = ("data:image/jpeg;base64,AA", None)
    room = Room(room.session, looks=replace(look(room.session.scene), photos=photos))
    before = header(room)
    assert [camera.get("photo") for camera in before["cameras"]] == list(photos)
    monkeypatch.setattr(looks, "visible_shares", lambda *_: pytest.fail("rendered again"))
    edits = [["move", "box", "0.5", "0", "0"], ["scale", "box", "2"], ["merge", "ball", "floor"]]
    post(room, "/edit", edits=edits, version=0)
    after = header(room)
    ball, box = sorted(after["groups"], key=lambda group: group["name"])
    old = {group["name"]: group for group in before["groups"]}
    assert box["picture"] == old["box"]["picture"] and box["share"] == old["box"]["share"]
    assert box["centre"] == pytest.approx([old["box"]["centre"][0] + 0.5, *old["box"]["centre"][1:]])
    assert box["size"] == pytest.approx([2 * side for side in old["box"]["size"]], rel=1e-3)
    assert ball["share"] == pytest.approx(old["ball"]["share"] + old["floor"]["share"], abs=2e-6)
    assert ball["picture"] not in (old["ball"]["picture"], old["floor"]["picture"])
    for old_camera, new_camera in zip(before["cameras"], after["cameras"], strict=True):
        assert new_camera["view"]["rotation"] == old_camera["view"]["rotation"]
        assert new_camera.get("photo") == old_camera.get("photo")
    post(room, "/undo", version=room.version)
    assert header(room) == before


def test_photos_stay_when_the_file_is_read_again(room: Room) -> None:
    room = Room(room.session, looks=replace(look(room.session.scene), photos=("data:a", "data:b")))
    post(room, "/reload", version=0)
    assert header(room)["cameras"][1]["photo"] == "data:b"
    scene = tg.example_scene()
    other = replace(scene, cameras=replace(scene.cameras, intrinsics=1.1 * scene.cameras.intrinsics))
    tg.save_scene(room.session.source, other)
    post(room, "/reload", version=1)
    assert all("photo" not in camera for camera in header(room)["cameras"])


def test_an_order_for_an_older_version_is_refused_with_a_choice(room: Room) -> None:
    post(room, "/edit", edits=[["remove", "box"]], version=0)
    for path, more in (("/edit", {"edits": [["remove", "ball"]]}), ("/undo", {}), ("/save", {"name": "a.safetensors"})):
        status, answer = post(room, path, version=0, **more)
        assert (status, answer["version"], answer["choices"]) == (409, 1, ["reload", "repeat"])
        assert "it is now version 1" in answer["error"]
    assert room.version == 1 and folder(room) == ["my room.safetensors"]
    assert post(room, "/undo", version=answer["version"])[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/edit", b"", "not JSON"),
        ("/edit", b"\xff\x00", "not JSON"),
        ("/edit", b"[" * 50_000, "not JSON"),
        ("/edit", b"[]", "send a JSON object"),
        ("/edit", b'{"edits": [["remove", "2"]]}', "send a JSON object"),
        ("/edit", b'{"edits": [["remove", "2"]], "version": true}', "send a JSON object"),
        ("/edit", b'{"edits": [["remove", "2"]], "version": "0"}', "send a JSON object"),
        ("/edit", b'{"edits": ["remove 2"], "version": 0}', "an edit is a list of texts"),
        ("/edit", b'{"edits": "remove 2", "version": 0}', "a list of edits"),
        ("/edit", b'{"edits": [], "version": 0}', "no edit in this step"),
        ("/edit", b'{"version": 0}', "a list of edits"),
        ("/edit", b'{"edits": [["remove", "9"]], "version": 0}', "there is no group 9"),
        ("/edit", b'{"edits": [["trap:Edit", "2"]], "version": 0}', "a file asks for the operation"),
        (
            "/edit",
            b'{"edits": [["insert", "/dev/zero:2", "--at", "0", "0", "1"]], "version": 0}',
            "cannot read /dev/zero",
        ),
        ("/undo", b'{"version": 0}', "nothing to undo"),
        ("/redo", b'{"version": 0}', "nothing to redo"),
        ("/save", b'{"version": 0}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": ""}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "  "}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "a/b/c.ply"}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "a//c.ply"}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "../c.ply"}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "a/.c.ply"}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "x."}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "x.exe"}', "ends in .safetensors, .ply"),
        ("/save", b'{"version": 0, "name": "x"}', "ends in .safetensors, .ply"),
        ("/save", b'{"version": 0, "name": ".."}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": ".hidden.ply"}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "../a.ply"}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "/tmp/a.ply"}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "a\\u0000.safetensors"}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": "a\\ud800.safetensors"}', "give a name in the scene's folder"),
        ("/save", b'{"version": 0, "name": ["a.safetensors"]}', "give a name in the scene's folder"),
        ("/query", b'{"version": 0}', "give the text to look for, got None"),
        ("/query", b'{"version": 0, "text": ["chair"]}', "give the text to look for"),
        ("/query", b'{"version": 0, "text": " \\n"}', "the text is empty"),
        ("/query", b'{"version": 0, "text": "\\ud800"}', "no UTF-8"),
        ("/query", b'{"text": "chair"}', "send a JSON object"),
    ],
)
def test_wrong_orders_change_nothing(room: Room, path: str, body: bytes, message: str) -> None:
    answer = room.post(path, body)
    error = json.loads(answer.body)["error"]
    assert answer.status == 400 and message in error and "\n" not in error
    assert room.version == 0 and folder(room) == ["my room.safetensors"]


def test_saving_writes_beside_the_scene_and_asks_before_it_replaces(room: Room) -> None:
    post(room, "/edit", edits=[["remove", "box"]], version=0)
    status, answer = post(room, "/save", name="new.safetensors", version=1)
    assert status == 200 and [Path(file).name for file in answer["files"]] == ["new.safetensors"]
    assert folder(room) == ["my room.safetensors", "new.safetensors"]
    status, answer = post(room, "/save", name="new.safetensors", version=1)
    assert (status, answer["choices"]) == (409, ["rename", "replace"])
    status, answer = post(room, "/save", name="parts", groups=True, version=1)
    assert status == 200 and [Path(file).parent.name for file in answer["files"]] == ["parts"] * 4
    assert post(room, "/save", name="new.safetensors", replace=True, version=1)[0] == 200


def test_the_open_file_is_never_replaced(room: Room) -> None:
    """Its command line would apply the edits twice. All names of the file count; one choice is none."""
    source = Path(room.session.source)
    before = source.read_bytes()
    (source.parent / "soft.safetensors").symlink_to(source.name)
    os.link(source, source.parent / "hard.safetensors")
    (source.parent / "here").symlink_to(".")
    (source.parent / "cameras.json").symlink_to(source.name)
    post(room, "/edit", edits=[["remove", "box"]], version=0)
    for name in ("my room", "soft", "hard", "here/my room", "here/hard"):
        for more in ({}, {"replace": True}):
            status, answer = post(room, "/save", name=f"{name}.safetensors", version=1, **more)
            assert status == 400 and list(answer) == ["error"]
            assert "is the open scene, to which the edits apply; give another name" in answer["error"]
    for order in ({"name": "a.ply"}, {"name": "here", "groups": True, "replace": True}):
        status, answer = post(room, "/save", version=1, **order)
        assert status == 400 and "cameras.json is the open scene" in answer["error"]
    assert source.read_bytes() == before and len(folder(room)) == 5
    source.unlink()
    assert post(room, "/save", name=source.name, version=1)[0] == 400 and not source.exists()


def test_a_second_export_goes_into_a_folder_of_its_own(room: Room) -> None:
    assert post(room, "/save", name="a.ply", version=0)[0] == 200
    status, answer = post(room, "/save", name="b.ply", version=0)
    assert status == 400 and "belongs to a.ply" in answer["error"]
    status, answer = post(room, "/save", name="more/b.ply", version=0)
    assert status == 200 and {Path(file).parent.name for file in answer["files"]} == {"more"}
    status, answer = post(room, "/save", name="parts/groups", groups=True, version=0)
    assert status == 200 and {Path(file).parent.parent.name for file in answer["files"]} == {"parts"}


def test_a_file_that_is_overwritten_in_place_changes_nothing_of_the_session(room: Room) -> None:
    source = Path(room.session.source)
    before = room.session.scene.gaussians.means.clone()
    with source.open("r+b") as file:  # as `cp` does; truncating it would end a process that has it mapped
        file.write(bytes(source.stat().st_size))
    assert torch.equal(room.session.scene.gaussians.means, before)
    status, state = post(room, "/edit", edits=[["remove", "box"]], version=0)
    assert status == 200 and state["file_changed"]
    assert post(room, "/save", name="rescued.safetensors", version=1)[0] == 200
    assert tg.load_scene(source.parent / "rescued.safetensors").group_ids.tolist() == [1, 3]


def test_a_replaced_file_is_said_and_can_be_read_again(room: Room) -> None:
    first = room.session.source_key
    post(room, "/edit", edits=[["remove", "floor"]], version=0)
    tg.save_scene(room.session.source, tg.remove(tg.example_scene(), 2))
    assert json.loads(room.get("/state").body)["file_changed"]
    status, state = post(room, "/reload", version=1)
    assert (status, state["version"], state["steps"], state["file_changed"]) == (200, 2, [], False)
    assert state["source"] != first
    assert room.session.scene.group_names == ("floor", "ball")
    Path(room.session.source).unlink()
    assert post(room, "/reload", version=2)[0] == 400 and room.version == 2


def test_a_query_answers_for_all_groups_and_changes_nothing(room: Room) -> None:
    status, answer = post(room, "/query", text=" BALL ", version=0)
    matches = [{"id": 3, "probability": 1.0}, {"id": 1, "probability": 0.0}, {"id": 2, "probability": 0.0}]
    assert status == 200 and answer == {"text": "BALL", "encoder": None, "matches": matches}
    assert room.version == 0 and json.loads(room.get("/state").body)["steps"] == []
    post(room, "/edit", edits=[["remove", "ball"]], version=0)
    status, answer = post(room, "/query", text="ball", version=0)
    assert (status, answer["version"], answer["choices"]) == (409, 1, ["reload", "repeat"])
    assert [match["id"] for match in post(room, "/query", text="ball", version=1)[1]["matches"]] == [1, 2]


def test_one_encoder_serves_queries_and_edits_by_words() -> None:
    texts, scene = [], replace(tg.example_scene(), group_names=())
    assert scene.semantics is not None
    ball = scene.semantics.embeddings[2]

    def embed(_scene: TokenScene, text: str) -> torch.Tensor:
        if text == "nonsense":
            raise UserError("the encoder is not installed")
        texts.append(text)
        return ball

    room = Room(Session(scene, "a.safetensors"), embed=embed)
    assert json.loads(room.get("/state").body)["query"]
    status, answer = post(room, "/query", text="something  round", version=0)
    assert status == 200 and answer["text"] == "something round" and answer["encoder"] == scene.semantics.encoder
    assert answer["matches"][0]["id"] == 3 and len(answer["matches"]) == 3
    status, state = post(room, "/edit", edits=[["remove", "something round"]], version=0)
    assert status == 200 and state["steps"][0]["done"] == "removed 3" and texts == ["something round"] * 2
    for path, order in (("/query", {"text": "nonsense"}), ("/edit", {"edits": [["remove", "nonsense"]]})):
        assert post(room, path, version=1, **order) == (400, {"error": "the encoder is not installed"})
    assert not json.loads(Room(Session(scene, "a")).get("/state").body)["query"]


def test_an_inserted_group_is_found_from_where_the_server_was_started(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the command line, which then makes the same scene."""
    (tmp_path / "others").mkdir()
    tg.save_scene(tmp_path / "others" / "a room.safetensors", tg.example_scene())
    monkeypatch.chdir(tmp_path / "others")
    status, state = post(room, "/edit", edits=[["insert", "a room.safetensors:ball", "--at", "0", "0", "2"]], version=0)
    assert status == 200
    assert main(shlex.split(state["command"])[1:]) == 0
    post(room, "/save", name="saved.safetensors", version=1)
    assert Path("edited.safetensors").read_bytes() == (tmp_path / "saved.safetensors").read_bytes()
    status, answer = post(room, "/edit", edits=[["insert", "no room.safetensors:2", "--at", "0", "0", "2"]], version=1)
    assert (status, answer["error"]) == (400, "cannot read no room.safetensors: there is no such file")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=4), some, max_size=3),
    max_leaves=6,
)
WORDS = ["remove", "move", "scale", "split", "merge", "rename", "duplicate", "insert", "2", "box", "-1", "1e400", "nan",
         "--at", "/:2", "\ud800", "\0", "", "x" * 300]  # fmt: skip
EDITS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6) | JSON, max_size=2)
ORDERS = st.fixed_dictionaries({"version": st.just(0) | JSON}, optional={"edits": EDITS | JSON, "text": JSON})


@settings(max_examples=80, deadline=None, derandomize=True)
@given(path=st.sampled_from(["/edit", "/undo", "/redo", "/query"]), order=ORDERS)
def test_any_order_is_obeyed_or_refused_in_one_line(path: str, order: dict[str, Any]) -> None:
    room = Room(Session(tg.example_scene(), "a.safetensors"))
    status, answer = post(room, path, **order)
    assert status in (200, 400, 409) and (status == 200) != ("error" in answer)
    assert "\n" not in answer.get("error", "") and room.version == (path == "/edit" and status == 200)
    assert all(room.get(path).status == 200 for path in ("/state", "/scene"))


def test_requests_are_quick() -> None:
    """CPU time of one edit and its new scene at 32,768 Gaussians; the bound is ten times what it takes."""
    scene = tg.example_scene()
    many = torch.randint(len(scene.anchor_ids), (32768,), generator=torch.Generator().manual_seed(0))
    large = replace(scene, gaussians=scene.gaussians.map(lambda v: v[many]), anchor_ids=scene.anchor_ids[many])
    room = Room(Session(large, "a.safetensors"))
    start = time.process_time()
    post(room, "/edit", edits=[["merge", "ball", "floor"]], version=0)
    edited = time.process_time()
    room.get("/scene")
    assert edited - start < 0.1 and time.process_time() - edited < 0.5
