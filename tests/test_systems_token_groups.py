"""Token groups as a system: photos to a scene, weight folders, and what stays frozen."""

from __future__ import annotations

import json

import pytest
import torch
from tolerances import tolerance
from toy_systems import ENCODER, GROUPS, random_photos

from tokengroups.data.augment import to_views
from tokengroups.data.procedural import generate_room
from tokengroups.encoders import geometry_of, load_encoder, save_encoder
from tokengroups.encoders.vggt import VGGT
from tokengroups.errors import UserError
from tokengroups.geometry import world_points
from tokengroups.postprocess.boundary_crf import BoundaryCRF
from tokengroups.postprocess.bundle_adjustment import BundleAdjustment
from tokengroups.postprocess.flip_ensemble import FlipEnsemble
from tokengroups.postprocess.photometric import PhotometricRefinement
from tokengroups.systems import load_model, save_system
from tokengroups.systems.token_groups import TokenGroups
from tokengroups.systems.token_groups.context import ContextEmbedding
from tokengroups.types import Cameras


@pytest.fixture
def model() -> TokenGroups:
    torch.manual_seed(0)
    return TokenGroups(VGGT(ENCODER), GROUPS).eval()


@pytest.fixture
def photos() -> torch.Tensor:
    return random_photos()


@pytest.fixture
def weights(model, tmp_path):
    """Weight folders of the encoder and of the groups."""
    save_encoder(tmp_path / "encoder", model.encoder.state_dict(), ENCODER)
    folder, encoder = tmp_path / "groups", str(tmp_path / "encoder")
    save_system(folder, model.network.state_dict(), model, GROUPS, encoder)
    return folder


def test_reconstruct_gives_a_consistent_scene(model, photos):
    prediction = model.predict(photos)
    scene = prediction.scene
    assert scene.gaussians.means.shape == (48 * 3, 3)
    assert scene.anchors.shape == (48, 3)
    assert scene.cameras.cam_from_world.shape == (2, 4, 4)
    torch.testing.assert_close(scene.cameras.cam_from_world[0], torch.eye(4))  # the first photo's camera is the world
    assert scene.assignment.shape == (48, len(scene.group_ids)) == (48, len(scene.group_tokens))
    torch.testing.assert_close(scene.assignment.sum(-1), torch.ones(48))
    owners = scene.group_ids[scene.assignment.argmax(-1)]
    assert set(owners.tolist()) == set(scene.group_ids.tolist())  # no unused group is left
    assert prediction.depth.shape == (2, 32, 32)
    points = world_points(prediction.depth, scene.cameras.cam_from_world, scene.cameras.intrinsics)
    view, row, column = prediction.anchor_pixels.unbind(-1)
    torch.testing.assert_close(scene.anchors, points[view, row, column])


def test_mirrored_photos_change_the_groups_alone(model, photos):
    plain, both = model.predict(photos), model.predict(photos, postprocess=[FlipEnsemble()])
    torch.testing.assert_close(both.scene.gaussians.means, plain.scene.gaussians.means, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.depth, plain.depth, rtol=1e-4, atol=1e-5)
    assert torch.equal(both.anchor_pixels, plain.anchor_pixels)
    torch.testing.assert_close(both.scene.assignment.sum(-1), torch.ones(48))
    assert both.scene.assignment.shape != plain.scene.assignment.shape or not torch.allclose(
        both.scene.assignment, plain.scene.assignment, atol=1e-3
    )


def test_photometric_refinement_changes_the_gaussians_alone_and_can_be_left_out(photos):
    torch.manual_seed(0)
    model = TokenGroups(VGGT(ENCODER), GROUPS, [PhotometricRefinement(3)])
    decoded = TokenGroups(VGGT(ENCODER), GROUPS)
    decoded.load_state_dict(model.state_dict())
    decoded = decoded.predict(photos)
    refined, without = model.predict(photos), model.predict(photos, postprocess="none")
    assert torch.equal(refined.scene.assignment, decoded.scene.assignment)
    assert torch.equal(refined.scene.anchors, decoded.scene.anchors)
    assert torch.equal(without.scene.gaussians.sh, decoded.scene.gaussians.sh)
    assert not torch.equal(refined.scene.gaussians.sh, decoded.scene.gaussians.sh)
    recorded = [p.scene.provenance["postprocess"] for p in (decoded, refined, without)]
    assert recorded == [[], [{"name": "photometric_refinement", "steps": 3, "full_steps": 30, "full_size": 256}], []]
    with torch.inference_mode():
        inference = model.predict(photos)
    torch.testing.assert_close(inference.scene.gaussians.sh, refined.scene.gaussians.sh)
    one = model.predict(photos[:1], postprocess=[PhotometricRefinement(2)]).scene  # half the steps for one
    assert torch.equal(model.predict(photos[:1]).scene.gaussians.sh, one.gaussians.sh)
    with pytest.raises(ValueError, match="steps must be a whole number from 0 to 1,000, got -1"):
        PhotometricRefinement(-1)


