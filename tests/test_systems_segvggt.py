"""SegVGGT as a system: what is trained and saved, scenes of named instances, and weights that load as they were."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from PIL import Image
from segvggt_networks import CONFIG, SIZES, published_state

from tokengroups.cli.main import main
from tokengroups.data.base import open_dataset
from tokengroups.data.example import FramePlan, cut_example, stack_examples
from tokengroups.encoders import save_encoder
from tokengroups.encoders.vggt import VGGT
from tokengroups.losses.query_masks import QueryLossConfig
from tokengroups.losses.query_targets import QueryTargetConfig
from tokengroups.scene import load_scene, save_scene
from tokengroups.systems import load_model
from tokengroups.systems.published import kind_of_file
from tokengroups.systems.segvggt.class_names import SCANNET, SCANNET200
from tokengroups.systems.segvggt.config import SemanticHeadConfig
from tokengroups.systems.segvggt.decode import DecodeConfig
from tokengroups.systems.segvggt.network import SegVGGTNetwork
from tokengroups.systems.segvggt.system import SegVGGT, SegVGGTModelConfig, SegVGGTSettings, load_published

NAMES = ("wall", "floor", "ceiling", "chair", "table", "window", "cabinet")
MODEL = SegVGGTModelConfig(
    replace(CONFIG, queries=replace(CONFIG.queries, std=0.5, layer_scale=0.3)), NAMES,
    DecodeConfig(min_pixels=0, score_threshold=0.0, mask_threshold=0.05),
)  # fmt: skip
LOSSES = QueryLossConfig(targets=QueryTargetConfig(resizing="mean"))
Trunk = Literal["paper", "lora", "frozen"]


@pytest.fixture
def encoder_folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    encoder = VGGT(SIZES)
    save_encoder(tmp_path / "encoder", encoder.state_dict(), SIZES)
    return tmp_path / "encoder"


def example() -> Any:
    rooms = open_dataset("procedural", num_frames=5, size=56, options={"num_rooms": 2})
    return stack_examples([cut_example(rooms[rooms.splits["train"][index]][:], FramePlan(2)) for index in (0, 1)])


def learn(system: SegVGGT, steps: int = 12) -> list[float]:
    groups = [{**group, "lr": 2e-3 * group.pop("lr_scale")} for group in system.parameter_groups(0.0, False)]
    optimiser, batch, losses = torch.optim.AdamW(groups), example(), []
    for step in range(steps):
        optimiser.zero_grad()
        total = system.losses(batch, step, "fp32").total
        total.backward()
        losses.append(float(total.detach()))
        optimiser.step()
    return losses


@pytest.mark.parametrize("trunk", ["frozen", "lora", "paper"])
def test_what_is_trained_is_what_the_setting_says_and_loads_again(
    trunk: Trunk, encoder_folder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    system = SegVGGT.for_training(SegVGGTSettings(str(encoder_folder), trunk, model=MODEL, losses=LOSSES))
    before = {name: tensor.clone() for name, tensor in system.joint.state_dict().items()}
    losses = learn(system)
    assert losses[-1] < losses[0]
    moved = {name for name, tensor in system.joint.state_dict().items() if not torch.equal(tensor, before[name])}
    encoder = {name for name in moved if name.startswith("encoder.")}
    adapted = {name for name in encoder if ".lora." in name}
    assert bool(adapted) == (trunk != "frozen") and bool(encoder - adapted) == (trunk == "paper")
    assert not any("patch_embed" in name or ".linear." in name for name in encoder)
    asked = [parameter for parameter in system.network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in asked)  # every process waits for the gradients of all
    system.export(tmp_path / "out", system.network.state_dict())
    loaded = load_model(tmp_path / "out", encoder=None if trunk == "paper" else encoder_folder)
    photos = example().context.images
    with torch.no_grad():
        expected = system.eval().joint(photos)[1]
        got = loaded.joint(photos)[1]
    torch.testing.assert_close(got.queries, expected.queries, rtol=2e-2, atol=2e-2)  # half precision
    torch.testing.assert_close(got.features, expected.features, rtol=2e-2, atol=2e-2)


def test_the_encoder_as_it_was_is_the_teacher(encoder_folder: Path) -> None:
    """At the start its depth and focal length are the teacher's; poses are, up to the first camera as the world."""
    settings = SegVGGTSettings(str(encoder_folder), "lora", model=MODEL, losses=LOSSES)
    terms = SegVGGT.for_training(settings).losses(example(), 0, "fp32").terms
    assert "attention" in terms and float(terms["depth.regression"].detach()) == 0
    assert float(terms["camera.field_of_view"].detach()) < 1e-6
    alone = SegVGGT.for_training(replace(settings, geometry=0.0)).losses(example(), 0, "fp32").terms
    assert "geometry" not in alone


