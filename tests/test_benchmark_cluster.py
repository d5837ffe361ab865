"""`benchmarks/cluster.py` on small fields, and the fields that it makes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cluster
import pytest
import torch
from synthetic_fields import STYLES, make_field

from tokengroups.checkpoint import write_tensors
from tokengroups.evaluation.instance_field import joint_mean_iou, true_means_ceiling
from tokengroups.systems.iggt.clustering import ClusteringConfig, cluster_field


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["cluster.py", *map(str, arguments)])
    cluster.main()


def test_rows_of_a_made_up_field(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "rows.json"
    run(
        monkeypatch, "--sets", "2x32x40", "--styles", "clear", "--seeds", "3",
        "--methods", "mean_shift", "full_hdbscan", "--json", file,
    )  # fmt: skip
    rows = json.loads(file.read_text())
    field, ids = make_field(2, (32, 40), 3, STYLES["clear"])
    assert [(row["method"], row["views"], row["size"]) for row in rows] == [
        ("mean_shift", 2, "32x40"), ("full_hdbscan", 2, "32x40"),
    ]  # fmt: skip
    assert rows[0]["miou"] == joint_mean_iou(cluster_field(field, ClusteringConfig()).labels, ids)
    assert {row["ceiling"] for row in rows} == {true_means_ceiling(field, ids)}
    assert all(row["cpu_seconds"] > 0 and row["extra_mb"] is not None for row in rows)
    assert "| clear 3 | 2 | 32x40 | mean_shift |" in capsys.readouterr().out


def test_rows_of_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    field, ids = torch.zeros(1, 2, 16, 16), torch.zeros(1, 16, 16, dtype=torch.int64)
    field[:, 0], field[:, 1, :, 8:], ids[..., 8:], ids[0, 0, 0] = 1.0, 5.0, 1, -1
    write_tensors(tmp_path / "room.safetensors", {"field": field, "ids": ids})
    file = tmp_path / "rows.json"
    run(monkeypatch, "--features", tmp_path / "room.safetensors", "--methods", "linkage", "--json", file)
    (row,) = json.loads(file.read_text())
    assert row["data"] == "room" and row["miou"] == row["ceiling"] == pytest.approx((127 / 128 + 1) / 2)


def test_memory_is_that_of_the_result_and_little_more(tmp_path: Path) -> None:
    field, ids = make_field(30, (256, 256), 5, STYLES["clear"])
    write_tensors(tmp_path / "room.safetensors", {"field": field, "ids": ids})
    row = cluster.measure_in_child("room", tmp_path / "room.safetensors", "mean_shift", 0.5)
    assert row is not None
    result = ids.numel() * (8 + 4) / 2**20  # labels and margins; the field is 60 MB
    if row["extra_mb"] is not None:
        assert result <= row["extra_mb"] < result + 35


def test_a_method_that_does_not_end_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    monkeypatch.setattr(cluster, "LIMIT_S", 0.01)
    assert cluster.measure_in_child("field", tmp_path / "none", "mean_shift", 0.5) is None
    assert "mean_shift stopped after 0.01 s" in capsys.readouterr().out


@pytest.mark.parametrize("style", STYLES)
def test_made_up_fields_are_what_their_style_says(style: str) -> None:
    field, ids = make_field(8, (64, 64), 9, STYLES[style])
    assert field.shape == (8, 8, 64, 64) and torch.equal(field, make_field(8, (64, 64), 9, STYLES[style])[0])
    assert ids.unique().tolist() == list(range(int(ids.max()) + 1))
    shares = torch.bincount(ids.flatten()).double() / ids.numel()
    assert 10 < len(shares) <= 3 + STYLES[style].num_objects and (shares[:3] > 0.08).all()
    assert 0.5 < true_means_ceiling(field, ids) < 0.99
