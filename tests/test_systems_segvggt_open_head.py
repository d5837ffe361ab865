"""SegVGGT's open class head: numbers against float64 loops, what is trained, and scenes that any text searches."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from segvggt_networks import CONFIG, SIZES, small
from test_losses_query_masks import class_by_loop
from test_systems_segvggt import LOSSES, MODEL, NAMES, example, learn
from tolerances import tolerance
from toy_teachers import Letters

from tokengroups.cli.main import main
from tokengroups.encoders import save_encoder
from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.losses.query_masks import Matching
from tokengroups.losses.query_targets import InstanceTargets
from tokengroups.retrieval import name_groups
from tokengroups.scene import load_scene, save_scene
from tokengroups.systems import load_model
from tokengroups.systems.segvggt.config import OpenHeadConfig
from tokengroups.systems.segvggt.network import SegVGGTNetwork
from tokengroups.systems.segvggt.open_head import (
    OpenClasses,
    OpenHead,
    open_calibration_loss,
    open_class_loss,
    open_distillation_loss,
)  # fmt: skip
from tokengroups.systems.segvggt.queries import Reading
from tokengroups.systems.segvggt.system import SegVGGT, SegVGGTSettings

BESIDE = OpenHeadConfig("beside", hidden=16)
LETTERS = "toy_teachers:Letters"


@pytest.fixture
def encoder_folder(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    save_encoder(tmp_path / "encoder", VGGT(SIZES).state_dict(), SIZES)
    return tmp_path / "encoder"


def settings(folder: Path, head: OpenHeadConfig = BESIDE, **changes: Any) -> SegVGGTSettings:
    network = replace(MODEL.network, open_head=head)
    model = replace(MODEL, network=network)
    return SegVGGTSettings(str(folder), "frozen", model=model, losses=LOSSES, text_encoder=LETTERS, **changes)


def some_head() -> OpenHead:
    torch.manual_seed(4)
    head = OpenHead(5, OpenHeadConfig("beside", hidden=7, text_dim=6), num_classes=4).double()
    head.names.copy_(torch.randn(4, 6))
    for parameter in head.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return head


def of_classes(*classes: int) -> InstanceTargets:
    """Targets of which the classes alone matter."""
    count = len(classes)
    masks, shares = torch.ones(count, 1, 2, 2), torch.ones(count, 1)
    return InstanceTargets(torch.arange(count), torch.tensor(classes), masks, shares)


def test_logits_are_scaled_cosines_with_the_names() -> None:
    head, queries = some_head(), torch.randn(2, 3, 5, dtype=torch.float64)
    found = head(queries)
    lists = {name: tensor.tolist() for name, tensor in head.state_dict().items()}

    def linear(name: str, x: list[float]) -> list[float]:
        rows = zip(lists[f"{name}.weight"], lists[f"{name}.bias"], strict=True)
        return [sum(a * b for a, b in zip(row, x, strict=True)) + bias for row, bias in rows]

    def unit(x: list[float]) -> list[float]:
        return [value / math.sqrt(sum(v * v for v in x)) for value in x]

    for scene in range(2):
        for query in range(3):
            hidden = [
                x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in linear("hidden.0", queries[scene, query].tolist())
            ]
            embedding = unit(linear("embedding", hidden))
            cosines = [sum(a * b for a, b in zip(embedding, unit(name), strict=True)) for name in lists["names"]]
            logits = [math.exp(lists["log_scale"]) * cosine for cosine in cosines] + linear("no_object", hidden)
            assert found.embeddings[scene, query].tolist() == pytest.approx(embedding, rel=1e-9)
            assert found.cosines[scene, query].tolist() == pytest.approx(cosines, rel=1e-9)
            assert found.logits[scene, query].tolist() == pytest.approx(logits, rel=1e-9)
    assert found.calibration.tolist() == pytest.approx([math.exp(lists["log_slope"]), lists["threshold"]])


def test_losses_leave_out_what_trains_masks_alone() -> None:
    """Query 1 of the first scene is matched with an instance of no class: neither a name nor "no object" is asked."""
    head, queries = some_head(), torch.randn(2, 5, 5, dtype=torch.float64)
    found = head(queries)
    matches = [Matching(torch.tensor([1, 3]), torch.tensor([0, 1])), Matching(torch.tensor([0]), torch.tensor([0]))]
    targets = [of_classes(-1, 2), of_classes(3)]
    loss = open_class_loss(found, matches, targets, 0.2)
    kept = found.logits[0, [0, 2, 3, 4]]
    expected = (class_by_loop(kept, {2: 2}, 0.2) + class_by_loop(found.logits[1], {0: 3}, 0.2)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    right = (found.cosines[0, 3, 2].item(), found.cosines[1, 0, 3].item())
    assert open_distillation_loss(found, matches, targets).item() == pytest.approx(1 - sum(right) / 2, rel=1e-10)
    calibrated = open_calibration_loss(found, matches, targets)
    slope, threshold = found.calibration.tolist()
    errors = []
    for scene, query, right in ((0, 3, 2), (1, 0, 3)):
        for name in range(4):
            chance = 1 / (1 + math.exp(-slope * (found.cosines[scene, query, name].item() - threshold)))
            errors.append(-math.log(chance if name == right else 1 - chance))
    assert calibrated.item() == pytest.approx(sum(errors) / 8, rel=1e-6)  # targets of the loss are float32
    calibrated.backward()
    touched = {name for name, parameter in head.named_parameters() if parameter.grad is not None}
    assert touched == {"log_slope", "threshold"}


def test_nothing_to_learn_is_zero_and_in_the_graph() -> None:
    found = some_head()(torch.randn(1, 2, 5, dtype=torch.float64))
    targets = [of_classes(-1, -1)]
    matches = [Matching(torch.tensor([0, 1]), torch.tensor([0, 1]))]
    losses = [open_class_loss(found, matches, targets, 0.1)]
    losses += [loss(found, matches, targets) for loss in (open_distillation_loss, open_calibration_loss)]
    assert all(loss.item() == 0 and loss.requires_grad for loss in losses)


def test_the_head_is_off_and_changes_nothing_beside_it() -> None:
    images = torch.rand(1, 2, 3, 56, 56)
    plain = small()
    assert plain.branch.open_head is None and not any("open" in name for name in plain.state_dict())
    torch.manual_seed(5)
    beside = SegVGGTNetwork(VGGT(SIZES), replace(CONFIG, open_head=replace(BESIDE, text_dim=6))).eval()
    torch.manual_seed(5)
    without = SegVGGTNetwork(VGGT(SIZES), CONFIG).eval()
    with torch.no_grad():
        expected, found = without(images)[1], beside(images)[1]
    assert expected.open_classes is None and found.open_classes is not None
    for name in ("queries", "features", "class_logits"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    more = beside.state_dict().keys() - without.state_dict().keys()
    assert more and all(name.startswith("branch.open_head.") for name in more)


def test_the_open_head_takes_the_place_of_the_closed_one() -> None:
    network = small(replace(CONFIG, open_head=OpenHeadConfig("instead", 16, 6)))
    assert network.branch.open_head is not None
    network.branch.open_head.names.copy_(torch.randn(7, 6))
    assert not any("output_instance" in name for name in network.state_dict())
    with torch.no_grad():
        found = network(torch.rand(1, 2, 3, 56, 56), Reading(states=True))[1]
    assert found.open_classes is not None and found.layer_queries is not None and found.layer_class_logits is not None
    assert torch.equal(found.class_logits, found.open_classes.logits)
    expected = network.branch.open_head(found.layer_queries[2]).logits
    torch.testing.assert_close(found.layer_class_logits[2], expected, **tolerance("float32"))


@pytest.mark.parametrize("use", ["beside", "instead"])
def test_training_learns_names_and_weights_keep_the_space(use: Any, encoder_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    system = SegVGGT.for_training(settings(encoder_folder, replace(BESIDE, use=use), masks_only=("chair", "floor")))
    config = system.config
    assert config.class_names == tuple(name for name in NAMES if name not in ("chair", "floor"))
    assert config.network.num_classes == 5 and config.text_encoder == system.text_encoder == "letters:1"
    head = system.joint.branch.open_head
    assert head is not None and torch.equal(head.names, Letters().encode_text(list(config.class_names)))
    terms = system.losses(example(), 0, "fp32").terms
    assert ("open_class" in terms) == (use == "beside") and {"open_distillation", "open_calibration"} <= set(terms)
    losses = learn(system, 20)
    assert losses[-1] < losses[0]
    asked = [parameter for parameter in system.network.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None for parameter in asked)
    system.export(tmp_path / "out", system.network.state_dict())
    loaded = load_model(tmp_path / "out", encoder=encoder_folder)
    assert loaded.text_encoder == "letters:1"
    with torch.no_grad():
        photos = example().context.images
        expected, got = system.eval().joint(photos)[1].open_classes, loaded.joint(photos)[1].open_classes
    assert isinstance(got, OpenClasses) and isinstance(expected, OpenClasses)
    torch.testing.assert_close(got.logits, expected.logits, rtol=2e-2, atol=2e-2)  # half precision


def test_total_adds_the_open_terms_by_their_weight(encoder_folder: Path) -> None:
    def losses(**weights: float) -> dict[str, float]:
        torch.manual_seed(2)
        system = SegVGGT.for_training(settings(encoder_folder, **weights))
        with torch.no_grad():
            found = system.losses(example(), 0, "fp32")
        return {name: float(term) for name, term in {**found.terms, "total": found.total}.items()}

    one, three = losses(open_classes=1.0, open_distillation=0.7), losses(open_classes=3.0, open_distillation=0.7)
    assert three["total"] - one["total"] == pytest.approx(2 * one["open_class"], rel=1e-5)
    known = LOSSES.classes * one["class"] + one["bce"] + one["dice"] + LOSSES.attention * one["attention"]
    opened = one["open_class"] + 0.7 * one["open_distillation"] + one["open_calibration"]
    assert one["total"] == pytest.approx(known + opened, rel=1e-5)


def test_instances_of_masks_only_classes_are_targets_without_a_class(encoder_folder: Path) -> None:
    batch = example()
    plain = SegVGGT.for_training(settings(encoder_folder))
    without = SegVGGT.for_training(settings(encoder_folder, masks_only=("floor",)))
    assert plain.objective is not None and without.objective is not None
    for before, after, names in zip(
        *(each.objective.targets(batch, (28, 28)) for each in (plain, without)), batch.classes, strict=True
    ):
        assert torch.equal(before.ids, after.ids) and torch.equal(before.masks, after.masks)
        own = [names[i] for i in after.ids.tolist()]
        rows = [-1 if name == "floor" else without.config.class_names.index(name) for name in own]
        assert "floor" in own and after.classes.tolist() == rows


def test_one_pass_makes_scenes_that_any_text_searches(
    encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(3)
    system = SegVGGT.for_training(settings(encoder_folder))
    for parameter in system.joint.branch.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    photos = example().context.images[0]
    made = system.eval().predict(photos)
    scene, groups = made.scene, made.photo_groups
    assert groups is not None and scene.semantics is not None and len(groups.scores) > 1
    with torch.no_grad():
        opened = system.joint(photos[None])[1].open_classes
    assert opened is not None
    own = scene.semantics.embeddings
    for column, group in enumerate(scene.group_ids.tolist()):
        if group == len(groups.scores):
            assert scene.group_names[column] == "" and not own[column].any()  # the rest has no embedding
        else:
            nearest = (opened.embeddings[0] - own[column]).abs().amax(dim=1).min()
            assert float(nearest) < 1e-5  # it is that of a query
    assert scene.semantics.encoder == "letters:1" and scene.semantics.residuals.shape == (len(scene.anchors), 0)
    save_scene(tmp_path / "scene.safetensors", scene)
    loaded = load_scene(tmp_path / "scene.safetensors")
    assert loaded.semantics is not None and torch.equal(loaded.semantics.embeddings, own)
    words = ["sofa", "lamp", "umbrella"]  # none of them is a class
    texts, file = Letters().encode_text(words), str(tmp_path / "scene.safetensors")
    assert main(["query", file, "lamp", "--text-encoder", LETTERS, "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["matches"][0]["id"]
    assert best == int(scene.group_ids[int((own @ texts[1]).argmax())])
    assert main(["list", file, "--vocabulary", ",".join(words), "--text-encoder", LETTERS, "--json"]) == 0
    labels = {group["id"]: group["label"] for group in json.loads(capsys.readouterr().out)}
    chosen = name_groups(scene, words, texts)
    assert [labels[group] or "" for group in scene.group_ids.tolist()] == [each.name for each in chosen]


def test_settings_that_do_not_fit_are_refused(encoder_folder: Path) -> None:
    with pytest.raises(ValueError, match="masks_only must be names of model.class_names, got lamp"):
        settings(encoder_folder, masks_only=("chair", "lamp"))
    with pytest.raises(ValueError, match="masks_only must leave a class to learn"):
        settings(encoder_folder, masks_only=NAMES)
    with pytest.raises(ValueError, match="the open head needs open_head.text_dim"):
        small(replace(CONFIG, open_head=BESIDE))
    with pytest.raises(UserError, match="text encoder"):
        SegVGGT.for_training(replace(settings(encoder_folder), text_encoder="no/such/folder/here"))
