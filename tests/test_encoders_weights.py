"""Finding, loading and saving encoders, and one line for whatever does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.test_encoders_base import flat_wall
from tests.test_encoders_vggt_model import PUBLISHED
from tests.tiny_encoder import TINY, WITH_SINGLE_VIEW
from tokengroups.checkpoint import save_weights
from tokengroups.encoders import Encoder, base, load_encoder, save_encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.encoders.vggt_tiny import VGGTTiny, VGGTTinyConfig
from tokengroups.encoders.weights import freeze_unused
from tokengroups.errors import UserError
from tokengroups.systems import load_model

OWN = """
import torch
from torch import nn


class Own(nn.Module):
    image_size, patch_size, feature_dim, evidence_dims = 64, 8, 3, {}

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, images, intrinsics=None):
        raise NotImplementedError


class Half:
    image_size, patch_size = 64, 8
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The weight folder of a tiny encoder."""
    torch.manual_seed(0)
    save_encoder(tmp_path / "encoder", VGGTTiny(TINY).state_dict(), TINY)
    return tmp_path / "encoder"


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working folder that nobody has imported."""
    name = f"own_encoder_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def one_line(call, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(folder: Path, **changes) -> None:
    """Change keys of a config.json; None removes them."""
    saved = json.loads((folder / "config.json").read_text()) | changes
    saved = {key: value for key, value in saved.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(saved))


@pytest.mark.parametrize(("config", "network"), [(PUBLISHED, VGGT), (TINY, VGGTTiny), (WITH_SINGLE_VIEW, VGGTTiny)])
def test_an_encoder_comes_back_as_what_it_was(config, network, tmp_path: Path) -> None:
    torch.manual_seed(0)
    saved = network(config)
    save_encoder(tmp_path, saved.state_dict(), config)
    loaded = load_encoder(str(tmp_path))
    assert type(loaded) is network and loaded.config == config and isinstance(loaded, Encoder)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    for name, tensor in saved.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name


def test_the_shipped_encoder_has_what_its_card_says() -> None:
    encoder = load_encoder("vggt_tiny")
    assert isinstance(encoder, VGGTTiny)
    assert (encoder.image_size, encoder.patch_size) == (128, 16)
    assert encoder.evidence_dims == {
        "match_descriptors": (64,),
        "single_view_features": (288, 48),
        "pair_affinity": (8,),
    }


def test_the_published_weights_are_a_file_or_a_folder(tmp_path: Path, monkeypatch) -> None:
    """A copy of the published folder brings a config.json that is not ours."""
    monkeypatch.setattr("tokengroups.encoders.vggt.official.VGGTConfig", lambda: PUBLISHED)
    save_file(VGGT(PUBLISHED).state_dict(), tmp_path / "model.safetensors")
    assert type(load_encoder(tmp_path)) is VGGT
    assert type(load_encoder(str(tmp_path / "model.safetensors"))) is VGGT
    (tmp_path / "config.json").write_text('{"img_size": 518}')
    assert type(load_encoder(tmp_path)) is VGGT


def test_an_encoder_of_one_s_own_needs_a_name_alone(own_module: str) -> None:
    encoder = load_encoder(f"{own_module}:Own")
    assert isinstance(encoder, Encoder) and isinstance(encoder, nn.Module)
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())


def test_an_encoder_need_not_be_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "FlatWall", flat_wall(), raising=False)
    encoder = load_encoder("tokengroups.encoders.base:FlatWall")
    assert encoder.encode(torch.rand(1, 1, 3, 8, 8)).depth.shape == (1, 1, 8, 8)


def test_names_of_classes_that_are_no_encoders_are_one_line(own_module: str) -> None:
    message = one_line(load_encoder, f"{own_module}:Half")
    assert f"encoder {own_module}:Half: its class lacks feature_dim, evidence_dims, encode" in message
    assert f"{own_module} has no Whole" in one_line(load_encoder, f"{own_module}:Whole")
    assert "there is no module no_such_module" in one_line(load_encoder, "no_such_module:Own")


