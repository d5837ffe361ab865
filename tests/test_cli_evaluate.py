"""`tokengroups evaluate` from the command line, with a small untrained model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tokengroups import systems
from tokengroups.cli import arguments
from tokengroups.cli.main import main
from tokengroups.data.procedural import generate_room
from tokengroups.data.readers.scannet import write_scannet
from tokengroups.encoders import save_encoder
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.systems import save_system
from tokengroups.systems.token_groups import TokenGroups, TokenGroupsConfig

ENCODER = VGGTConfig(
    patch_size=8, image_size=32, embed_dim=24, num_heads=2, dino_depth=1, depth=4, camera_depth=1,
    camera_heads=2, dpt_layers=(0, 1, 2, 3), dpt_channels=(8, 8, 8, 8), dpt_features=8, dpt_hidden=8,
    enable_point=False,
)  # fmt: skip
GROUPS = TokenGroupsConfig(
    context_patch=8, anchor_stride=4, num_anchors=48, num_groups=6, gaussians_per_anchor=3, dim=32,
    num_heads=4, anchor_layers=1, group_layers=1,
)  # fmt: skip


def save_untrained(folder: Path, encoder: Path, config: TokenGroupsConfig) -> Path:
    system = TokenGroups(load_encoder(encoder), config)
    save_system(folder, system.network.state_dict(), system, config, str(encoder))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    save_encoder(folder / "encoder", VGGT(ENCODER).state_dict(), ENCODER)
    _save_groups(folder / "groups", GROUPS)
    return folder / "groups"


def _save_groups(folder: Path, config: TokenGroupsConfig) -> None:
    model = TokenGroups(VGGT(ENCODER), config)
    save_system(folder, model.network.state_dict(), model, config, str(folder.parent / "encoder"))


class Words:
    """A text encoder that counts letters."""

    name, dim = "words:1", 6

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        counts = torch.tensor([[1.0 + text.count(letter) for letter in "aeiolr"] for text in texts])
        return functional.normalize(counts.reshape(len(texts), 6), dim=-1)


@pytest.fixture(scope="module")
def semantic_weights(weights: Path) -> Path:
    """The same with an untrained semantic head."""
    torch.manual_seed(0)
    config = replace(GROUPS, semantic_dim=6, residual_dim=2, text_encoder="words:1")
    _save_groups(weights.parent / "semantic_weights", config)
    return weights.parent / "semantic_weights"


def evaluated(words: list[str], out: Path) -> dict:
    assert main(["evaluate", "--num-scenes", "1", "--json", str(out), *words]) == 0
    return json.loads(out.read_text())


def test_writes_a_table_and_the_numbers(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    words = ["evaluate", "--seed", "3", "--num-scenes", "2", "--weights", str(weights), "--json", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "2 procedural rooms (split test, seed 3), 32x32" in printed and "planes + HDBSCAN" in printed
    assert str(out) in printed
    numbers = json.loads(out.read_text())
    assert [scene["name"] for scene in numbers["per_scene"]] == ["test_3_000000", "test_3_000001"]
    assert numbers["lpips"] is None and numbers["seconds_per_scene"] > 0
    assert numbers["protocol"]["weights"] == "groups" and numbers["protocol"]["seed"] == 3


def test_folder_of_scenes_in_scannets_layout(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scannet(tmp_path / "scans" / "scene0001_00", generate_room(1, 0, "test", num_views=5, size=48))
    words = ["evaluate", "--data", str(tmp_path / "scans"), "--views", "1", "--weights", str(weights)]
    assert main([*words, "--frame-step", "2", "--split", "all"]) == 0
    assert "1 scenes of scans, 32x32 pixels" in capsys.readouterr().out
    assert main([*words, "--frame-step", "3", "--split", "all"]) == 2
    assert "smaller step" in capsys.readouterr().err
    assert main(words) == 2  # a single scene: nothing is held out
    assert "no scene in the split test or val" in capsys.readouterr().err


def test_of_a_folder_the_held_out_scenes_are_measured(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = tmp_path / "scans"
    for name in ("train/a", "train/b", "val/c"):
        write_scannet(scans / name, generate_room(1, 0, "test", num_views=3, size=32))
    command = ["--data", str(scans), "--views", "1", "--weights", str(weights), "--num-scenes", "9"]

    def measured(*words: str) -> tuple[list[str], str | None]:
        numbers = evaluated([*command, *words], tmp_path / "out.json")
        return [scene["name"] for scene in numbers["per_scene"]], numbers["protocol"]["split"]

    assert measured() == (["c"], "val")
    printed = capsys.readouterr()
    assert "on 1 scenes of scans (split val), 32x32" in " ".join(printed.out.split())
    assert "note: 1 of 3 scenes are held out (val: by its sub-folders); --split all measures all" in printed.err
    assert measured("--split", "train") == (["a", "b"], "train")
    assert measured("--split", "all") == (["a", "b", "c"], None)
    assert main(["evaluate", *command, "--split", "test"]) == 2
    assert "no scene in the split test; its splits are: train (2), val (1)" in capsys.readouterr().err


def test_a_data_set_of_ones_own(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_scenes.py").write_text(
        "from tokengroups.data.procedural import generate_room\n"
        "class Own:\n"
        "    class_names, splits = ('wall',), {'test': [1]}\n"
        "    def __init__(self, root): self.seed = int(root)\n"
        "    def __len__(self): return 2\n"
        "    def __getitem__(self, index): return generate_room(self.seed, index, 'test', 5, 32)\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["--data", "own_scenes:Own", "--root", "7", "--weights", str(weights)]
    numbers = evaluated(command, tmp_path / "out.json")
    assert [scene["name"] for scene in numbers["per_scene"]] == ["test_7_000001"]
    assert numbers["protocol"]["data"] == "own_scenes:Own" and numbers["protocol"]["seed"] is None


def test_given_intrinsics_under_their_new_and_their_old_name(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--weights", str(weights), "--views", "1", "--postprocess", "none"]
    new, old = (evaluated([*command, f"--{name}-intrinsics"], tmp_path / "out.json") for name in ("given", "known"))
    plain = evaluated(command, tmp_path / "out.json")
    assert new["protocol"] == old["protocol"] and new["psnr"] == old["psnr"] != plain["psnr"]
    assert new["protocol"]["given_intrinsics"] and "with given intrinsics" in new["protocol"]["text"]
    assert not plain["protocol"]["given_intrinsics"]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    shown = capsys.readouterr().out
    assert "--given-intrinsics" in shown and "known" not in shown


def test_the_default_weights_are_those_of_python() -> None:
    assert arguments.DEFAULT_WEIGHTS == systems.DEFAULT_WEIGHTS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--views", "0"], "--views 0"),
        (["--num-scenes", "0"], "--num-scenes 0"),
        (["--size", "36"], "multiple"),
        (["--weights", "nobody"], "nobody"),
        (["--json", "no/such/folder/out.json"], "folder"),
        (["--lpips-weights", "none.pth"], "none.pth"),
        (["--device", "tpu"], "--device"),
        (["--data", "no-such-folder"], "no-such-folder"),
        (["--data", "no_such_module:Rooms"], "no module no_such_module"),
        (["--split", "all"], "no scene in the split all"),
        (["--postprocess", "blur"], "--postprocess: no step 'blur'; choose from bundle_adjustment"),
        (["--postprocess", "boundary_crf"], "the step boundary_crf needs pair_affinity"),
    ],
)
def test_bad_input_is_one_line(
    weights: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["evaluate", "--weights", str(weights), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_postprocessing_is_a_choice_that_the_protocol_names(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command, steps = ["--weights", str(weights)], ["flip_ensemble", "photometric_refinement"]
    plain = evaluated(command, tmp_path / "out.json")
    assert plain["protocol"]["postprocess"] == [] and "Post-processing: none." in plain["protocol"]["text"]
    chosen = evaluated([*command, "--postprocess", ",".join(steps)], tmp_path / "out.json")
    assert chosen["protocol"]["postprocess"] == steps
    printed = " ".join(capsys.readouterr().out.split())
    assert "Post-processing: flip_ensemble, photometric_refinement." in printed
    assert chosen["psnr"] > plain["psnr"] and chosen["point_error"] == plain["point_error"]


def test_weights_with_semantics_are_measured_on_the_vocabulary(
    semantic_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("tokengroups.cli.text.load_encoder_for", lambda *words: asked.append(words) or Words())
    out, words = tmp_path / "out.json", ["--weights", str(semantic_weights)]
    numbers = evaluated([*words, "--vocabulary", "wall, floor,other", "--text-encoder", "mine"], out)
    assert asked == [("words:1", "mine")]
    assert numbers["protocol"]["vocabulary"] == ["wall", "floor", "other"]
    assert 0 <= numbers["miou_target"] <= 1 and numbers["semantic_scalars_per_gaussian_baseline"] == 48 * 3 * 6
    assert "(vocabulary: wall, floor, other)" in " ".join(capsys.readouterr().out.split())
    assert len(evaluated(words, out)["protocol"]["vocabulary"]) == 44
    write_scannet(tmp_path / "scans" / "scene0001_00", generate_room(1, 0, "test", num_views=5, size=48))
    recorded = evaluated([*words, "--data", str(tmp_path / "scans"), "--views", "1", "--split", "all"], out)
    assert recorded["protocol"]["vocabulary"][-2:] == ["bed", "other"]
    assert main(["evaluate", *words, "--vocabulary", " , "]) == 2
    assert "vocabulary" in capsys.readouterr().err


def test_an_encoder_that_is_missing_costs_only_semantics(
    weights: Path, semantic_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    numbers = evaluated(["--weights", str(semantic_weights)], out)
    assert numbers["recall1_names"] is None and numbers["psnr"] > 0
    noted = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(noted) == 1 and "semantics are not measured" in noted[0] and "words:1" in noted[0]
    assert evaluated(["--weights", str(weights), "--vocabulary", "wall"], out)["miou_target"] is None
    assert "the weights have no semantics" in capsys.readouterr().err
    assert main(["evaluate", "--weights", str(semantic_weights), "--text-encoder", "nobody"]) == 2
    assert "nobody" in capsys.readouterr().err
