"""Loading of weight files in the format of the published VGGT-1B, on small random ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

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


def test_pickled_checkpoints_are_named(tmp_path):
    """Those of VGGT, IGGT and SegVGGT as their authors publish them."""
    torch.save({"aggregator.x": torch.ones(1)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"model.pt: a PyTorch checkpoint; give VGGT's weights as model.safetensors$"):
        load_official(tmp_path / "model.pt")


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