def test_weights_of_a_system_never_import_a_module_of_their_choice(own_module: str, tmp_path: Path) -> None:
    """A file that somebody sent may name an encoder; only what is imported already is taken."""
    save_weights(tmp_path / "sent", {}, {"system": "token_groups", "config": {}, "encoder": f"{own_module}:Own"})
    assert f"--plugin {own_module}" in one_line(load_model, tmp_path / "sent")


def test_a_file_calls_nothing_that_is_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of imported modules can be named, too; os:abort would end the process."""
    called: list[int] = []
    monkeypatch.setattr(base, "abort", lambda: called.append(1), raising=False)
    save_weights(
        tmp_path / "sent", {}, {"system": "token_groups", "config": {}, "encoder": "tokengroups.encoders.base:abort"}
    )
    assert "its class lacks image_size" in one_line(load_model, tmp_path / "sent")
    assert called == []


def test_weights_of_a_system_are_no_encoder() -> None:
    message = one_line(load_encoder, "token_groups_tiny")
    assert "holds the system 'token_groups_tiny'; give the weights of an encoder: vggt, vggt_tiny" in message


@pytest.mark.parametrize("name", ["dust3r", "", 3, ["vggt"], {}])
def test_unknown_encoders_are_one_line(name, folder: Path) -> None:
    edit(folder, encoder=name)
    message = one_line(load_encoder, folder)
    assert f"holds the encoder '{name}'; give the weights of an encoder: vggt, vggt_tiny" in message


def test_an_encoder_without_a_name_is_one_line(folder: Path) -> None:
    edit(folder, encoder=None)
    assert "give the weights of an encoder: vggt, vggt_tiny" in one_line(load_encoder, folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([1, 2], "the key 'config' must hold a JSON object"),
        ("x", "the key 'config' must hold a JSON object"),
        ({"embed_dimm": 32}, "unknown key 'embed_dimm'; did you mean 'embed_dim'"),
        ({"embed_dim": "wide"}, "the key 'embed_dim' must be a whole number from 1 to 16,384, got 'wide'"),
        ({"patch_size": 16, "image_size": 60}, "image_size must be a multiple of patch_size 16, got 60"),
    ],
)
def test_a_damaged_configuration_is_one_line(config, message, folder: Path) -> None:
    edit(folder, config=config)
    found = one_line(load_encoder, folder)
    assert message in found and f"{folder}/config.json" in found


def test_a_damaged_folder_is_one_line(folder: Path) -> None:
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    edit(folder, config={**json.loads((folder / "config.json").read_text())["config"], "embed_dim": 64})
    assert "do not fit this VGGTTiny: " in one_line(load_encoder, folder)
    weights.write_bytes(whole[:1000])
    assert "not a safetensors file, or a truncated or damaged one" in one_line(load_encoder, folder)
    weights.unlink()
    assert f"cannot read {weights}: there is no such file" in one_line(load_encoder, folder)
    (folder / "config.json").write_text("{")
    assert str(folder / "config.json") in one_line(load_encoder, folder)
    (folder / "config.json").write_text("[]")
    assert "must hold a JSON object" in one_line(load_encoder, folder)


def test_what_is_nowhere_is_one_line(tmp_path: Path) -> None:
    assert f"no VGGT weights at {tmp_path}/absent" in one_line(load_encoder, str(tmp_path / "absent"))


def test_parts_that_no_loss_of_geometry_reaches_are_frozen() -> None:
    """Against autograd: a parameter is frozen if and only if no output of the forward pass depends on it."""
    model = VGGTTiny(WITH_SINGLE_VIEW).unfreeze()
    output = model(torch.rand(1, 2, 3, 32, 32))
    tensors = [*output.tokens, *output.pose_encodings, output.depth, output.depth_confidence]
    tensors += [output.points, output.points_confidence, output.match_descriptors]
    sum(tensor.square().mean() for tensor in tensors).backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    freeze_unused(model)
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == reached


def test_defaults_of_the_configurations_are_the_published_and_the_shipped_sizes() -> None:
    shipped = load_encoder("vggt_tiny").config
    plain = {name: value for name, value in vars(shipped).items() if not name.startswith("single_view_")}
    assert plain.items() <= vars(VGGTTinyConfig()).items()
    assert VGGTConfig().feature_dim == 2 * 1024 * 4
