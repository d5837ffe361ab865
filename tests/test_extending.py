"""The recipes of docs/extending.md, executed as they are written: first their files, then their commands."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokengroups.cli.main import main
from tokengroups.data.base import open_dataset
from tokengroups.scene import example_scene, load_scene, save_scene
from tokengroups.scene.groups import column_of, gaussian_mask
from tokengroups.systems import load_model
from tokengroups.training.log import read_metrics

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NAME = re.compile(r"# ([\w.]+)\n")


def recipes() -> dict[str, str]:
    """Text of every recipe by its heading."""
    parts = re.split(r"^## (.+)$", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def write_files(text: str) -> None:
    """Write every block that begins with a file's name to that file."""
    for language, block in _BLOCK.findall(text):
        if language in ("python", "yaml"):
            name = _NAME.match(block)
            assert name, f"a block names no file: {block[:60]}"
            Path(name[1]).write_text(block, encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    """The arguments of every command."""
    lines = "".join(block for language, block in _BLOCK.findall(text) if language == "sh").splitlines()
    words = [shlex.split(line) for line in lines]
    assert all(line[0] == "tokengroups" for line in words)
    return [line[1:] for line in words]


def follow(recipe: str) -> None:
    """Do what a recipe says."""
    text = recipes()[recipe]
    write_files(text)
    assert commands(text)
    for words in commands(text):
        assert main(words) == 0, " ".join(words)


def train_rows(folder: str) -> list[dict]:
    return read_metrics(Path(folder) / "metrics.jsonl")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recipes find in the folder: photos, a scene and recorded rooms."""
    folder = tmp_path_factory.mktemp("material")
    rooms = open_dataset("procedural", num_frames=5, size=64)
    for name in ("photos", "rooms"):
        (folder / name).mkdir()
    for number, index in enumerate(rooms.splits["val"][:2]):
        frames = rooms[index][:]
        names = [frames.instance_classes.get(i, "other") for i in range(max(frames.instance_classes) + 1)]
        arrays = {key: value for key, value in vars(frames).items() if isinstance(value, np.ndarray)}
        np.savez(folder / "rooms" / f"{number}.npz", **arrays, class_of_id=np.array(names))
    for number in (1, 3):
        Image.fromarray(frames.images[number]).save(folder / "photos" / f"{number}.png")
    save_scene(folder / "scene.safetensors", example_scene())
    return folder


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, material: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for path in material.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        if name.startswith("my_"):
            del sys.modules[name]


def test_every_recipe_is_tested():
    tested = re.findall(r'follow\("(.+)"\)', Path(__file__).read_text(encoding="utf-8"))
    assert sorted(tested) == sorted(recipes())


def test_every_recipe_is_in_the_table():
    table = re.findall(r"^\| \[(.+?)\]", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name.capitalize() for name in table] == [name.capitalize() for name in recipes()]


def test_encoder():
    follow("An encoder")
    scene = load_scene("flat.safetensors")
    assert torch.equal(scene.cameras.cam_from_world, torch.eye(4).repeat(2, 1, 1))
    assert scene.anchors[:, 2].sub(1).abs().max() < 1e-5  # every anchor lies on the wall
    assert train_rows("out/flat_wall")[-1]["step"] == 2


def test_system():
    follow("A system")
    scene = load_scene("patches.safetensors")
    assert scene.group_ids.tolist() == [0, 1]  # one group a photo
    assert len(scene.anchors) == 2 * 4 * 4 and len(scene.gaussians.means) == len(scene.anchors)
    assert scene.gaussians.scales.max() < 0.3
    main(["train", "my_system.yaml", "training.steps=20", "training.output=out/longer", "training.warmup_steps=0"])
    first, *_, last = [row["evaluate/psnr"] for row in train_rows("out/longer") if "evaluate/psnr" in row]
    assert last > first + 0.3


def test_system_of_a_weight_folder_is_imported_only_if_asked_for(capsys: pytest.CaptureFixture[str]):
    write_files(recipes()["A system"])
    train = commands(recipes()["A system"])[0]
    assert main(train) == 0
    del sys.modules["my_system"]
    evaluate = ["evaluate", "--num-scenes", "1", "--weights", "out/patches/weights"]
    assert main(evaluate) == 2
    assert "--plugin my_system" in capsys.readouterr().err
    assert "my_system" not in sys.modules
    assert main(["--plugin", "my_other", *evaluate]) == 2
    assert "my_other" in capsys.readouterr().err


def test_data_set(capsys: pytest.CaptureFixture[str]):
    write_files(recipes()["An encoder"])
    follow("A data set")
    assert "1 scenes of my_rooms:MyRooms (split val)" in " ".join(capsys.readouterr().out.split())
    assert train_rows("out/my_rooms")[-1]["step"] == 2


def test_loss_term():
    write_files(recipes()["An encoder"])
    follow("A loss term")
    import my_losses  # pyright: ignore[reportMissingImports]

    rows = [row for row in train_rows("out/sparse") if "opacity" in row]
    assert rows and 0 < rows[-1]["opacity"] < 1
    assert isinstance(load_model("out/sparse/weights"), my_losses.SparseTokenGroups)


def test_metric(capsys: pytest.CaptureFixture[str]):
    follow("A metric")
    numbers = json.loads(Path("numbers.json").read_text())
    assert 0 < numbers["metrics"]["edge_error"] < 0.2
    assert numbers["metrics"] == numbers["per_scene"][0]["metrics"]
    assert numbers["metrics"]["share_of_used_groups"] == 1
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("edge_error"))
    assert row.split()[1] == f"{numbers['metrics']['edge_error']:.3f}"


def test_edit():
    follow("An edit")
    before, after = load_scene("scene.safetensors"), load_scene("red.safetensors")
    ball = gaussian_mask(after, column_of(after, 3))
    assert torch.allclose(after.gaussians.sh[ball, 0] * 0.2821 + 0.5, torch.tensor([1.0, 0.2, 0.2]))
    assert torch.equal(after.gaussians.sh[~ball], before.gaussians.sh[~ball])
    assert [edit["operation"] for edit in after.provenance["edits"]] == ["tint", "move"]


def test_dense_image_encoder(capsys: pytest.CaptureFixture[str]):
    follow("A dense image encoder")
    at_once, later = load_scene("coloured.safetensors").semantics, load_scene("again.safetensors").semantics
    assert at_once is not None and later is not None and at_once.encoder == "my_colours:Colours:1"
    assert torch.allclose(at_once.embeddings, later.embeddings, atol=1e-5)
    known = later.embeddings[later.embeddings.any(dim=1)]  # of groups that a photo shows
    assert len(known) > 10 and (known > 0).all()  # means of colours
    words = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "brown": (2 / 5**0.5, 1 / 5**0.5, 0)}
    nearest = (known @ torch.tensor(list(words.values())).T).argmax(dim=1)
    named = [line.split()[-2] for line in capsys.readouterr().out.splitlines() if line.endswith(tuple("0123456789"))]
    listed = [name for name in named if name in words]
    assert sorted(listed) == sorted(list(words)[row] for row in nearest.tolist())


def test_export_format():
    follow("An export format")
    rows = np.loadtxt("scene.xyz")
    scene = load_scene("scene.safetensors")
    assert rows.shape == (613, 6)
    assert np.allclose(np.sort(rows[:, 0]), np.sort(scene.gaussians.means[:, 0].numpy()), atol=1e-4)
    assert json.loads(Path("groups.json").read_text())["groups"][0]["file"] == "scene.xyz"


def test_step():
    follow("A post-processing step")
    bright, brighter = load_scene("bright.safetensors"), load_scene("brighter.safetensors")
    assert bright.provenance["postprocess"] == [{"name": "my_steps:Brighten", "gain": 1.1}]
    default = [step["name"] for step in brighter.provenance["postprocess"]]
    assert default[-1] == "my_steps:Brighten" and len(default) > 2
    assert main(["reconstruct", "photos", "-o", "plain.safetensors", "--postprocess", "none"]) == 0
    plain = load_scene("plain.safetensors")
    assert torch.allclose(bright.gaussians.sh, plain.gaussians.sh * 1.1)
