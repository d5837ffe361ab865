"""Weight folders of systems: what they name, and what is refused."""

from __future__ import annotations

import json
import resource
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from PIL import Image
from toy_systems import ENCODER, GROUPS

from tokengroups.checkpoint import read_tensors, shipped_weights
from tokengroups.cli.main import main
from tokengroups.encoders import load_encoder, save_encoder
from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.postprocess.flip_ensemble import FlipEnsemble
from tokengroups.postprocess.photometric import PhotometricRefinement
from tokengroups.systems import DEFAULT_WEIGHTS, load_model, save_system
from tokengroups.systems.token_groups import TokenGroups
from tokengroups.systems.token_groups_tiny import TokenGroupsTiny


@pytest.fixture
def folder(tmp_path) -> Path:
    """Weights of token groups with two steps of post-processing, their encoder beside them."""
    torch.manual_seed(0)
    model = TokenGroups(VGGT(ENCODER), GROUPS, [FlipEnsemble(), PhotometricRefinement(3)])
    save_encoder(tmp_path / "encoder", model.encoder.state_dict(), ENCODER)
    save_system(tmp_path / "own", model.network.state_dict(), model, GROUPS, str(tmp_path / "encoder"))
    return tmp_path / "own"


@pytest.fixture
def changed(folder) -> Callable[..., Path]:
    """Changes the folder's config.json: a key set to `...` goes."""

    def change(**values: Any) -> Path:
        path = folder / "config.json"
        content = json.loads(path.read_text()) | values
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))
        return folder

    return change


def refused(source: Path) -> str:
    with pytest.raises(UserError) as error:
        load_model(source)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_names_its_system_encoder_and_steps(folder):
    saved = json.loads((folder / "config.json").read_text())
    assert saved["system"] == "token_groups" and saved["encoder"] == str(folder.parent / "encoder")
    assert saved["config"]["num_groups"] == 6
    assert saved["postprocess"] == [
        {"name": "flip_ensemble"},
        {"name": "photometric_refinement", **vars(PhotometricRefinement(3))},
    ]
    loaded = load_model(folder)
    assert type(loaded) is TokenGroups and loaded.steps == (FlipEnsemble(), PhotometricRefinement(3))
    assert not any(parameter.requires_grad for parameter in loaded.encoder.parameters())


def test_loaded_weights_are_saved_alike(folder, tmp_path):
    loaded = load_model(folder)
    loaded.export(tmp_path / "again", loaded.network.state_dict())
    again = tmp_path / "again"
    assert (again / "config.json").read_text() == (folder / "config.json").read_text()
    before, after = (read_tensors(path / "model.safetensors") for path in (folder, again))
    assert before.keys() == after.keys() and all(value.dtype == torch.float16 for value in after.values())
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_shipped_weights_are_a_tiny_system_and_its_encoder():
    assert DEFAULT_WEIGHTS in shipped_weights()
    model = load_model()
    assert type(model) is TokenGroupsTiny and model.text_encoder.startswith("minilm:")
    expected = load_encoder(model.encoder_source).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.encoder.state_dict().items())


def test_weights_of_nothing_are_refused(changed):
    assert "the checkpoint of another model (anchor_decoder." in refused(changed(system=..., encoder=...))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "token_group"}, "no system 'token_group'; choose from token_groups, token_groups_tiny, "),
        ({"system": "pixel_gaussians"}, "the system 'pixel_gaussians' makes no scenes"),
        (
            {"system": "planted_part:Groups"},
            "a file asks for the system 'planted_part:Groups'; if you trust it, import",
        ),
        ({"system": "pathlib:Path"}, "the system 'pathlib:Path' makes no scenes"),
        ({"system": 3}, "the key 'system' must be str, got 3 (int)"),
        ({"encoder": ...}, "the key 'encoder' is missing"),
        ({"encoder": None}, "the key 'encoder' must be str, got None"),
        ({"encoder": "nowhere"}, "no VGGT weights at nowhere"),
        ({"encoder": "token_groups_tiny"}, "holds the system 'token_groups_tiny'; give the weights of an encoder"),
        ({"encoder": "planted_part:Eye"}, "a file asks for the encoder 'planted_part:Eye'; if you trust it, import"),
        ({"config": []}, "the key 'config' must be"),
        ({"config": {"groups": 3}}, "unknown key 'groups'; did you mean 'num_groups'?"),
        ({"config": {"anchor_stride": 3}}, "anchor_stride must divide context_patch, got 3 and 16"),
        ({"config": {"dim": "wide"}}, "the key 'dim' must be a whole number from 1 to 16,384, got 'wide'"),
        ({"postprocess": "flip_ensemble"}, "the key 'postprocess' must be a list"),
        ({"postprocess": [3]}, "the key 'postprocess' must be"),
        ({"postprocess": ["blur"]}, "no step 'blur'; choose from bundle_adjustment"),
        (
            {"postprocess": ["planted_part:Blur"]},
            "a file asks for the step 'planted_part:Blur'; if you trust it, import",
        ),
        ({"postprocess": [{"name": "flip_ensemble", "x": 1}]}, "flip_ensemble: unknown key 'x'"),
        ({"postprocess": ["boundary_crf"]}, "the step boundary_crf needs pair_affinity"),
        ({"sharpening": 3}, "unknown key 'sharpening'"),
    ],
)
def test_wrong_configurations_are_one_line(changed, monkeypatch, tmp_path, changes, message):
    (tmp_path / "planted_part.py").write_text("raise SystemExit('was imported')\n")
    monkeypatch.chdir(tmp_path)
    assert message in refused(changed(**changes))
    assert "planted_part" not in sys.modules


