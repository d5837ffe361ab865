"""Many scenes by one `tokengroups reconstruct --batch`: found, resumed, shared, and failing alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.cli import batch
from tokengroups.cli.batch import BatchScene, find_scenes, join_results, run_batch
from tokengroups.cli.main import main
from tokengroups.errors import UserError
from tokengroups.scene import load_scene
from tokengroups.training.shares import Processes

ROOT = Path(__file__).parents[1]


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """Two rooms of two photos, one without any, and one whose photo is damaged."""
    rng = np.random.default_rng(0)
    for name in ("room2", "room10"):
        (tmp_path / "rooms" / name).mkdir(parents=True)
        for view in range(2):
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "rooms" / name / f"{view}.png")
    return tmp_path / "rooms"


def spoil(rooms: Path) -> None:
    (rooms / "room3").mkdir()
    (rooms / "room3" / "a.jpg").write_text("no photo")


def reconstruct(*words: object) -> int:
    return main(["reconstruct", *map(str, words), "--keep-all"])


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_batch_makes_all_scenes_it_can_and_goes_on(
    rooms: Path, tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(rooms)
    out, options = tmp_path / "scenes", ("--weights", random_weights, "--postprocess", "none")
    assert reconstruct("--batch", rooms, "-o", out, *options, "--json") == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    rows = rows_in(out / "results.jsonl")
    assert [json.loads(line) for line in captured.out.splitlines()] == rows
    assert [row["name"] for row in rows] == ["room2", "room3", "room10"]
    assert "a.jpg: not a photo" in rows[1]["error"] and set(rows[1]) == {"name", "output", "error"}
    for row in (rows[0], rows[2]):
        scene = load_scene(row["output"])
        assert row["output"] == str(out / f"{row['name']}.safetensors") and row["seconds"] > 0
        assert (row["groups"], row["gaussians"], row["photos"]) == (len(scene.group_ids), len(scene.gaussians.means), 2)
    single = tmp_path / "single.safetensors"
    assert reconstruct(rooms / "room2", "-o", single, *options) == 0
    assert torch.equal(load_scene(single).gaussians.means, load_scene(out / "room2.safetensors").gaussians.means)
    capsys.readouterr()

    (rooms / "room3" / "a.jpg").unlink()
    Image.new("RGB", (64, 64), "teal").save(rooms / "room3" / "b.png")
    before = (out / "room2.safetensors").stat().st_mtime_ns
    assert reconstruct("--batch", rooms, "-o", out, *options, "--frames", "sharp") == 0
    text = capsys.readouterr().out
    assert "[1/3] room2: skipped" in text and "[2/3] room3: 1 photo ->" in text and "3 scenes of 3 made" in text
    assert (out / "room2.safetensors").stat().st_mtime_ns == before
    after = rows_in(out / "results.jsonl")
    assert {row["name"]: row for row in after} == {**{row["name"]: row for row in rows}, "room3": after[-1]}
    assert after[-1]["photos"] == 1 and sorted(path.name for path in out.iterdir()) == [
        "results.jsonl", "room10.safetensors", "room2.safetensors", "room3.safetensors",
    ]  # fmt: skip


def test_scenes_are_folders_videos_and_lines_of_lists(rooms: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "list.txt").write_text("# two\nrooms/room10\n\n  rooms/missing \n")
    out = tmp_path / "out"

    def names(*given: object) -> list[str]:
        scenes = find_scenes([str(word) for word in given], out)
        assert all(scene.output == out / f"{scene.name}.safetensors" for scene in scenes)
        return [scene.name for scene in scenes]

    assert names(rooms) == ["room2", "room10"]
    assert names(rooms / "room10", rooms / "room2", rooms / "room10") == ["room10", "room2"]
    assert names(tmp_path / "clip.mp4", tmp_path / "list.txt") == ["clip", "room10", "missing"]
    (rooms / "room2" / "deep").mkdir()
    assert names(rooms) == ["room2", "room10"]
    for name in ("room2", "room10"):
        (tmp_path / "scans" / name / "color").mkdir(parents=True)
    scans = tmp_path / "scans"
    assert names(scans / "room2" / "color", scans / "room10" / "color") == ["room2_color", "room10_color"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["missing"], "--batch missing: no such file or folder; give folders of photos"),
        (["empty.txt"], "--batch empty.txt: no scene in it"),
        (["x/a_b", "x/a/b", "y/b", "z/a_b"], "two scenes would be named x_a_b"),
    ],
)
def test_what_names_no_scene_is_one_line(given: list[str], message: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for name in ("x/a_b", "x/a/b", "y/b", "z/a_b"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match=message):
        find_scenes(given, tmp_path / "out")


def test_photos_beside_a_batch_are_refused(rooms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reconstruct(rooms / "room2", "-o", tmp_path / "out", "--batch", rooms) == 2
    assert "--batch names all scenes itself" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_masks_are_those_of_one_scene_each(
    rooms: Path, tmp_path: Path, random_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks, options = tmp_path / "masks", ("--weights", random_weights, "--postprocess", "none")
    masks.mkdir()
    half = np.repeat(np.array([[0, 255]], np.uint8), 32, axis=1).repeat(64, axis=0)
    Image.fromarray(half).save(masks / "0.png")
    assert reconstruct("--batch", rooms, "-o", tmp_path / "out", "--ignore", masks, *options) == 2
    assert "cannot tell which mask is whose: 0.png for" in capsys.readouterr().err
    for name in ("room2", "room10"):
        (masks / name).mkdir()
        Image.fromarray(half if name == "room2" else half[:, ::-1]).save(masks / name / "0.png")
    (masks / "0.png").unlink()
    assert reconstruct("--batch", rooms, "-o", tmp_path / "out", "--ignore", masks, *options) == 0
    assert capsys.readouterr().out.count("note: 25.0% of the pixels are ignored") == 2


def scenes_of(out: Path, count: int) -> list[BatchScene]:
    return [BatchScene(f"s{index}", out / f"photos{index}", out / f"s{index}.safetensors") for index in range(count)]


def summary(photos: list[str]) -> dict[str, Any]:
    return {"seconds": 1.5, "photos": photos, "num_groups": 2, "num_gaussians": 3, "notes": []}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_scene_belongs_to_one_process_and_one_file_has_all(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes, made = scenes_of(tmp_path, 5), []

    def make(source: str, output: Path) -> dict[str, Any]:
        made.append(output.stem)
        if output.stem == "s3":
            raise ZeroDivisionError("a fault")
        output.write_text("scene")
        return summary([source])

    monkeypatch.setattr(Processes, "total", lambda _, value: value)
    codes = [run_batch(scenes, tmp_path, make, Processes(i, count, "cpu"), False) for i in reversed(range(count))]
    assert sorted(made) == [scene.name for scene in scenes] and sum(codes) == 1
    rows = {row["name"]: row for row in rows_in(tmp_path / "results.jsonl")}
    assert sorted(rows) == [scene.name for scene in scenes]
    assert rows["s3"]["error"] == "ZeroDivisionError: a fault" and rows["s4"]["groups"] == 2
    assert [path.name for path in tmp_path.glob("results*")] == ["results.jsonl"]


def test_a_fault_of_the_program_is_not_hidden(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make(source: str, output: Path) -> dict[str, Any]:
        raise IndexError(source, output)

    assert run_batch(scenes_of(tmp_path, 1), tmp_path, make, Processes(0, 1, "cpu"), False) == 1
    assert "Traceback" in capsys.readouterr().err


def test_lines_of_killed_processes_are_joined(tmp_path: Path) -> None:
    scenes = scenes_of(tmp_path, 3)
    for scene in scenes[:2]:
        scene.output.write_text("scene")
    row = {"name": "s0", "output": str(scenes[0].output), "groups": 7}
    (tmp_path / "results.7.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps({'name': 's1', 'error': 'old'})}\n[]\n")
    (tmp_path / "results.jsonl").write_text(f'{json.dumps({"name": "s2", "error": "new"})}\n{{"name": "s1", "gro')
    rows = join_results(tmp_path, scenes)
    assert rows == [
        row,
        {"name": "s1", "output": str(scenes[1].output), "skipped": True},
        {"name": "s2", "error": "new"},
    ]
    assert rows_in(tmp_path / "results.jsonl") == [rows[2], rows[0], rows[1]]
    assert not (tmp_path / "results.7.jsonl").exists()


@pytest.mark.slow
def test_processes_of_torchrun_share_a_batch(rooms: Path, tmp_path: Path, random_weights: Path) -> None:
    spoil(rooms)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [
        "-m",
        "tokengroups",
        "reconstruct",
        "--batch",
        rooms,
        "-o",
        tmp_path / "out",
        "--device",
        "cpu",
        "--keep-all",
    ]
    options = ["--weights", random_weights, "--postprocess", "none", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*torchrun, *map(str, words), *map(str, options)], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1, done.stderr  # room3 failed
    rows = {row["name"]: row for row in rows_in(tmp_path / "out" / "results.jsonl")}
    assert sorted(rows) == ["room10", "room2", "room3"] and "not a photo" in rows["room3"]["error"]
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert {row["name"]: row for row in printed} == rows
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        batch.RESULTS, "room10.safetensors", "room2.safetensors",
    ]  # fmt: skip
