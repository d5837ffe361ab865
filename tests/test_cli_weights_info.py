"""`tokengroups info WEIGHTS`: what files, folders, names and hub ids are, without loading them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import iggt_weights
import pytest
import segvggt_networks
import torch
from safetensors.torch import save_file
from toy_systems import ENCODER, GROUPS

from tokengroups.cli.main import main
from tokengroups.encoders.published import LICENCES
from tokengroups.encoders.vggt import VGGT
from tokengroups.systems import TrainingPhotos, load_model, save_system
from tokengroups.systems.token_groups import TokenGroups


def info(capsys: pytest.CaptureFixture[str], source: object) -> dict[str, Any]:
    assert main(["info", str(source)]) == 0
    assert "licence " in capsys.readouterr().out
    assert main(["info", str(source), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], source: object) -> str:
    capsys.readouterr()
    assert main(["info", str(source)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_published_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    states = {
        "SegVGGT": segvggt_networks.published_state(), "IGGT": iggt_weights.published_state(),
        "VGGT": VGGT(iggt_weights.SIZES).bfloat16().state_dict(),
    }  # fmt: skip
    systems = {"SegVGGT": "segvggt", "IGGT": "iggt", "VGGT": "geometry_groups"}
    for kind, state in states.items():
        torch.save({"model": state}, tmp_path / f"{kind}.pt")
        save_file(state, tmp_path / f"{kind}.safetensors")
        for suffix in ("pt", "safetensors"):
            found = info(capsys, tmp_path / f"{kind}.{suffix}")
            assert found["kind"] == f"published {kind}" and found["system"] == systems[kind]
            assert found["licence"] == LICENCES[kind]
            assert (
                found["parameters"] == sum(tensor.numel() for tensor in state.values()) == sum(found["parts"].values())
            )
            assert found["bytes"] == sum(tensor.nbytes for tensor in state.values())
            assert found["dtypes"][0] == ("bfloat16" if kind == "VGGT" else "float32")
    assert info(capsys, tmp_path / "SegVGGT.pt")["classes"] == segvggt_networks.CONFIG.num_classes


def test_own_weights_and_their_training_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = TokenGroups(VGGT(ENCODER), GROUPS)
    model.training_photos = TrainingPhotos(24)
    save_system(tmp_path / "own", model.network.state_dict(), model, GROUPS, "vggt_tiny")
    found = info(capsys, tmp_path / "own")
    assert (found["kind"], found["system"], found["encoder"]) == ("system", "token_groups", "vggt_tiny")
    assert found["training_size"] == 24 and found["square"] is True and found["dtypes"] == ["float16"]


def test_shipped_names(capsys: pytest.CaptureFixture[str]) -> None:
    found = info(capsys, "token_groups_tiny")
    assert found["text_encoder"].startswith("minilm:") and "extra 'text'" in found["needs"]
    assert found["postprocess"][0] == "bundle_adjustment" and found["training_size"] is None
    assert info(capsys, "segvggt_tiny")["classes"] == 44 and info(capsys, "vggt_tiny")["kind"] == "encoder"


def test_hub_ids_are_looked_up_in_the_cache_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tokengroups.systems.description.cached_folder", lambda _: None)
    found = info(capsys, "facebook/VGGT-1B")
    assert found["kind"] == "published VGGT, not downloaded" and found["bytes"] == 5_026_367_224
    assert "a download of 5.0 GB" in found["needs"]
    assert "'somebody/weights' is not in the hub's cache" in refused(capsys, "somebody/weights")
    torch.save(iggt_weights.published_state(), tmp_path / "iggt_checkpoint.pth")
    monkeypatch.setattr("tokengroups.systems.description.cached_folder", lambda _: tmp_path)
    for source in ("lifuguan/IGGT_official", "somebody/weights"):
        assert info(capsys, source)["path"] == str(tmp_path / "iggt_checkpoint.pth")


def test_other_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"backbone.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.safetensors").write_text("no")
    assert "the checkpoint of another model (backbone.weight" in refused(capsys, tmp_path / "other.safetensors")
    assert "no model.safetensors in" in refused(capsys, tmp_path / "empty")
    assert "not a safetensors file" in refused(capsys, tmp_path / "damaged.safetensors")
    assert "there is no such file" in refused(capsys, tmp_path / "missing.safetensors")


@pytest.mark.parametrize("photos", [None, TrainingPhotos(24), TrainingPhotos(40, square=False)])
def test_a_folder_remembers_the_photos_of_its_training(photos: TrainingPhotos | None, tmp_path: Path) -> None:
    model = TokenGroups(VGGT(ENCODER), GROUPS)
    model.training_photos = photos
    save_system(tmp_path / "own", model.network.state_dict(), model, GROUPS, "vggt_tiny")
    loaded = load_model(tmp_path / "own", encoder=_encoder(tmp_path))
    assert loaded.training_photos == photos
    assert loaded.image_size == (ENCODER.image_size if photos is None else photos.size)


def _encoder(folder: Path) -> Path:
    from tokengroups.encoders import save_encoder

    save_encoder(folder / "encoder", VGGT(ENCODER).state_dict(), ENCODER)
    return folder / "encoder"
