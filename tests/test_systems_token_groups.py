"""The composed model: photos to a scene, weight folders, and what stays frozen."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tokengroups.data.augment import to_views
from tokengroups.data.procedural.generate import generate_room
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.errors import UserError
from tokengroups.geometry import world_points
from tokengroups.systems import TokenGroups, TokenGroupsConfig, load_encoder, load_model
from tokengroups.systems.weights import save_decoder, save_encoder

ENCODER = VGGTConfig(
    patch_size=8, image_size=32, embed_dim=24, num_heads=2, dino_depth=1, depth=4, camera_depth=1, camera_heads=2,
    dpt_layers=(0, 1, 2, 3), dpt_channels=(8, 8, 8, 8), dpt_features=8, dpt_hidden=8, enable_point=False,
)  # fmt: skip
DECODER = TokenGroupsConfig(
    context_patch=8, anchor_stride=4, num_anchors=48, num_groups=6, gaussians_per_anchor=3, dim=32, num_heads=4,
    anchor_layers=1, group_layers=1,
)  # fmt: skip


@pytest.fixture
def model() -> TokenGroups:
    torch.manual_seed(0)
    return TokenGroups(VGGT(ENCODER), DECODER).eval()


@pytest.fixture
def photos() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_reconstruct_gives_a_consistent_scene(model, photos):
    prediction = model.predict(photos)
    scene = prediction.scene
    assert scene.gaussians.means.shape == (48 * 3, 3)
    assert scene.anchors.shape == (48, 3)
    assert scene.cameras.cam_from_world.shape == (2, 4, 4)
    torch.testing.assert_close(
        scene.cameras.cam_from_world[0], torch.eye(4)
    )  # the first photo's camera is the world
    assert scene.assignment.shape == (48, len(scene.group_ids)) == (48, len(scene.group_tokens))
    torch.testing.assert_close(scene.assignment.sum(-1), torch.ones(48))
    owners = scene.group_ids[scene.assignment.argmax(-1)]
    assert set(owners.tolist()) == set(scene.group_ids.tolist())  # no unused group is left
    assert prediction.depth.shape == (2, 32, 32)
    points = world_points(prediction.depth, scene.cameras.cam_from_world, scene.cameras.intrinsics)
    view, row, column = prediction.anchor_pixels.unbind(-1)
    torch.testing.assert_close(scene.anchors, points[view, row, column])


def test_mirrored_photos_have_a_say_in_the_groups_alone(model, photos):
    plain = model.predict(photos)
    model.decoder.config = replace(DECODER, mirrored_grouping=True)
    both = model.predict(photos)
    torch.testing.assert_close(both.scene.gaussians.means, plain.scene.gaussians.means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.depth, plain.depth, rtol=1e-4, atol=1e-5)
    assert torch.equal(both.anchor_pixels, plain.anchor_pixels)
    torch.testing.assert_close(both.scene.assignment.sum(-1), torch.ones(48))
    assert both.scene.assignment.shape != plain.scene.assignment.shape or not torch.allclose(
        both.scene.assignment, plain.scene.assignment, atol=1e-3
    )


def test_sharpening_changes_the_gaussians_alone_and_can_be_asked_for(model, photos):
    decoded = model.predict(photos)
    model.decoder.config = replace(DECODER, sharpening_steps=3)
    assert model.predict(photos[:1]).scene.provenance["sharpening_steps"] == 1
    sharpened, without = model.predict(photos), model.predict(photos, sharpening_steps=0)
    assert torch.equal(sharpened.scene.assignment, decoded.scene.assignment)
    assert torch.equal(sharpened.scene.anchors, decoded.scene.anchors)
    assert torch.equal(without.scene.gaussians.sh, decoded.scene.gaussians.sh)
    assert not torch.equal(sharpened.scene.gaussians.sh, decoded.scene.gaussians.sh)
    assert [p.scene.provenance["sharpening_steps"] for p in (decoded, sharpened, without)] == [0, 3, 0]
    with torch.inference_mode():
        inference = model.predict(photos)
    torch.testing.assert_close(inference.scene.gaussians.sh, sharpened.scene.gaussians.sh)
    with pytest.raises(ValueError, match="negative, got -1"):
        model.predict(photos, sharpening_steps=-1)


def test_known_intrinsics_are_kept_and_move_the_points(model, photos):
    known = torch.tensor([[40.0, 0, 16], [0, 40.0, 16], [0, 0, 1]]).expand(2, 3, 3)
    told, plain = model.predict(photos, intrinsics=known), model.predict(photos)
    torch.testing.assert_close(told.scene.cameras.intrinsics, known)
    points = world_points(told.depth, told.scene.cameras.cam_from_world, known)
    view, row, column = told.anchor_pixels.unbind(-1)
    torch.testing.assert_close(told.scene.anchors, points[view, row, column])
    assert not torch.allclose(plain.scene.cameras.intrinsics, known, rtol=1e-3)
    assert [p.scene.provenance["intrinsics"] for p in (told, plain)] == ["given", "predicted"]


def test_refinement_keeps_a_known_focal_length():
    """Of shipped weights, which refine cameras by matched pixels: pose and depth change, the focal length does not."""
    tiny = load_model("token_groups_tiny")
    frames = generate_room(5, 0, "test", num_views=5, size=128)
    context = to_views(frames, [1, 3])
    known = context.cameras.intrinsics
    told, plain = tiny.encode(context.images[None], known[None]), tiny.encode(context.images[None])
    torch.testing.assert_close(told.cameras.intrinsics[0], known, rtol=1e-4, atol=0)
    assert (plain.cameras.intrinsics[0, :, 0, 0] / known[:, 0, 0] - 1).abs().max() > 0.01
    assert not torch.allclose(told.cameras.cam_from_world, plain.cameras.cam_from_world, atol=1e-4)


def test_borders_change_the_groups_alone():
    """Of shipped weights, whose encoder tells them: anchors turn to groups that the decoder gave few of them."""
    tiny = load_model("token_groups_tiny")
    photos = to_views(generate_room(5, 0, "test", num_views=5, size=128), [1, 3]).images
    followed = tiny.predict(photos, sharpening_steps=0).scene
    tiny.decoder.config = replace(tiny.decoder.config, border_rounds=0)
    decoded = tiny.predict(photos, sharpening_steps=0).scene
    assert torch.equal(followed.gaussians.means, decoded.gaussians.means)
    assert torch.equal(followed.anchors, decoded.anchors)
    torch.testing.assert_close(followed.assignment.sum(-1), torch.ones(len(followed.anchors)))
    assert set(followed.group_ids.tolist()) <= set(decoded.group_ids.tolist())
    owners = [scene.group_ids[scene.assignment.argmax(-1)] for scene in (followed, decoded)]
    assert 0.01 < (owners[0] != owners[1]).float().mean() < 0.3


def test_borders_need_an_encoder_that_tells_them():
    with pytest.raises(
        ValueError, match="border_rounds needs an encoder whose perspective network has details"
    ):
        TokenGroups(VGGT(ENCODER), replace(DECODER, border_rounds=2))


@pytest.mark.parametrize(("num_photos", "anchors"), [(1, 48), (2, 48), (4, 68), (8, 96)])
def test_more_photos_get_more_anchors_of_the_same_size(model, num_photos, anchors):
    photos = torch.rand(num_photos, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert len(model.predict(photos).scene.anchors) == 48
    model.decoder.config = replace(DECODER, anchor_growth=0.5)
    scene = model.predict(photos).scene
    assert len(scene.anchors) == len(scene.assignment) == anchors
    assert len(scene.gaussians.means) == len(scene.anchor_ids) == 3 * anchors
    sizes = [scene.gaussians.scales.median(), model.predict(photos[:2]).scene.gaussians.scales.median()]
    assert 0.5 < sizes[0] / sizes[1] < 2


@pytest.mark.parametrize("num_photos", [1, 3, 5])
def test_any_number_of_photos(model, num_photos):
    scene = model.reconstruct(torch.rand(num_photos, 3, 32, 32))
    assert scene.cameras.intrinsics.shape == (num_photos, 3, 3)


def test_reconstruction_is_repeatable_and_the_seed_moves_the_first_anchor(model, photos):
    first, again, other = (
        model.reconstruct(photos),
        model.reconstruct(photos),
        model.reconstruct(photos, seed=5),
    )
    assert torch.equal(first.gaussians.means, again.gaussians.means)
    assert not torch.equal(first.anchors[0], other.anchors[0])


def test_bad_photo_tensors_are_refused(model):
    with pytest.raises(ValueError, match="at least one photo"):
        model.predict(torch.rand(0, 3, 32, 32))
    with pytest.raises(ValueError, match=r"multiples of 8, got \(30, 32\)"):
        model.predict(torch.rand(1, 3, 30, 32))


def test_the_encoder_stays_frozen_in_training(model, photos):
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    model.train()
    assert not model.encoder.training
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    output, _ = model(photos[None])
    (output.assignment.square().sum() + output.gaussians.means.sum()).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


def test_weight_folders_round_trip(model, photos, tmp_path):
    save_encoder(tmp_path / "encoder", model.encoder.state_dict(), ENCODER)
    save_decoder(tmp_path / "groups", model.decoder.state_dict(), DECODER, str(tmp_path / "encoder"))
    loaded = load_model(tmp_path / "groups")
    assert loaded.decoder.config == DECODER and loaded.encoder.config == ENCODER
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float()), name
    assert loaded.reconstruct(photos).gaussians.means.isfinite().all()


def test_missing_and_foreign_weights_fail_in_one_line(model, tmp_path):
    with pytest.raises(UserError, match="no weights 'nothing'"):
        load_model("nothing")
    save_encoder(tmp_path / "encoder", model.encoder.state_dict(), ENCODER)
    with pytest.raises(UserError, match="holds weights of 'vggt', not of 'token_groups'"):
        load_model(tmp_path / "encoder")
    with pytest.raises(UserError, match="no VGGT weights at"):
        load_encoder(tmp_path / "absent")


def test_weights_that_do_not_fit_the_config_name_the_tensors(model, tmp_path):
    save_encoder(tmp_path / "encoder", model.encoder.state_dict(), ENCODER)
    save_decoder(tmp_path / "groups", model.decoder.state_dict(), DECODER, str(tmp_path / "encoder"))
    path = tmp_path / "groups" / "config.json"
    saved = json.loads(path.read_text())
    saved["config"]["num_groups"] = 7
    path.write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"group_tokens \[6, 32\] for \[7, 32\]"):
        load_model(tmp_path / "groups")


@pytest.mark.parametrize("matching", [False, True])
def test_only_encoders_that_match_cells_are_refined(monkeypatch, matching):
    """One that does not is taken for a large VGGT, whose answer stands."""
    options = {"stem_channels": (4, 8, 8), "matching": True, "matching_dim": 8} if matching else {}
    encoder = VGGT(replace(ENCODER, **options)).eval()
    asked = []
    monkeypatch.setattr(
        "tokengroups.systems.token_groups.system.refine_geometry",
        lambda *given: asked.append(given) or given[1:3],
    )
    TokenGroups(encoder, DECODER).eval().encode(torch.rand(1, 3, 3, 32, 32))
    assert len(asked) == int(matching)