def test_given_intrinsics_are_kept_and_move_the_points(model, photos):
    known = torch.tensor([[40.0, 0, 16], [0, 40.0, 16], [0, 0, 1]]).expand(2, 3, 3)
    told, plain = model.predict(photos, known), model.predict(photos)
    torch.testing.assert_close(told.scene.cameras.intrinsics, known)
    points = world_points(told.depth, told.scene.cameras.cam_from_world, known)
    view, row, column = told.anchor_pixels.unbind(-1)
    torch.testing.assert_close(told.scene.anchors, points[view, row, column])
    assert not torch.allclose(plain.scene.cameras.intrinsics, known, rtol=1e-3)
    assert [p.scene.provenance["intrinsics"] for p in (told, plain)] == ["given", "predicted"]


def test_bundle_adjustment_keeps_a_known_focal_length():
    """Of shipped weights: pose and depth change, the focal length does not."""
    tiny = load_model("token_groups_tiny")
    frames = generate_room(5, 0, "test", num_views=5, size=128)
    context = to_views(frames, [1, 3])
    known, step = context.cameras.intrinsics, BundleAdjustment()
    told, plain = (step(tiny.encode(context.images, known)).geometry, step(tiny.encode(context.images)).geometry)
    torch.testing.assert_close(told.cameras.intrinsics, known, rtol=1e-4, atol=0)
    assert (plain.cameras.intrinsics[:, 0, 0] / known[:, 0, 0] - 1).abs().max() > 0.01
    assert not torch.allclose(told.cameras.cam_from_world, plain.cameras.cam_from_world, atol=1e-4)
    raw = tiny.encode(context.images, known).geometry
    assert not torch.allclose(told.cameras.cam_from_world, raw.cameras.cam_from_world, atol=1e-4)
    assert not torch.allclose(told.depth, raw.depth, rtol=1e-3)


def test_the_boundary_crf_changes_the_groups_alone():
    """Of shipped weights: anchors turn to groups that the model gave few of them."""
    tiny = load_model("token_groups_tiny")
    photos = to_views(generate_room(5, 0, "test", num_views=5, size=128), [1, 3]).images
    followed = tiny.predict(photos, postprocess="bundle_adjustment,flip_ensemble,boundary_crf").scene
    decoded = tiny.predict(photos, postprocess="bundle_adjustment,flip_ensemble").scene
    assert torch.equal(followed.gaussians.means, decoded.gaussians.means)
    assert torch.equal(followed.anchors, decoded.anchors)
    torch.testing.assert_close(followed.assignment.sum(-1), torch.ones(len(followed.anchors)))
    assert set(followed.group_ids.tolist()) <= set(decoded.group_ids.tolist())
    owners = [scene.group_ids[scene.assignment.argmax(-1)] for scene in (followed, decoded)]
    assert 0.01 < (owners[0] != owners[1]).float().mean() < 0.3


def test_steps_need_an_encoder_that_gives_their_evidence(model, photos):
    message = "boundary_crf needs pair_affinity, which VGGT does not predict"
    with pytest.raises(UserError, match=message):
        TokenGroups(VGGT(ENCODER), GROUPS, [BoundaryCRF(2)])
    for choice in ("boundary_crf", [BoundaryCRF(2)]):
        with pytest.raises(UserError, match=message):
            model.predict(photos, postprocess=choice)


@pytest.mark.parametrize("num_photos", [1, 3, 5])
def test_any_number_of_photos(model, num_photos):
    scene = model.reconstruct(torch.rand(num_photos, 3, 32, 32))
    assert scene.cameras.intrinsics.shape == (num_photos, 3, 3)
    assert len(scene.anchors) == 48  # the paper's number does not depend on the photos'


def test_reconstruction_is_repeatable_and_the_start_moves_the_first_anchor(model, photos):
    first, again, other = (model.reconstruct(photos), model.reconstruct(photos), model.reconstruct(photos, fps_start=5))
    assert torch.equal(first.gaussians.means, again.gaussians.means)
    assert not torch.equal(first.anchors[0], other.anchors[0])
    assert [scene.provenance["seed"] for scene in (first, other)] == [None, 5]


