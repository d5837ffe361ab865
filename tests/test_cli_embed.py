"""`tokengroups embed`, `reconstruct --embed` and `evaluate --embed`, with a toy encoder of colours."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_teachers import Colours

from tokengroups import remove
from tokengroups.cli.main import main
from tokengroups.encoders import load_encoder
from tokengroups.io.images import load_photos
from tokengroups.retrieval import pool_masks
from tokengroups.scene import example_scene, load_scene, render_views, save_scene
from tokengroups.scene.groups import columns_of
from tokengroups.systems import load_model, save_system
from tokengroups.systems.cell_gaussians import CellGaussiansConfig
from tokengroups.systems.iggt_tiny import IGGTTiny, IGGTTinyConfig

COLOURS = "toy_teachers:Colours"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("1.png", "2.png"):
        blocks = rng.integers(0, 256, (4, 6, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        Image.fromarray(blocks).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def instance_field(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained instance field, which segments the photos themselves."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights") / "field"
    config = IGGTTinyConfig(gaussians=CellGaussiansConfig(max_gaussians=3000))
    system = IGGTTiny(load_encoder("vggt_tiny"), config)
    save_system(folder, system.network.state_dict(), system, config, "vggt_tiny")
    return folder


def run(*words: object) -> int:
    return main([str(word) for word in words])


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert run(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def embeddings(path: Path) -> torch.Tensor:
    semantics = load_scene(path).semantics
    assert semantics is not None and semantics.encoder == "toy_teachers:Colours:1"
    return semantics.embeddings


def test_a_scene_is_embedded_from_its_photos(
    random_weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: the features of the photos under the rendered groups. At once and later are the same."""
    plain, later, once = (tmp_path / f"{name}.safetensors" for name in ("plain", "later", "once"))
    assert run("reconstruct", "--keep-all", photos, "-o", plain, "--weights", random_weights) == 0
    capsys.readouterr()
    assert run("embed", plain, photos, "--encoder", COLOURS, "-o", later, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["text_encoder"] == "toy_teachers:Colours:1" and answer["notes"] == []
    assert [Path(each).name for each in answer["photos"]] == ["1.png", "2.png"]
    scene = load_scene(plain)
    labels = [columns_of(scene, view.group_map) for view in render_views(scene, scene.cameras)]
    loaded = load_photos(photos, 64, patch_size=load_model(str(random_weights)).size_multiple)
    images, mask = loaded.images, loaded.mask
    labels = labels if mask is None else [torch.where(m, each, -1) for each, m in zip(labels, mask, strict=True)]
    expected = pool_masks(Colours().encode_images(images), labels, len(scene.group_ids))
    torch.testing.assert_close(embeddings(later), expected)
    assert answer["groups_without_embedding"] == scene.group_ids[~expected.any(dim=1)].tolist()
    assert run("reconstruct", "--keep-all", photos, "-o", once, "--weights", random_weights, "--embed", COLOURS) == 0
    torch.testing.assert_close(embeddings(once), expected)
    assert torch.equal(load_scene(later).gaussians.means, scene.gaussians.means)


def test_a_system_that_segments_photos_is_embedded_by_its_own_masks(
    instance_field: Path, photos: Path, tmp_path: Path
) -> None:
    out, later = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    words = ["reconstruct", photos, "-o", out, "--weights", instance_field, "--size", 64, "--embed", COLOURS]
    assert run(*words, "--keep-all") == 0
    model = load_model(str(instance_field))
    loaded = load_photos(photos, 64, patch_size=model.size_multiple)
    images = loaded.images
    made = model.predict(images, mask=loaded.mask, full_photos=loaded.full_images)
    assert made.photo_groups is not None
    labels = columns_of(made.scene, made.photo_groups.labels)
    expected = pool_masks(Colours().encode_images(images), labels, len(made.scene.group_ids))
    torch.testing.assert_close(embeddings(out), expected, rtol=1e-4, atol=1e-4)
    assert run("embed", out, photos, "--encoder", COLOURS, "-o", later) == 0  # again, by what a rendering shows
    assert embeddings(later).shape == expected.shape


def coloured(folder: Path) -> Path:
    """The example's floor, box and ball, with photos that are its views but for their colours."""
    scene = example_scene()
    table = torch.tensor([[255, 255, 255], [0, 255, 0], [255, 0, 0], [0, 0, 255]], dtype=torch.uint8)
    (folder / "views").mkdir()
    for index, view in enumerate(render_views(scene, scene.cameras)):
        Image.fromarray(table[view.group_map.clamp(min=0)].numpy()).save(folder / "views" / f"{index}.png")
    save_scene(folder / "scene.safetensors", replace(scene, semantics=None, group_names=()))
    return folder / "scene.safetensors"


def test_query_list_and_edit_need_nothing_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, out = coloured(tmp_path), tmp_path / "out.safetensors"
    assert run("embed", scene, tmp_path / "views", "--encoder", COLOURS, "-o", out) == 0
    said = capsys.readouterr().out
    assert "note: the scene records no photos: taken in the order given" in said
    assert "3 groups embedded by toy_teachers:Colours:1 in 2 photos" in said
    assert run("query", out, "red", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["matches"][0]["id"] == 2 and answer["matches"][0]["probability"] > 0.9
    assert max(each["probability"] for each in answer["matches"][1:]) < 0.1
    assert run("list", out, "--vocabulary", "red,green,blue", "--json") == 0
    labels = {each["id"]: each["label"] for each in json.loads(capsys.readouterr().out)}
    assert labels == {1: "green", 2: "red", 3: "blue"}
    edited = tmp_path / "edited.safetensors"
    assert run("edit", out, "remove", "blue", "-o", edited) == 0
    assert load_scene(edited).group_ids.tolist() == [1, 2]
    assert run("query", edited, "green", "--text-encoder", COLOURS, "--json") == 0
    error = refused(capsys, "query", edited, "green", "--text-encoder", "minilm")
    assert "belong to the text encoder 'toy_teachers:Colours:1', not to 'minilm:" in error


def test_a_group_that_no_photo_shows_has_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = coloured(tmp_path), tmp_path / "out.safetensors"
    scene = load_scene(path)
    opacities = scene.gaussians.opacities.clone()
    opacities[scene.assignment.argmax(dim=1)[scene.anchor_ids] == 2] = 0.0
    save_scene(path, replace(scene, gaussians=replace(scene.gaussians, opacities=opacities)))
    assert run("embed", path, tmp_path / "views", "--encoder", COLOURS, "-o", out) == 0
    assert "note: no photo shows the groups 3: they have no embedding" in capsys.readouterr().out
    assert not embeddings(out)[2].any()
    assert run("list", out, "--vocabulary", "red,green") == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.split()[0] == "3")
    assert row.split()[-2:] == ["-", "0.00"]
    assert run("export", out, "-o", tmp_path / "out.ply", "--vocabulary", "red,green") == 0
    groups = json.loads((tmp_path / "groups.json").read_text())["groups"]
    assert {each["id"]: each["label"] for each in groups} == {1: "green", 2: "red", 3: None}
    assert run("import", tmp_path / "out.ply", "-o", tmp_path / "again.safetensors") == 0


def test_wrong_input_is_one_line_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene, out = coloured(tmp_path), tmp_path / "out.safetensors"
    views = tmp_path / "views"
    save_scene(tmp_path / "edited.safetensors", remove(load_scene(scene), [3]))

    def answer(*words: object) -> str:
        return refused(capsys, "embed", *words, "-o", out)

    assert "was edited, so its photos show something else" in answer(
        tmp_path / "edited.safetensors", views, "--encoder", COLOURS
    )
    assert "'minilm' encodes no photos" in answer(scene, views, "--encoder", "minilm")
    assert "no text encoder 'nobody'" in answer(scene, views, "--encoder", "nobody")
    assert "there is no module nothing_here" in answer(scene, views, "--encoder", "nothing_here:Encoder")
    assert "has no name, dim and encode_text" in answer(scene, views, "--encoder", "datetime:date")
    assert "has no name, dim and encode_text" in answer(scene, views, "--encoder", "os:getcwd")
    assert "1 photos for 2 context views" in answer(scene, views / "0.png", "--encoder", COLOURS)
    assert "no such file" in answer(scene, tmp_path / "none", "--encoder", COLOURS)
    assert "none.safetensors" in answer(tmp_path / "none.safetensors", views, "--encoder", COLOURS)
    Image.new("RGB", (64, 64)).save(views / "0.png")
    assert "0.png: 64x64 pixels, but the scene's views have 64x48" in answer(scene, views, "--encoder", COLOURS)
    assert not out.exists()


def test_an_encoder_of_ones_own_is_found_again_if_its_module_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_colours.py").write_text(
        "import toy_teachers\nclass Mine(toy_teachers.Colours):\n    name = 'own_colours:Mine:1'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    scene = coloured(tmp_path)
    assert run("embed", scene, "views", "--encoder", "own_colours:Mine", "-o", "out.safetensors") == 0
    del sys.modules["own_colours"]
    error = refused(capsys, "query", "out.safetensors", "red")
    assert "a file asks for the text encoder 'own_colours:Mine'" in error and "--plugin own_colours" in error
    assert "own_colours" not in sys.modules
    assert run("--plugin", "own_colours", "query", "out.safetensors", "red", "--json") == 0
    assert json.loads(capsys.readouterr().out)["matches"][0]["id"] == 2
    del sys.modules["own_colours"]


@pytest.mark.parametrize("name", ["os:getcwd:1", "datetime:date:1", "sys:exit:0", ":", "a:b", "minilm"])
def test_the_name_in_a_file_calls_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    scene = load_scene(coloured(tmp_path))
    rendered = (view.color.permute(2, 0, 1) for view in render_views(scene, scene.cameras))
    from tokengroups.retrieval import embed_groups

    embedded = embed_groups(scene, rendered, Colours())
    assert embedded.semantics is not None
    save_scene(tmp_path / "a.safetensors", replace(embedded, semantics=replace(embedded.semantics, encoder=name)))
    assert "encoder" in refused(capsys, "query", tmp_path / "a.safetensors", "red")


def test_evaluation_of_embeddings_and_of_their_ceiling(
    random_weights: Path, instance_field: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    for folder in (random_weights, instance_field):
        words = ["evaluate", "--num-scenes", 1, "--weights", folder, "--size", 64, "--json", out]
        assert run(*words, "--embed", COLOURS, "--vocabulary", "wall, floor, door") == 0
        numbers = json.loads(out.read_text())
        for name in ("miou_2d", "macc_2d", "miou_3d", "miou_3d_2cm", "miou_3d_10cm", "miou_2d_scene_mean"):
            assert 0 <= numbers[name] <= 1 and 0 <= numbers[f"{name}_true_features"] <= 1, name
        assert numbers["miou_2d"] == pytest.approx(numbers["per_scene"][0]["miou_2d"])
        assert numbers["miou_2d_scene_mean"] == pytest.approx(numbers["miou_2d"])
        assert numbers["protocol"]["embeddings"] == "mean features of the photos by toy_teachers:Colours:1"
        assert numbers["recall1_names"] is None or 0 <= numbers["recall1_names"] <= 1
    capsys.readouterr()
    error = refused(capsys, *words, "--embed", COLOURS, "--text-encoder", "minilm")
    assert "--embed brings its own text encoder" in error
    assert "'minilm' encodes no photos" in refused(capsys, *words, "--embed", "minilm")
