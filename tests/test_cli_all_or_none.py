"""Commands that write several files write them all or none, whatever happens between the first and the last."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import random_scene

from tokengroups.cli import text
from tokengroups.cli.main import main
from tokengroups.data.readers.scannet import ScanNetScene, find_scenes
from tokengroups.io import pictures, pixels, ply
from tokengroups.scene import load_scene, save_scene

# A command that writes four files or more, and the function that writes one of them.
COMMANDS: dict[str, tuple[str, Any, str]] = {
    "render": ("render {scene} -o {out} --what color", pictures, "save_color"),
    "list": ("list {scene} --thumbnails {out}", pictures, "save_color"),
    "query": ("query {scene} lamp --render {out}", pictures, "save_color"),
    "ask": ("ask {scene} lamp --save-views {out}", pictures, "save_color"),
    "edit": ("edit {scene} remove 2 -o {folder}/edited.safetensors --render {out}", pictures, "save_color"),
    "export": ("export {scene} -o {folder}/scene.ply --groups {out}", ply, "save_ply"),
}
# What every command replaces in the folder of its output.
WRITTEN = {
    "render": "color_001.png", "list": "group_008.png", "query": "2_group_002.png", "edit": "after_001.png",
    "ask": "group_005_view_001.png", "export": "group_005.ply",
}  # fmt: skip


class Words:
    """A text encoder in the space of `random_scene`, for which every text is the second group."""

    name, dim = "words:1", 4

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        return torch.eye(4)[[1] * len(texts)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    scene = random_scene(semantic_dim=4)
    assert scene.semantics is not None
    save_scene(
        tmp_path / "scene.safetensors", replace(scene, semantics=replace(scene.semantics, embeddings=torch.eye(3, 4)))
    )
    monkeypatch.setattr(text, "load_encoder_for", lambda *_: Words())
    return tmp_path


def run(command: str, folder: Path, out: Path) -> int:
    words = COMMANDS[command][0].format(scene=folder / "scene.safetensors", folder=folder, out=out)
    return main(words.split())


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def failing_at(call: int, function: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    calls: list[int] = []

    def wrapped(*words: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise error
        return function(*words, **options)

    return wrapped


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_fills_up_changes_nothing(
    command: str, there: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command succeeds before and after, with the same files."""
    out = folder / "deep" / "out"
    if there:
        assert run(command, folder, out) == 0
        (out / WRITTEN[command]).write_bytes(b"of an earlier call")
    before = content(folder)
    _, module, name = COMMANDS[command]
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failing_at(2, getattr(module, name), full))
        capsys.readouterr()
        assert run(command, folder, out) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: cannot write ") and complaint.count("\n") == 1
    assert "nothing was changed" in complaint and ".staging" not in complaint
    assert content(folder) == before
    assert run(command, folder, out) == 0
    after = content(folder)
    assert after != before and not any(".staging" in name for name in after)
    assert (out / WRITTEN[command]).read_bytes() != b"of an earlier call"


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_changes_nothing(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(folder)
    _, module, name = COMMANDS[command]
    monkeypatch.setattr(module, name, failing_at(2, getattr(module, name), KeyboardInterrupt()))
    assert run(command, folder, folder / "out") == 130
    assert content(folder) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_that_cannot_be_replaced_is_found_before_others_are(
    command: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out"
    (out / WRITTEN[command]).mkdir(parents=True)
    before = content(folder)
    assert run(command, folder, out) == 2
    assert f"cannot write {out / WRITTEN[command]}: it is a folder" in capsys.readouterr().err
    assert content(folder) == before


def test_an_export_whose_sidecar_cannot_be_replaced_writes_no_groups(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cameras.json").mkdir()
    before = content(folder)
    assert run("export", folder, folder / "out") == 2
    assert f"cannot write {folder / 'cameras.json'}: it is a folder" in capsys.readouterr().err
    assert content(folder) == before


@pytest.mark.parametrize("place", ["{folder}", "{folder}/scene.ply", "{folder}/scene.ply/groups", "{folder}/out/.."])
def test_groups_need_a_folder_of_their_own(place: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both parts have a groups.json: one would replace that of the other."""
    (folder / "out").mkdir()
    before = content(folder)
    assert run("export", folder, Path(place.format(folder=folder))) == 2
    assert "give the groups their own folder" in capsys.readouterr().err
    assert content(folder) == before


def test_an_edit_and_its_pictures_appear_together(folder: Path) -> None:
    assert run("edit", folder, folder / "out") == 0
    assert load_scene(folder / "edited.safetensors").group_ids.tolist() == [5, 8]
    assert len(list((folder / "out").iterdir())) == 4


def test_rooms_stay_when_they_are_complete_and_the_note_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A room has six pictures here: the disk is full within the third room."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("tokengroups.data.readers.scannet.write_pixels", failing_at(20, pixels.write_pixels, full))
    out = tmp_path / "rooms"
    words = ["data", "procedural", "--out", str(out), "--num-scenes", "4", "--num-views", "2", "--size", "24"]
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"note: {out} has the first 2 rooms of 4, complete"
    assert lines[1].startswith(f"error: cannot write {out}/test_0_000002: No space left on device")
    assert sorted(path.name for path in out.iterdir()) == ["test_0_000000", "test_0_000001"]
    assert [len(ScanNetScene(scene)[:]) for scene in find_scenes(out)] == [2, 2]


def test_a_demo_that_fails_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights are found missing only after the photos have been made."""
    out = tmp_path / "my demo" / "here"
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--out", str(out), "--scenes", "1", "--weights", "missing"])
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert f"$ tokengroups reconstruct '{out}/room_1/photos' -o '{out}/room_1/scene.safetensors'" in captured.out
    assert captured.err.startswith("error: ") and ".staging" not in captured.out + captured.err
    assert list(tmp_path.iterdir()) == []


def test_a_render_over_an_earlier_one_keeps_other_files(folder: Path) -> None:
    out = folder / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert run("render", folder, out) == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert len(json.loads((out / "cameras.json").read_text())) == 2
