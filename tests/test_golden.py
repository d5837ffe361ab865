"""The command that compares a golden file with this code: its table, its JSON, its exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import golden
import pytest
from safetensors.torch import load_file, save_file
from tolerances import RELATIVE_L2


@pytest.mark.parametrize("name", ["raster_a", "raster_b"])
def test_every_backend_reproduces_images_and_gradients(name: str, data_dir: Path) -> None:
    rows = golden.compare("raster", data_dir / f"{name}.safetensors")
    outputs = ["render", "alpha", *(f"grad.{leaf}" for leaf in ("means", "quats", "scales", "opacities", "colors"))]
    labels = list(dict.fromkeys(row.name.rpartition(": ")[0] for row in rows))
    assert labels[:2] == ["torch float64", "torch"]
    assert [row.name for row in rows] == [f"{label}: {output}" for label in labels for output in outputs]
    for row in rows:
        gate = "render_gradients_flip" if row.name.startswith("gsplat") else "render_gradients"
        assert row.error < (1e-10 if "float64" in row.name else RELATIVE_L2[gate]), row


def test_errors_are_printed_and_written(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, report = data_dir / "pose_encoding.safetensors", tmp_path / "errors.json"
    assert golden.main(["vggt", str(path), "--json", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "4 of 4 errors below their gates"
    written = json.loads(report.read_text())
    assert (written["kind"], written["file"], written["passed"]) == ("vggt", path.name, True)
    for line, output in zip(lines[1:], written["outputs"], strict=False):
        assert re.split(" +", line.strip())[:2] == [output["name"], f"{output['error']:.2e}"]
        assert output["passed"] and 0 <= output["error"] < output["gate"]


def test_an_error_above_its_gate_is_told_by_the_exit_code(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(data_dir / "pose_encoding.safetensors")
    tensors["extrinsics"][0, 0, 0, 3] += 1
    tensors["world_points"] = tensors["world_points"][:, :-1].contiguous()
    save_file(tensors, tmp_path / "spoilt.safetensors")
    words = ["vggt", str(tmp_path / "spoilt.safetensors"), "--json", str(tmp_path / "errors.json")]
    assert golden.main(words) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.endswith("above the gate") for line in lines[1:-1]] == [True, False, False, True]
    outputs = json.loads((tmp_path / "errors.json").read_text())["outputs"]
    assert [output["passed"] for output in outputs] == [False, True, True, False]
    assert outputs[3]["error"] is None  # another shape


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("iggt_heads", "raster_a.safetensors", "this is no golden file of IGGT's heads"),
        ("segvggt", "raster_a.safetensors", "this is no golden file of SegVGGT"),
        ("vggt", "raster_a.safetensors", "this is no golden file of VGGT"),
        ("raster", "pose_encoding.safetensors", "no golden file of the renderer, it lacks Ks, colors, means"),
        ("raster", "raster_bench_S.safetensors", "holds a scene but no images to compare with"),
        ("raster", "missing.safetensors", "cannot read the golden file"),
        ("vggt", "procedural_room.npz", "cannot read the golden file"),
    ],
)
def test_other_files_are_refused_in_one_line(
    kind: str, name: str, message: str, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert golden.main([kind, str(data_dir / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
