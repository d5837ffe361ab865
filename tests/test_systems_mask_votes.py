"""The step that asks another system for masks: what it asks, what it changes, what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from segvggt_networks import CONFIG, SIZES, published_state
from torch import Tensor

from tokengroups.cli.main import main
from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.errors import UserError
from tokengroups.io.pictures import save_color
from tokengroups.postprocess import Draft, PhotoGroups, build_steps, describe_steps
from tokengroups.postprocess.flip_ensemble import FlipEnsemble
from tokengroups.postprocess.votes import anchor_shares, vote
from tokengroups.segmentation import segment_photos
from tokengroups.systems import SceneSystem, load_model, mask_votes
from tokengroups.systems.mask_votes import MaskVotes
from tokengroups.systems.segvggt import published
from tokengroups.systems.segvggt.decode import DecodeConfig
from tokengroups.systems.segvggt.system import load_published


@pytest.fixture(scope="module")
def model() -> SceneSystem:
    return load_model("token_groups_tiny")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return to_views(generate_room(5, 0, "test", num_views=5, size=64), [1, 3]).images


@pytest.fixture(scope="module")
def decoded(model: SceneSystem, photos: Tensor) -> Draft:
    with torch.no_grad():
        return model.decode(model.encode(photos))


def test_the_masks_are_those_of_segment(photos, decoded):
    masks = MaskVotes().masks(decoded)
    expected = segment_photos(load_model("iggt_tiny"), photos)
    assert torch.equal(masks.labels, expected.labels) and torch.equal(masks.scores, expected.scores)
    assert len(masks.scores) > 3


def test_only_the_assignment_changes_and_by_the_rule(model, photos, decoded):
    step = MaskVotes(weight=0.7)
    before, masks = decoded.predicted(), step.masks(decoded)
    after = step(decoded).predicted()
    shares = anchor_shares(masks.labels, len(masks.scores), before.anchor_pixels, before.anchor_stride)
    assert torch.equal(after.assignment, vote(before.assignment, shares, 0.7))
    assert not torch.equal(after.assignment, before.assignment)
    unchanged = [field.name for field in fields(before) if getattr(after, field.name) is getattr(before, field.name)]
    assert unchanged == [field.name for field in fields(before) if field.name != "assignment"]
    scene = model.reconstruct(photos, postprocess=[step])
    torch.testing.assert_close(scene.assignment.argmax(dim=1), _owners(after.assignment))
    assert scene.provenance["postprocess"] == [{"name": "mask_votes", "weights": "iggt_tiny", "weight": 0.7}]
    assert "licence" not in scene.provenance
    assert build_steps(describe_steps([step]), "a file", typed=False) == (step,)


def _owners(assignment: Tensor) -> Tensor:
    """Column of every anchor's group when groups without anchors are gone."""
    return assignment.argmax(dim=1).unique(return_inverse=True)[1]


def test_points_and_given_intrinsics_are_asked_for_as_segment_asks(model, photos, monkeypatch):
    """Masks that are smoothed over points need the other system's own steps, which move them."""
    asked: list[object] = []
    step = MaskVotes()
    other = step.system
    other.clustering = replace(other.clustering, smoothing=2)  # pyright: ignore[reportAttributeAccessIssue]
    encode = other.encode
    monkeypatch.setattr(
        other, "encode", lambda images, given, *full: (asked.append(given), encode(images, given, *full))[1]
    )
    intrinsics = torch.tensor([[60.0, 0, 32], [0, 60, 32], [0, 0, 1]]).expand(2, 3, 3)
    for given in (None, intrinsics):
        with torch.no_grad():
            masks = step.masks(model.encode(photos, given))
        expected = segment_photos(other, photos, given)
        assert torch.equal(masks.labels, expected.labels)
    assert asked[0] is None and torch.equal(asked[2], intrinsics)  # pyright: ignore[reportArgumentType]


def test_the_other_system_is_loaded_once_for_a_step(decoded, monkeypatch):
    loaded: list[str] = []
    monkeypatch.setattr(mask_votes, "load_model", lambda source: (loaded.append(source), load_model(source))[1])
    step = MaskVotes()
    assert loaded == []
    assert torch.equal(step(decoded).predicted().assignment, step(decoded).predicted().assignment)
    assert loaded == ["iggt_tiny"]


def test_no_instance_at_all_changes_nothing(decoded, monkeypatch):
    step = MaskVotes()
    none = PhotoGroups(torch.full(decoded.photos[:, 0].shape, -1), torch.zeros(0))
    monkeypatch.setattr(step.system, "segment", lambda _draft: none)
    assert torch.equal(step(decoded).predicted().assignment, decoded.predicted().assignment)


