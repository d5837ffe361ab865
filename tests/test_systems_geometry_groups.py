"""Groups by geometry alone: a room of boxes, and weights of an encoder by name, folder, file and hub id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_clustering import box_room, purity

from tests.test_encoders_vggt_model import PUBLISHED
from tokengroups.cli.main import main
from tokengroups.encoders import save_encoder
from tokengroups.encoders.published import LICENCES
from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.scene import load_scene
from tokengroups.systems import load_model
from tokengroups.systems.geometry_groups import GeometryGroups, cluster_points


def test_many_points_join_the_groups_of_few() -> None:
    points, truth = box_room()
    many = torch.from_numpy(points).repeat(20, 1) + 0.002 * torch.randn(20 * len(points), 3)
    found = cluster_points(many)
    assert found.shape == (len(many),) and purity(found.numpy(), np.tile(truth, 20)) > 0.95


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The state of a small VGGT, which then passes for the published size."""
    monkeypatch.setattr("tokengroups.encoders.vggt.official.VGGTConfig", lambda: PUBLISHED)
    torch.manual_seed(0)
    return VGGT(PUBLISHED).state_dict()


def test_published_weights_are_a_system(
    small: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(small, tmp_path / "model.safetensors")
    torch.save({f"module.{name}": tensor for name, tensor in small.items()}, tmp_path / "model.pt")
    asked = []

    def hub(name: str, _patterns: list[str]) -> Path:
        asked.append(name)
        return tmp_path

    for module in ("systems.published", "encoders.vggt.official"):
        monkeypatch.setattr(f"tokengroups.{module}.hub_folder", hub)
    sources = ("facebook/VGGT-1B", "somebody/finetuned", tmp_path, tmp_path / "model.pt")
    side = 4 * PUBLISHED.patch_size
    photos = torch.rand(2, 3, side, side)
    scenes = []
    for source in sources:
        model = load_model(source)
        assert isinstance(model, GeometryGroups) and model.licence == LICENCES["VGGT"]
        scenes.append(model.reconstruct(photos))
        assert scenes[-1].provenance["licence"] == LICENCES["VGGT"]
        assert len(scenes[-1].gaussians.means) == len(scenes[-1].anchors) == 2 * side**2
    assert all(torch.equal(scene.gaussians.means, scenes[0].gaussians.means) for scene in scenes)
    assert asked == ["facebook/VGGT-1B", "somebody/finetuned"]
    with pytest.raises(UserError, match="leave --encoder out"):
        load_model(tmp_path / "model.pt", encoder="vggt_tiny")


def test_a_mistyped_path_asks_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("tokengroups.systems.published.hub_folder", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for source in ("out/weights", "some/weights.safetensors", "a/b/c", "nothing", Path("some/weights")):
        with pytest.raises(UserError, match="there is no such file or folder; give a weight folder"):
            load_model(source)


def test_the_weight_folder_of_an_encoder_is_a_system(small: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_encoder(tmp_path / "own", small, PUBLISHED)
    model = load_model(tmp_path / "own")
    assert isinstance(model, GeometryGroups) and model.licence == "" and model.encoder_source == str(tmp_path / "own")


def test_commands_take_them(tmp_path: Path) -> None:
    from PIL import Image

    for name in "ab":
        Image.effect_noise((64, 64), 60).save(tmp_path / f"{name}.png")
    photos = [str(tmp_path / f"{name}.png") for name in "ab"]
    options = ["--weights", "vggt_tiny", "--size", "64"]
    more = ["-o", str(tmp_path / "a.safetensors"), "--max-gaussians", "999", "--keep-all"]
    assert main(["reconstruct", *photos, *options, *more]) == 0
    scene = load_scene(tmp_path / "a.safetensors")
    assert 2 <= len(scene.gaussians.means) <= 999 and len(scene.group_ids) >= 1
    assert main(["segment", *photos, *options, "-o", str(tmp_path / "masks")]) == 0
