"""Bundle adjustment as a step, on geometry as VGGT gives it: patches of 14 pixels and no match descriptors.

The room is known exactly; poses, focal length and depth are put off by what a network gets wrong, and pulled back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional

from tests.photographed_room import FOCAL, SIZE_HW, room_cameras, room_depth, room_photos
from tests.tolerances import tolerance
from tokengroups.encoders import Geometry, geometry_of
from tokengroups.encoders.base import MATCH_DESCRIPTORS
from tokengroups.encoders.vggt import VGGT, VGGTConfig
from tokengroups.geometry import rigid, world_points
from tokengroups.postprocess import Draft, Step, check_evidence
from tokengroups.postprocess.bundle_adjustment import BundleAdjustment, BundleAdjustmentSettings, refine_geometry
from tokengroups.types import Cameras

PATCH, FEATURES = 14, 6
TURN_DEGREES, SHIFT, ZOOM, BEND = (1.0, 3.0), 0.05, 1.05, 0.05  # how far off predictions are


class NoModel:
    """The step never asks the system that made the draft."""

    def encode(self, *_photos: Tensor) -> Draft:
        raise AssertionError("asked to encode")

    def decode(self, _draft: Draft) -> Draft:
        raise AssertionError("asked to decode")


@dataclass(frozen=True)
class Errors:
    """The largest error of a pose in degrees and lengths, of log focal lengths, and the mean of log depth."""

    turn: float
    shift: float
    focal: float
    depth: float


@dataclass(frozen=True)
class Room:
    """True photos, cameras and depth, and predictions of them in a unit of their own."""

    photos: Tensor
    cameras: Cameras
    depth: Tensor
    predicted: Geometry

    def draft(self, **changes: object) -> Draft:
        return replace(Draft(self.photos, self.predicted, NoModel()), **changes)

    def errors(self, found: Geometry) -> Errors:
        """Against the truth, by one scale for the scene."""
        scale = (found.depth / self.depth).log().median().exp()
        poses, true = (cameras.cam_from_world[1:] for cameras in (found.cameras, self.cameras))
        turns = Rotation.from_matrix((poses[:, :3, :3] @ true[:, :3, :3].mT).numpy()).magnitude()
        return Errors(
            math.degrees(turns.max()),
            float((poses[:, :3, 3] / scale - true[:, :3, 3]).norm(dim=-1).max()),
            float((found.cameras.intrinsics[:, [0, 1], [0, 1]] / FOCAL).log().abs().max()),
            float((found.depth / scale / self.depth).log().abs().mean()),
        )


def put_off(cam_from_world: Tensor, generator: torch.Generator) -> Tensor:
    """A pose rotated by 1 to 3 degrees and shifted by 5 % of the unit, both in a random direction."""
    axis, direction = functional.normalize(torch.randn(2, 3, generator=generator), dim=1)
    low, high = TURN_DEGREES
    angle = math.radians(low + (high - low) * float(torch.rand((), generator=generator)))
    turn = Rotation.from_rotvec((angle * axis).numpy()).as_matrix()
    return rigid(torch.from_numpy(turn).float(), SHIFT * direction) @ cam_from_world


def smooth_waves(views: int, generator: torch.Generator) -> Tensor:
    """Smooth maps of standard deviation 1, another one for every view."""
    nodes = torch.randn(views, 1, 4, 4, generator=generator)
    waves = functional.interpolate(nodes, SIZE_HW, mode="bicubic", align_corners=True)[:, 0]
    return waves / waves.square().mean().sqrt()


def room(views: int, seed: int = 0, zoom: float = ZOOM, unit: float = 1.0) -> Room:
    generator = torch.Generator().manual_seed(seed)
    cameras = room_cameras(views)
    depth = room_depth(cameras)
    poses = [put_off(pose, generator) for pose in cameras.cam_from_world[1:]]
    poses = torch.stack([torch.eye(4), *poses])
    poses[:, :3, 3] *= unit
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, [0, 1], [0, 1]] *= zoom
    predicted = geometry_of(
        torch.randn(1, views, FEATURES, SIZE_HW[0] // PATCH, SIZE_HW[1] // PATCH, generator=generator),
        (unit * depth * (BEND * smooth_waves(views, generator)).exp())[None],
        1 + torch.rand(1, views, *SIZE_HW, generator=generator),
        Cameras(poses[None], intrinsics[None], SIZE_HW),
    ).scene(0)
    return Room(room_photos(cameras, depth), cameras, depth, predicted)


def assert_pulled_back(room: Room, found: Geometry, focal: bool = True) -> None:
    before, after = room.errors(room.predicted), room.errors(found)
    assert before.turn > 1 and before.shift > 0.03 and before.depth > 0.03, before
    assert after.turn < 0.25 * before.turn, (before, after)
    assert after.shift < 0.35 * before.shift, (before, after)
    assert after.depth < 0.35 * before.depth, (before, after)
    if focal:
        assert before.focal > 0.04 and after.focal < 0.35 * before.focal, (before, after)


@pytest.mark.parametrize("zoom", [ZOOM, 1 / ZOOM])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("views", [3, 4, 5])
def test_what_vggt_gets_wrong_is_pulled_back_without_match_descriptors(views, seed, zoom):
    scene = room(views, seed, zoom)
    assert scene.predicted.features.shape == (views, FEATURES, 8, 10) and not scene.predicted.evidence
    assert_pulled_back(scene, BundleAdjustment()(scene.draft()).geometry)


@pytest.mark.parametrize("unit", [1 / 50, 50.0])
def test_predictions_of_any_unit_are_pulled_back_and_keep_it(unit):
    scene = room(4, unit=unit)
    found = BundleAdjustment()(scene.draft()).geometry
    assert_pulled_back(scene, found)
    assert float((found.depth / scene.predicted.depth).log().median().abs()) < 0.05
    assert float((found.depth / scene.depth / unit).log().median().abs()) < 0.05


@pytest.mark.parametrize("unit", [1 / 16, 16.0])
def test_a_unit_that_is_a_power_of_16_changes_nothing(unit):
    plain, scaled = (BundleAdjustment()(room(3, unit=u).draft()).geometry for u in (1.0, unit))
    assert torch.equal(scaled.depth, unit * plain.depth)
    assert torch.equal(scaled.cameras.intrinsics, plain.cameras.intrinsics)
    assert torch.equal(scaled.cameras.cam_from_world[:, :3, :3], plain.cameras.cam_from_world[:, :3, :3])
    assert torch.equal(scaled.cameras.cam_from_world[:, :3, 3], unit * plain.cameras.cam_from_world[:, :3, 3])


def test_given_intrinsics_stay_and_the_rest_is_pulled_back():
    scene = room(4, zoom=1.0)
    found = BundleAdjustment()(scene.draft(intrinsics_given=True)).geometry
    torch.testing.assert_close(found.cameras.intrinsics, scene.cameras.intrinsics, rtol=1e-3, atol=0)
    assert_pulled_back(scene, found, focal=False)


def test_photos_may_come_in_any_order():
    """The world is that of the first photo, so it stays in front; from four photos on, pairs are searched one way."""
    scene, order = room(5), [0, 3, 1, 4, 2]
    shuffled = scene.draft(photos=scene.photos[order], geometry=scene.predicted.map(lambda tensor: tensor[order]))
    plain, found = (BundleAdjustment()(draft).geometry for draft in (scene.draft(), shuffled))
    back = torch.tensor(order).argsort()
    assert_pulled_back(scene, found.map(lambda tensor: tensor[back]))
    torch.testing.assert_close(found.cameras.cam_from_world[back], plain.cameras.cam_from_world, rtol=0, atol=0.02)


def test_points_follow_and_everything_else_stays():
    scene = room(3)
    draft, before = scene.draft(), scene.predicted.map(torch.clone)
    refined = BundleAdjustment()(draft)
    found = refined.geometry
    points = world_points(found.depth, found.cameras.cam_from_world, found.cameras.intrinsics)
    torch.testing.assert_close(found.points, points, **tolerance("float32"))
    assert not torch.equal(found.points, before.points)
    assert torch.equal(found.cameras.cam_from_world[0], torch.eye(4))
    assert torch.equal(found.cameras.intrinsics[..., 2], before.cameras.intrinsics[..., 2])
    assert found.features is draft.geometry.features and found.confidence is draft.geometry.confidence
    assert refined.photos is draft.photos and refined.prediction is None
    for name in ("depth", "points"):  # the draft that was given stays as it was
        assert torch.equal(getattr(draft.geometry, name), getattr(before, name))
    assert torch.equal(draft.geometry.cameras.cam_from_world, before.cameras.cam_from_world)


def test_a_single_photo_stays_as_it_is():
    scene = room(1)
    found = BundleAdjustment()(scene.draft()).geometry
    assert torch.equal(found.depth, scene.predicted.depth)
    assert torch.equal(found.cameras.intrinsics, scene.predicted.cameras.intrinsics)
    torch.testing.assert_close(found.points, scene.predicted.points, **tolerance("float32"))


def test_match_descriptors_are_used_where_there_are_some_and_settings_are_the_step_s():
    scene = room(3)
    descriptors = 3 * torch.randn(3, 80, 8)
    with_them = replace(scene.predicted, evidence={MATCH_DESCRIPTORS: descriptors})
    step = BundleAdjustment(max_iterations=2, rigid_stages=1)
    settings = BundleAdjustmentSettings(max_iterations=2, rigid_stages=1)
    results = {}
    for name, geometry, given in (("without", scene.predicted, None), ("with", with_them, descriptors[None])):
        found = step(scene.draft(geometry=geometry)).geometry
        cameras, depth = refine_geometry(
            scene.photos[None], geometry.cameras.map(lambda tensor: tensor[None]), geometry.depth[None], given, settings
        )
        assert torch.equal(found.depth, depth[0])
        assert torch.equal(found.cameras.cam_from_world, cameras.cam_from_world[0])
        results[name] = found.cameras.cam_from_world
    assert not torch.equal(results["with"], results["without"])
    default = BundleAdjustment()(scene.draft()).geometry.cameras.cam_from_world
    assert not torch.equal(results["without"], default)


def test_it_serves_the_published_architecture():
    """Shapes and evidence as the network gives them; untrained, it predicts nothing that could be pulled back."""
    config = VGGTConfig(
        image_size=28, embed_dim=16, num_heads=2, dino_depth=1, depth=4, camera_depth=1, camera_heads=2,
        dpt_layers=(0, 1, 2, 3), dpt_channels=(4, 4, 4, 4), dpt_features=8, dpt_hidden=4, enable_point=False,
    )  # fmt: skip
    encoder, step, photos = VGGT(config).freeze(), BundleAdjustment(), room(3).photos
    assert isinstance(step, Step) and step.when == "before_decoding"
    check_evidence([step], encoder)
    with torch.no_grad():
        geometry = encoder.encode(photos[None]).scene(0)
    found = step(Draft(photos, geometry, NoModel())).geometry
    assert found.features.shape == (3, encoder.feature_dim, 8, 10)
    for value in (found.depth, found.points, found.cameras.cam_from_world, found.cameras.intrinsics):
        assert value.isfinite().all()
