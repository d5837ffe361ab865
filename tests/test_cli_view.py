"""`tokengroups view`, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scenes import random_scene

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.cli import view
from tokengroups.cli.main import main
from tokengroups.scene import save_scene


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    save_scene(tmp_path / "my room.safetensors", random_scene())
    return tmp_path / "my room.safetensors"


def run(*words: object) -> int:
    return main(["view", *map(str, words)])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run(*words) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    assert "tokengroups view scene.safetensors --html room.html" in capsys.readouterr().out


def test_it_writes_one_page(scene_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = scene_file.parent / "room.html"
    assert run(scene_file, "--html", page) == 0
    captured = capsys.readouterr()
    assert captured.out == f"wrote {page} (24 Gaussians, {page.stat().st_size / 1e6:.1f} MB); open it in a browser\n"
    assert captured.err == ""
    assert "<title>my room</title>" in page.read_text()
    assert sorted(path.name for path in page.parent.iterdir()) == ["my room.safetensors", "room.html"]


def test_fewer_gaussians_are_noted(
    scene_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = scene_file.parent / "room.html"
    assert run(scene_file, "--html", page, "--max-gaussians", 10) == 0
    assert "the page shows 10 Gaussians of 24" in capsys.readouterr().err
    monkeypatch.setattr(view, "MANY", 20)
    assert run(scene_file, "--html", page) == 0
    assert "24 Gaussians may be slow to draw; --max-gaussians 20 shows the largest" in capsys.readouterr().err


def test_bad_input_is_one_line_and_changes_nothing(scene_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = scene_file.parent, scene_file.parent / "room.html"
    page.write_text("of an earlier call")
    before = scene_file.read_bytes()
    assert "ends in .html" in refused(capsys, scene_file, "--html", scene_file)
    assert "there is no folder" in refused(capsys, scene_file, "--html", folder / "none" / "room.html")
    assert "there is no such file" in refused(capsys, folder / "none.safetensors", "--html", page)
    assert "must be at least 1" in refused(capsys, scene_file, "--html", page, "--max-gaussians", 0)
    tensors = read_tensors(scene_file)
    tensors["means"][0, 0] = torch.nan
    metadata = {key: value for key, value in read_metadata(scene_file).items() if key != "digest"}
    write_tensors(folder / "nan.safetensors", tensors, metadata)
    assert "NaN" in refused(capsys, folder / "nan.safetensors", "--html", page)
    assert page.read_text() == "of an earlier call" and scene_file.read_bytes() == before


def test_a_page_is_asked_for(scene_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(scene_file)
    assert stopped.value.code == 2
    assert "--html" in capsys.readouterr().err