def test_scenes_are_named_instances_and_a_rest(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = SegVGGTNetwork(VGGT(SIZES), MODEL.network)
    for parameter in network.branch.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    system = SegVGGT(VGGT(SIZES), MODEL)
    system.joint.load_state_dict(network.state_dict())
    photos = example().context.images[0]
    made = system.eval().predict(photos)
    groups = made.photo_groups
    assert groups is not None and len(groups.scores) > 1 and set(groups.names) <= set(NAMES)
    scene, path = made.scene, tmp_path / "scene.safetensors"
    rest = bool((groups.labels < 0).any())
    shown = groups.labels.unique()
    assert scene.group_ids.tolist() == [*shown[shown >= 0].tolist(), *([len(groups.scores)] if rest else [])]
    assert [scene.group_names[i] for i in range(len(scene.group_ids))] == [
        groups.names[i] if i < len(groups.names) else "" for i in scene.group_ids.tolist()
    ]
    own = scene.group_ids[scene.assignment.argmax(dim=1)].view(groups.labels.shape)
    assert torch.equal(own, torch.where(groups.labels < 0, len(groups.scores), groups.labels))
    assert torch.equal(system.segment(system.encode(photos)).labels, groups.labels)
    save_scene(path, scene)
    assert load_scene(path).group_names == scene.group_names


def test_names_must_fit_the_network() -> None:
    with pytest.raises(ValueError, match="class_names must be 7 names, got 2"):
        replace(MODEL, class_names=("wall", "floor"))


@pytest.mark.parametrize("names", [("wall", *NAMES[:6]), ("", *NAMES[1:]), (" ", *NAMES[1:])])
def test_names_must_tell_classes_apart(names: tuple[str, ...]) -> None:
    """A class whose name another one has would never be learnt, and the empty name means no instance."""
    with pytest.raises(ValueError, match="class_names must all differ and not be empty"):
        replace(MODEL, class_names=names)


@pytest.mark.parametrize("sizes", [{"features": 7}, {"features": 12}, {"channels": (4, 8, 6, 8)}])
def test_sizes_must_leave_room_for_the_positions(sizes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="head.features must be a multiple of 8, head.channels multiples of 4"):
        SemanticHeadConfig(**sizes)
    assert SemanticHeadConfig(features=24, channels=(4, 8, 12, 8)).features == 24


def test_names_of_the_published_classes() -> None:
    assert len(SCANNET) == 18 and len(set(SCANNET200)) == 198
    assert SCANNET200[0] == "chair" and SCANNET200[7] == "office chair" and SCANNET200[-1] == "mattress"
    assert not {"wall", "floor"} & set(SCANNET200)


@pytest.mark.parametrize("classes", [18, 198])
def test_a_published_checkpoint_is_a_system_like_any_other(classes: int, tmp_path: Path) -> None:
    config = replace(CONFIG, num_classes=classes)
    torch.save(published_state(config), tmp_path / "segvggt.pt")
    assert kind_of_file(tmp_path / "segvggt.pt") == "SegVGGT"
    system = load_published(tmp_path / "segvggt.pt", SIZES, config)
    system.decoding = MODEL.decode
    made = system.predict(torch.rand(2, 3, 56, 56))
    assert made.scene.provenance["licence"].startswith("SegVGGT's weights")
    assert made.photo_groups is not None and set(made.photo_groups.names) <= set(system.config.class_names)
    assert system.config.class_names == (SCANNET if classes == 18 else SCANNET200)


def test_the_score_decides_which_masks_are_kept(tmp_path: Path) -> None:
    torch.save(published_state(), tmp_path / "segvggt.pt")
    system = load_published(tmp_path / "segvggt.pt", SIZES, CONFIG)
    system.decoding = MODEL.decode
    draft = system.encode(torch.rand(2, 3, 56, 56))
    scores = system.segment(draft).scores
    system.adjust(score=float(scores.median()))
    assert 0 < len(system.segment(draft).scores) < len(scores)
    with pytest.raises(ValueError, match="score_threshold"):
        system.adjust(score=2.0)


def test_too_few_queries_are_said_once(encoder_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = replace(MODEL.network, queries=replace(MODEL.network.queries, number=1))
    model = replace(MODEL, network=network)
    system = SegVGGT.for_training(SegVGGTSettings(str(encoder_folder), "frozen", model=model, losses=LOSSES))
    for step in range(2):
        assert system.losses(example(), step, "fp32").total.isfinite()
    assert [record.message for record in caplog.records] == [
        "scenes have more instances than the 1 queries: the others are not learnt"
    ]


def test_scenes_without_an_instance_train_no_object_alone(
    encoder_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No name of the data is a class: every term but the class term is 0, all gradients are there, and it is said."""
    model = replace(MODEL, class_names=tuple(f"unicorn {i}" for i in range(7)))
    system = SegVGGT.for_training(SegVGGTSettings(str(encoder_folder), "lora", model=model, losses=LOSSES))
    for step in range(2):
        found = system.losses(example(), step, "fp32")
        assert [float(found.terms[name].detach()) for name in ("bce", "dice", "attention")] == [0, 0, 0]
        assert float(found.terms["class"].detach()) > 0
    found.total.backward()
    asked = [parameter for parameter in system.network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and bool(parameter.grad.isfinite().all()) for parameter in asked)
    assert [record.message for record in caplog.records] == [
        "scenes show no instance of model.class_names: their 9 queries learn 'no object' alone"
    ]


def test_more_sampled_queries_than_patches_are_said_once(
    encoder_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two photos of 4 x 4 patches."""
    for number, messages in ((32, []), (33, ["photos have fewer patches than the 33 queries that start from them"])):
        queries = replace(MODEL.network.queries, number=number, start="sampled")
        model = replace(MODEL, network=replace(MODEL.network, queries=queries))
        system = SegVGGT.for_training(SegVGGTSettings(str(encoder_folder), "frozen", model=model, losses=LOSSES))
        for step in range(2):
            assert system.losses(example(), step, "fp32").total.isfinite()
        assert [record.message.partition(":")[0] for record in caplog.records] == messages


@pytest.mark.parametrize("count", [1, 2])
def test_photos_without_an_instance_are_a_scene_of_one_unnamed_group(
    count: int, encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A score that no mask reaches leaves nothing, which is said; the scene and the empty masks are whole."""
    strict = replace(MODEL, decode=replace(MODEL.decode, score_threshold=1.0))
    for name, model in (("loose", MODEL), ("strict", strict)):
        settings = SegVGGTSettings(str(encoder_folder), "frozen", model=model, losses=LOSSES)
        system = SegVGGT.for_training(settings)
        system.export(tmp_path / name, system.network.state_dict())
    (tmp_path / "photos").mkdir()
    for index in range(count):
        Image.effect_noise((70 + index, 56), 80).save(tmp_path / "photos" / f"{index}.png")  # of two sizes
    given = [str(tmp_path / "photos"), "--encoder", str(encoder_folder), "--weights"]
    assert main(["segment", *given, str(tmp_path / "loose"), "--score", "1", "-o", str(tmp_path / "masks")]) == 0
    told = capsys.readouterr().out
    assert told.count("no instance") == 1 and "note: no instance is found in the photos" in told
    assert json.loads((tmp_path / "masks" / "instances.json").read_text())["instances"] == []
    path = tmp_path / "scene.safetensors"
    assert main(["reconstruct", "--keep-all", *given, str(tmp_path / "strict"), "-o", str(path)]) == 0
    assert "note: no instance is found in the photos" in capsys.readouterr().out
    assert load_scene(path).group_names == ("",) and load_scene(path).group_ids.tolist() == [0]
    assert main(["list", str(path)]) == main(["info", str(path)]) == 0