def test_maps_that_the_encoder_does_not_give_are_one_line(changed):
    config = {"single_view_features": True}
    answer = refused(changed(system="token_groups_tiny", config=config))
    assert "encoder does not fit the model: single_view_features needs an encoder" in answer


@pytest.fixture
def no_hub(monkeypatch) -> None:
    """Whoever asks the network or the hub's cache fails the test."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


@pytest.mark.usefixtures("no_hub")
def test_a_hub_id_in_a_file_is_never_looked_up_but_a_typed_encoder_takes_its_place(changed, folder):
    answer = refused(changed(encoder="attacker/tracker"))
    assert answer.startswith(f"{folder}/config.json: a file asks for the encoder 'attacker/tracker' of the model hub")
    assert "--encoder ID" in answer and "load_model(..., encoder=ID)" in answer
    with pytest.raises(AssertionError, match="the network was asked"):
        load_model(folder, encoder="somebody/typed")
    loaded = load_model(folder, encoder=folder.parent / "encoder")
    assert loaded.encoder_source == str(folder.parent / "encoder")
    with pytest.raises(UserError, match="no VGGT weights at nowhere"):
        load_model(folder, encoder="nowhere")


@pytest.mark.usefixtures("no_hub")
def test_the_command_line_passes_the_typed_encoder(changed, tmp_path, capsys):
    changed(encoder="attacker/tracker")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    command = ["reconstruct", str(tmp_path / "a.png"), "--weights", str(tmp_path / "own"), "-o"]
    assert main([*command, str(tmp_path / "a.safetensors")]) == 2
    assert "attacker/tracker" in capsys.readouterr().err and not (tmp_path / "a.safetensors").exists()
    assert main([*command, str(tmp_path / "a.safetensors"), "--encoder", str(tmp_path / "encoder")]) == 0
    assert (tmp_path / "a.safetensors").is_file()


GIANT = [
    {"dim": 10**9},
    {"dim": 16_384, "num_heads": 2, "group_layers": 256},
    {"group_layers": 10**12},
    {"num_groups": 4096, "dim": 16_384},
    {"semantic_dim": 16_384, "dim": 16_384},
    {"gaussians_per_anchor": 10**9},
    {"num_anchors": 10**9},
    {"context_patch": 2**40},
]


@pytest.mark.parametrize("config", GIANT, ids=str)
def test_giant_sizes_are_refused_before_they_take_memory(config, changed, folder):
    values = json.loads((folder / "config.json").read_text())["config"] | config
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert f"{folder}/config.json: " in refused(changed(config=values))
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**20  # KiB


@pytest.mark.parametrize(
    "config",
    [
        {"embed_dim": 10**9},
        {"embed_dim": 16_384, "depth": 256},
        {"depth": 2**31},
        {"mlp_ratio": 64.0, "embed_dim": 16_384},
        {"mlp_ratio": 1e300},
        {"image_size": 4096, "patch_size": 1, "embed_dim": 16_384},
        {"dpt_channels": [16_384] * 4},
        {"num_registers": 10**9},
        {"camera_iterations": 10**9},
    ],
    ids=str,
)
def test_giant_encoders_are_refused_before_they_take_memory(config, folder):
    path = folder.parent / "encoder" / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"config": content["config"] | config}))
    peak, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert str(path) in refused(folder)
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**20


@pytest.mark.parametrize("text", ["", "{", "[]", '"token_groups"', "[" * 100_000, '{"system": ' + "9" * 5000 + "}"])
def test_damaged_configurations_are_one_line(folder, text):
    (folder / "config.json").write_text(text)
    assert str(folder / "config.json") in refused(folder)


def test_damaged_and_missing_tensors_are_one_line(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert "truncated or damaged" in refused(folder)
    path.unlink()
    assert "model.safetensors: there is no such file" in refused(folder)
