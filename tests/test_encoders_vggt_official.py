"""Loading of weight files in the format of the published VGGT-1B, on small random ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tokengroups.checkpoint.foreign import INDEX_FILE
from tokengroups.encoders.vggt import VGGT, VGGTConfig, load_official
from tokengroups.errors import UserError

CONFIG = VGGTConfig(
    image_size=56, embed_dim=16, num_heads=2, dino_depth=1, depth=4, camera_depth=1, camera_heads=2,
    dpt_layers=(0, 1, 2, 3), dpt_channels=(4, 4, 4, 4), dpt_features=8, dpt_hidden=4,
)  # fmt: skip
TRACKER = {
    "track_head.tracker.fmap_norm.weight": torch.ones(8),
    "track_head.feature_extractor.norm.bias": torch.ones(2),
}


@pytest.fixture
def reference():
    return VGGT(CONFIG).eval()


@pytest.fixture
def weights_folder(tmp_path, reference):
    save_file(reference.state_dict() | TRACKER, tmp_path / "model.safetensors")
    return tmp_path


@pytest.mark.parametrize("as_folder", [True, False])
def test_loads_everything_but_the_tracking_head(weights_folder, reference, as_folder):
    model = load_official(weights_folder if as_folder else str(weights_folder / "model.safetensors"), CONFIG)
    images = torch.rand(1, 2, 3, 28, 42)
    with torch.no_grad():
        assert torch.equal(model(images).depth, reference(images).depth)
    assert model.frozen and not any(parameter.requires_grad for parameter in model.parameters())


def test_a_head_switched_off_is_left_in_the_file(weights_folder):
    assert load_official(weights_folder, replace(CONFIG, enable_point=False)).point_head is None


def test_a_point_head_may_be_missing(tmp_path, reference):
    save_file({k: v for k, v in reference.state_dict().items() if "point_head" not in k}, tmp_path / "w.safetensors")
    model = load_official(tmp_path / "w.safetensors", CONFIG)
    assert model.point_head is None and not model.config.enable_point
    with torch.no_grad():
        assert model.encode(torch.rand(1, 2, 3, 28, 42)).depth.shape == (1, 2, 28, 42)


DIFFERENCES = {
    "missing": "1 missing: aggregator.camera_token;",
    "extra": "1 unexpected: aggregator.camera_token2;",
    "shape": r"1 of another shape: aggregator.camera_token \[1, 2, 1, 8\] for \[1, 2, 1, 16\];",
}


@pytest.mark.parametrize("change", DIFFERENCES)
def test_any_other_difference_is_one_line(tmp_path, reference, change):
    tensors = reference.state_dict() | TRACKER
    if change == "missing":
        del tensors["aggregator.camera_token"]
    elif change == "extra":
        tensors["aggregator.camera_token2"] = torch.zeros(1)
    else:
        tensors["aggregator.camera_token"] = torch.zeros(1, 2, 1, 8)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=DIFFERENCES[change]) as caught:
        load_official(tmp_path, CONFIG)
    assert "\n" not in str(caught.value)


FORMS = ("file", "only file", "bfloat16", "float16", "module.", "model.", "pt", "legacy pt", "shards", "index")


def write(folder: Path, form: str, tensors: dict[str, torch.Tensor]) -> Path:
    """The weights in one of the forms in which they are handed on; returns what a user would name."""
    if form in ("bfloat16", "float16"):
        tensors = {name: tensor.to(getattr(torch, form)) for name, tensor in tensors.items()}
    if form.endswith("."):
        tensors = {form + name: tensor for name, tensor in tensors.items()}
    if form.endswith("pt"):
        torch.save({"model": tensors}, folder / "a.pt", _use_new_zipfile_serialization=form == "pt")
        return folder / "a.pt"
    if form in ("shards", "index"):
        names = sorted(tensors)
        parts = {f"model-0000{i + 1}-of-00003.safetensors": names[i::3] for i in range(3)}
        for file, part in parts.items():
            save_file({name: tensors[name] for name in part}, folder / file)
        index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
        (folder / INDEX_FILE).write_text(json.dumps(index))
        return folder / INDEX_FILE if form == "index" else folder
    save_file(tensors, folder / "vggt.safetensors")
    return folder if form == "only file" else folder / "vggt.safetensors"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_model(form, tmp_path, reference):
    state = {name: tensor.half().float().bfloat16().float() for name, tensor in reference.state_dict().items()}
    loaded = load_official(write(tmp_path, form, state | TRACKER), CONFIG)
    assert all(torch.equal(tensor.float(), state[name]) for name, tensor in loaded.state_dict().items())


def test_shards_alone_and_missing_ones_are_one_line(tmp_path, reference):
    folder = write(tmp_path, "shards", reference.state_dict())
    with pytest.raises(UserError, match=rf"one of 3 shards; give the folder with all and {INDEX_FILE}$"):
        load_official(folder / "model-00002-of-00003.safetensors", CONFIG)
    (folder / "model-00002-of-00003.safetensors").rename(folder / "away.bak")
    with pytest.raises(UserError, match="model-00002-of-00003.safetensors: there is no such file; download"):
        load_official(folder, CONFIG)
    (folder / INDEX_FILE).unlink()
    with pytest.raises(UserError, match=f"holds shards without {INDEX_FILE}"):
        load_official(folder, CONFIG)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "lacks 'weight_map'"),
        ({"weight_map": {"a": "../../etc/passwd"}}, "outside of its folder"),
        ({"weight_map": {"a": "vggt.safetensors"}}, "its shards lack a;"),
        ([], "lacks 'weight_map'"),
    ],
)
def test_wrong_indices_are_one_line(index, message, tmp_path, reference):
    write(tmp_path, "file", reference.state_dict())
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        load_official(tmp_path, CONFIG)


def test_several_files_in_a_folder_are_one_line(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        save_file(TRACKER, tmp_path / name)
    with pytest.raises(UserError, match=r"holds a.safetensors and b.safetensors; give one of them$"):
        load_official(tmp_path)


def test_a_missing_point_head_is_left_out(tmp_path, reference):
    state = {name: tensor for name, tensor in reference.state_dict().items() if not name.startswith("point_head.")}
    save_file(state, tmp_path / "a.safetensors")
    assert load_official(tmp_path, CONFIG).point_head is None


def test_checkpoints_of_whole_systems_are_named(tmp_path, reference):
    branch = {"part_head.x": torch.ones(1), "part_adaptor.x": torch.ones(1)}
    torch.save(reference.state_dict() | branch, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"a.pt: an IGGT checkpoint, a whole system; give it as --weights instead$"):
        load_official(tmp_path / "a.pt", CONFIG)


@pytest.mark.parametrize("source", ["./nowhere", "/no/where", "a/b/c", "missing.safetensors"])
def test_missing_file_is_one_line_and_asks_no_network(source, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("tokengroups.encoders.vggt.official.hub_folder", refuse)
    with pytest.raises(UserError, match="no VGGT weights at"):
        load_official(source)


def test_folder_without_the_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no model\.safetensors in"):
        load_official(tmp_path)


def test_hub_id_without_the_file_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr("tokengroups.encoders.vggt.official.hub_folder", lambda *_: tmp_path)
    with pytest.raises(UserError, match=r"the hub's 'facebook/VGGT-1B' holds no model\.safetensors"):
        load_official("facebook/VGGT-1B")