def test_bad_photo_tensors_are_refused(model):
    with pytest.raises(ValueError, match="at least one photo"):
        model.predict(torch.rand(0, 3, 32, 32))
    with pytest.raises(ValueError, match=r"got \[1, 3, 30, 32\]; sides must be multiples of 8"):
        model.predict(torch.rand(1, 3, 30, 32))


def test_the_encoder_stays_frozen_in_training(model, photos):
    before = {name: value.clone() for name, value in model.encoder.state_dict().items()}
    model.train()
    assert model.network.training and not model.encoder.training
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    geometry = model.encode_batch(photos[None])
    output = model.network(photos[None], geometry)
    (output.assignment.square().sum() + output.gaussians.means.sum()).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.state_dict().items())


@pytest.mark.parametrize("adjusted", [False, True])
def test_training_runs_the_steps_before_decoding_and_no_others(monkeypatch, adjusted):
    """Geometry of a batch is that of its scenes, each adjusted if and only if the system's steps say so."""
    asked = []
    monkeypatch.setattr(
        "tokengroups.postprocess.bundle_adjustment.refine_geometry",
        lambda *given: asked.append(given) or (given[1], 2 * given[2]),
    )
    monkeypatch.setattr(FlipEnsemble, "__call__", lambda *_: pytest.fail("a step after decoding"))
    steps = (BundleAdjustment(), FlipEnsemble()) if adjusted else (FlipEnsemble(),)
    model = TokenGroups(VGGT(ENCODER), GROUPS, steps).eval()
    images = torch.rand(2, 3, 3, 32, 32)
    geometry = model.encode_batch(images)
    assert len(asked) == (2 if adjusted else 0)
    for scene in range(2):
        raw = model.encode(images[scene]).geometry
        factor = 2 if adjusted else 1
        torch.testing.assert_close(geometry.depth[scene], factor * raw.depth, rtol=1e-4, atol=1e-5)
        cameras = geometry.scene(scene).cameras
        points = world_points(geometry.depth[scene], cameras.cam_from_world, cameras.intrinsics)
        torch.testing.assert_close(geometry.points[scene], points, rtol=1e-4, atol=1e-5)


def test_weight_folders_round_trip(model, photos, weights):
    loaded = load_model(weights)
    assert isinstance(loaded, TokenGroups) and not loaded.training
    assert loaded.network.config == GROUPS and loaded.encoder.config == ENCODER and loaded.steps == ()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.half().float()), name
    assert loaded.reconstruct(photos).gaussians.means.isfinite().all()


def test_missing_and_foreign_weights_fail_in_one_line(weights, tmp_path):
    with pytest.raises(UserError, match="no weights 'nothing'.*token_groups_tiny"):
        load_model("nothing")
    with pytest.raises(UserError, match="holds the system 'token_groups'; give the weights of an encoder"):
        load_encoder(weights)
    with pytest.raises(UserError, match="no VGGT weights at"):
        load_encoder(tmp_path / "absent")


def test_weights_that_do_not_fit_the_config_name_the_tensors(weights):
    path = weights / "config.json"
    saved = json.loads(path.read_text())
    saved["config"]["num_groups"] = 7
    path.write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"group_tokens \[6, 32\] for \[7, 32\]"):
        load_model(weights)


@pytest.mark.parametrize("patch", [8, 16])
def test_context_of_some_views_at_a_time_equals_all_at_once(patch):
    """More views than are embedded together, on the encoder's own grid of patches and on a coarser one."""
    torch.manual_seed(0)
    images, eye = torch.rand(2, 6, 3, 32, 48), torch.eye(4).expand(2, 6, 4, 4)
    pinhole = torch.tensor([[40.0, 0, 24], [0, 40, 16], [0, 0, 1]]).expand(2, 6, 3, 3)
    depth = 1 + torch.rand(2, 6, 32, 48)
    geometry = geometry_of(torch.randn(2, 6, 10, 4, 6), depth, 1 + depth, Cameras(eye, pinhole, (32, 48)))
    embedding, scale = ContextEmbedding(12, 10, patch), torch.ones(2)
    together = embedding(images, geometry, scale)
    with torch.no_grad():
        torch.testing.assert_close(embedding(images, geometry, scale), together, **tolerance("float32"))