def test_masks_of_segvggt_vote_and_their_licence_stays_with_the_scene(random_weights, tmp_path, monkeypatch):
    """Published weights with the sizes of these tests; the encoder of the groups has patches of 16 pixels."""
    torch.save(published_state(), tmp_path / "segvggt.pt")

    def load(source: str) -> SceneSystem:
        system = load_published(source, SIZES, CONFIG)
        system.decoding = DecodeConfig(min_pixels=0, mask_threshold=0.05)
        return system

    monkeypatch.setattr(mask_votes, "load_model", load)
    model = load_model(random_weights)
    step = MaskVotes(str(tmp_path / "segvggt.pt"), 1.0)
    scene = model.reconstruct(torch.rand(2, 3, 112, 112), postprocess=[step])
    assert scene.provenance["licence"] == published.LICENCE
    with pytest.raises(UserError, match=r"mask_votes: photos are 64x64, and .*segvggt.pt needs multiples of 14; give"):
        model.reconstruct(torch.rand(2, 3, 64, 64), postprocess=[step])


def test_what_does_not_fit_is_refused_in_one_line(photos, decoded):
    def refused(step: MaskVotes, draft: Draft = decoded) -> str:
        with pytest.raises(UserError) as error, torch.no_grad():
            step(draft)
        return str(error.value)

    assert "no weights 'nowhere'; give a shipped name, a folder or a file" in refused(MaskVotes("nowhere"))
    assert "token_groups_tiny segments no photos; give weights of iggt" in refused(MaskVotes("token_groups_tiny"))
    assert "vggt_tiny segments no photos; give weights of iggt" in refused(MaskVotes("vggt_tiny"))
    masked = load_model("iggt_tiny")
    with torch.no_grad():
        instances = masked.decode(masked.encode(photos))
    assert "groups of this system are masks already" in refused(MaskVotes(), instances)
    assert "flip_ensemble: groups of this system are masks" in refused(FlipEnsemble(), instances)
    with pytest.raises(ValueError, match="weight must be a finite number from 0 to 1"):
        MaskVotes(weight=1.5)
    with pytest.raises(ValueError, match="run it after decoding"):
        MaskVotes()(replace(decoded, prediction=None))


@pytest.mark.parametrize("weights", [published.RELEASE.hub_id, "lifuguan/IGGT_official"])
def test_a_file_that_names_the_hub_asks_nobody(weights: str, random_weights: Path, tmp_path: Path, capsys, monkeypatch):
    """Weights whose default steps name a hub id: one line before anything runs, and nothing is written."""

    def contact(*_: object) -> Path:
        raise AssertionError("the hub was asked")

    for module in ("tokengroups.systems.published", "tokengroups.encoders.weights"):
        monkeypatch.setattr(f"{module}.hub_folder", contact, raising=False)
    folder = tmp_path / "weights"
    shutil.copytree(random_weights, folder)
    config = json.loads((folder / "config.json").read_text())
    config["postprocess"] = [{"name": "mask_votes", "weights": weights}]
    (folder / "config.json").write_text(json.dumps(config))
    photo, out = tmp_path / "a.png", tmp_path / "scene.safetensors"
    save_color(photo, torch.rand(64, 64, 3))
    assert main(["reconstruct", str(photo), "-o", str(out), "--weights", str(folder)]) == 2
    answer = capsys.readouterr().err
    assert answer.startswith(f"error: mask_votes: no weights '{weights}'") and answer.count("\n") == 1
    assert not out.exists()
    assert main(["reconstruct", str(photo), "-o", str(out), "--weights", str(folder), "--postprocess", "none"]) == 0


def test_the_command_line_takes_it_after_the_default_steps(tmp_path: Path, photos: Tensor, capsys):
    paths = [str(tmp_path / f"{index}.png") for index in range(2)]
    for path, photo in zip(paths, photos, strict=True):
        save_color(Path(path), photo.permute(1, 2, 0))
    out = str(tmp_path / "scene.safetensors")
    words = ["reconstruct", "--keep-all", *paths, "-o", out, "--size", "64", "--json"]
    assert main([*words, "--postprocess", "default,mask_votes"]) == 0
    own = [step["name"] for step in describe_steps(load_model("token_groups_tiny").steps)]
    assert json.loads(capsys.readouterr().out)["postprocess"] == [*own, "mask_votes"]
