"""Edits in files: the same as on a command line, and one line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scenes import random_scene

from tokengroups.cli.main import main
from tokengroups.editing import parse_words, read_script, script_content
from tokengroups.errors import UserError
from tokengroups.scene import save_scene

EDITS = [
    ["remove", "2"],
    ["rotate", "thing 1", "--axis", "y", "--degrees", "-30"],
    ["insert", "scene.safetensors:2", "--at", "0", "0.2", "1.5"],
    ["rename", "9", "move"],
    ["merge", "5", "9"],
    ["split", "5"],
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_scene("scene.safetensors", random_scene())


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["edit", "scene.safetensors", *words, "-o", "out.safetensors"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1 and not Path("out.safetensors").exists()
    return line


def write(edits: object, **more: object) -> None:
    Path("edits.json").write_text(json.dumps({"format": "tokengroups.edits", "version": 1, "edits": edits} | more))


def test_a_script_writes_the_bytes_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    edits = EDITS[:-1]  # the groups of this random scene hang together
    Path("edits.json").write_text(json.dumps(script_content(edits)))
    assert main(["edit", "scene.safetensors", *sum(edits, []), "-o", "a.safetensors"]) == 0
    typed = capsys.readouterr().out
    assert main(["edit", "scene.safetensors", "--script", "edits.json", "-o", "b.safetensors"]) == 0
    assert capsys.readouterr().out.replace("b.safetensors", "a.safetensors") == typed
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "edits.json: not a file of edits; give {"),
        ({"edits": [["remove", "2"]]}, "edits.json: not a file of edits"),
        ({"format": "tokengroups.edits", "edits": [["remove", "2"]]}, "version None of tokengroups.edits"),
        (
            {"format": "tokengroups.edits", "version": 2, "edits": []},
            "version 2 of tokengroups.edits; this program reads",
        ),
        (script_content([]), "edits.json: no edits in it"),
        (script_content([]) | {"edits": {"remove": "2"}}, "edits.json: no edits in it"),
    ],
)
def test_other_files_are_refused(content: object, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("edits.json").write_text(json.dumps(content))
    assert message in refused(capsys, "--script", "edits.json")


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([["remove", "2"], ["paint", "5"]], "edits.json: edit 2: unknown operation 'paint'"),
        (
            [["remove", 2]],
            "edits.json: edit 1: an edit is a list of texts, the words of a command line, got ['remove', 2]",
        ),
        (["remove 2"], "edits.json: edit 1: an edit is a list of texts"),
        ([[]], "edits.json: edit 1: an edit is a list of texts"),
        (
            [["move", "5", "1"]],
            "edits.json: edit 1: 'move 5 1': 4 arguments expected, 2 found; the form is: move GROUP",
        ),
        ([["remove", "2", "remove", "5"]], "edits.json: edit 1: 'remove 2 remove 5' are 2 operations"),
        ([["remove", "2"], ["remove", "2"]], "edits.json: edit 2: there is no group 2; the scene has the groups 5, 8"),
        ([["remove", "2"], ["split", "5"]], "edits.json: edit 2: cannot split group 5: it is in one piece"),
        ([["insert", "none.safetensors:4", "--at", "0", "0", "1"]], "edits.json: edit 1: cannot read none.safetensors"),
        ([["remove", "a \x1b[2J lamp"]], r"edits.json: edit 1: no group has the name 'a \x1b[2J lamp'"),
    ],
)
def test_bad_edits_are_refused_by_their_number(edits: object, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(edits)
    assert message in refused(capsys, "--script", "edits.json")


def test_a_file_imports_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("trap.py").write_text("raise SystemExit('imported')")
    write([["trap:Edit", "5"]])
    assert "edit 1: a file asks for the operation 'trap:Edit'; if you trust it" in refused(
        capsys, "--script", "edits.json"
    )


def test_a_script_and_operations_together_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write(EDITS)
    assert "give operations or --script, not both" in refused(capsys, "remove", "2", "--script", "edits.json")
    assert "--script needs a value" in refused_at_the_end(capsys)
    assert "there is no such file" in refused(capsys, "--script=none.json")


def refused_at_the_end(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["edit", "scene.safetensors", "-o", "out.safetensors", "--script"]) == 2
    return capsys.readouterr().err


def test_read_script_parses_all() -> None:
    write(EDITS)
    assert [str(edit) for edit in read_script("edits.json")] == [str(parse_words(words)) for words in EDITS]
    with pytest.raises(UserError, match="unknown operation"):
        parse_words(["5"])
