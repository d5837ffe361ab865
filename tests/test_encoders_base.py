"""Encoders' common form: the world and points of `Geometry`, the protocol, and its docstring's example."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional

from tests.test_encoders_vggt_model import PUBLISHED
from tests.tiny_encoder import TINY, WITH_SINGLE_VIEW
from tests.tolerances import tolerance
from tokengroups.encoders import Encoder, Geometry, geometry_of
from tokengroups.encoders.base import MATCH_DESCRIPTORS, SINGLE_VIEW_FEATURES
from tokengroups.encoders.vggt import VGGT
from tokengroups.encoders.vggt_tiny import VGGTTiny
from tokengroups.geometry import rigid
from tokengroups.types import Cameras

BATCH, VIEWS, HEIGHT, WIDTH = 2, 3, 6, 8


def flat_wall() -> type:
    """The class that the protocol's docstring shows, from its text as it stands there."""
    _, _, text = inspect.cleandoc(Encoder.__doc__ or "").partition("::\n")
    lines = text.strip("\n").splitlines()
    end = next((n for n, line in enumerate(lines) if line and not line.startswith(" ")), len(lines))
    names: dict[str, Any] = {
        "torch": torch, "functional": functional, "geometry_of": geometry_of, "Cameras": Cameras
    }  # fmt: skip
    exec(textwrap.dedent("\n".join(lines[:end])), names)
    return names["FlatWall"]


def random_prediction() -> dict[str, Any]:
    generator = np.random.default_rng(0)
    turns = Rotation.from_rotvec(generator.normal(size=(BATCH * VIEWS, 3))).as_matrix()
    poses = rigid(torch.from_numpy(turns).float().unflatten(0, (BATCH, VIEWS)), torch.randn(BATCH, VIEWS, 3))
    intrinsics = torch.tensor([[7.0, 0, 3.5], [0, 9, 3.2], [0, 0, 1]]).repeat(BATCH, VIEWS, 1, 1)
    intrinsics[..., [0, 1], [0, 1]] *= 1 + 0.1 * torch.rand(BATCH, VIEWS, 2)
    return {
        "features": torch.randn(BATCH, VIEWS, 5, 3, 4),
        "depth": torch.rand(BATCH, VIEWS, HEIGHT, WIDTH) + 1,
        "confidence": torch.rand(BATCH, VIEWS, HEIGHT, WIDTH) + 1,
        "cameras": Cameras(poses, intrinsics, (HEIGHT, WIDTH)),
        "evidence": {
            MATCH_DESCRIPTORS: torch.randn(BATCH, VIEWS, 12, 4),
            SINGLE_VIEW_FEATURES: (torch.randn(BATCH, VIEWS, 6, 4, 4), torch.randn(BATCH, VIEWS, 2, 8, 8)),
        },
    }


def test_points_are_unprojected_depth_in_the_world_of_the_first_camera() -> None:
    """Against a float64 loop over all pixels."""
    given = random_prediction()
    geometry = geometry_of(**given)
    torch.testing.assert_close(
        geometry.cameras.cam_from_world[:, 0], torch.eye(4).expand(BATCH, 4, 4), **tolerance("float32")
    )
    poses = given["cameras"].cam_from_world.double().numpy()
    matrices = given["cameras"].intrinsics.double().numpy()
    for b in range(BATCH):
        for v in range(VIEWS):
            cam_from_first = poses[b, v] @ np.linalg.inv(poses[b, 0])
            found = geometry.cameras.cam_from_world[b, v].double().numpy()
            np.testing.assert_allclose(found, cam_from_first, rtol=0, atol=1e-5)
            for i in range(HEIGHT):
                for j in range(WIDTH):
                    ray = np.linalg.inv(matrices[b, v]) @ [j + 0.5, i + 0.5, 1.0]
                    in_cam = np.append(ray * float(given["depth"][b, v, i, j]), 1.0)
                    point = (np.linalg.inv(cam_from_first) @ in_cam)[:3]
                    found = geometry.points[b, v, i, j].double().numpy()
                    np.testing.assert_allclose(found, point, rtol=0, atol=2e-5)


def test_everything_else_is_passed_on() -> None:
    given = random_prediction()
    geometry = geometry_of(**given)
    for name in ("features", "depth", "confidence"):
        assert getattr(geometry, name) is given[name]
    assert geometry.cameras.intrinsics is given["cameras"].intrinsics
    assert geometry.cameras.size_hw == (HEIGHT, WIDTH)
    assert geometry.evidence is given["evidence"]
    del given["evidence"]
    assert geometry_of(**given).evidence == {}


def test_the_scale_is_the_encoder_s_own() -> None:
    given = random_prediction()
    one = geometry_of(**given)
    larger = given["cameras"].cam_from_world.clone()
    larger[..., :3, 3] *= 8
    cameras = Cameras(larger, given["cameras"].intrinsics, (HEIGHT, WIDTH))
    eight = geometry_of(**given | {"depth": 8 * given["depth"], "cameras": cameras})
    torch.testing.assert_close(eight.points, 8 * one.points, **tolerance("float32_chain"))


def test_a_scene_of_a_batch_is_one_index_of_every_tensor() -> None:
    whole = geometry_of(**random_prediction())
    for index in range(BATCH):
        one = whole.scene(index)
        for name in ("features", "points", "depth", "confidence"):
            assert torch.equal(getattr(one, name), getattr(whole, name)[index]), name
        assert torch.equal(one.cameras.cam_from_world, whole.cameras.cam_from_world[index])
        assert torch.equal(one.cameras.intrinsics, whole.cameras.intrinsics[index])
        assert one.cameras.size_hw == whole.cameras.size_hw
        assert one.evidence.keys() == whole.evidence.keys()
        descriptors = whole.evidence[MATCH_DESCRIPTORS]
        assert torch.equal(one.evidence[MATCH_DESCRIPTORS], descriptors[index])
        maps = one.evidence[SINGLE_VIEW_FEATURES]
        assert isinstance(maps, tuple) and len(maps) == 2
        for mine, batched in zip(maps, whole.evidence[SINGLE_VIEW_FEATURES], strict=True):
            assert torch.equal(mine, batched[index])


@pytest.mark.parametrize(
    "build",
    [lambda: VGGT(PUBLISHED), lambda: VGGTTiny(TINY), lambda: VGGTTiny(WITH_SINGLE_VIEW), lambda: flat_wall()()],
    ids=["vggt", "vggt_tiny", "vggt_tiny_single_view", "docstring"],
)
def test_an_encoder_keeps_what_the_protocol_promises(build) -> None:
    torch.manual_seed(0)
    encoder = build()
    assert isinstance(encoder, Encoder)
    if isinstance(encoder, torch.nn.Module):
        encoder.eval()
    patch = encoder.patch_size
    height, width = 2 * patch, 3 * patch
    photos = torch.rand(2, 3, 3, height, width)
    assert encoder.image_size % patch == 0
    with torch.no_grad():
        geometry = encoder.encode(photos)
    assert isinstance(geometry, Geometry)
    assert geometry.features.shape == (2, 3, encoder.feature_dim, 2, 3)
    assert geometry.depth.shape == geometry.confidence.shape == (2, 3, height, width)
    assert geometry.points.shape == (2, 3, height, width, 3)
    assert geometry.cameras.size_hw == (height, width)
    first = geometry.cameras.cam_from_world[:, 0]
    torch.testing.assert_close(first, torch.eye(4).expand(2, 4, 4), **tolerance("float32"))
    assert (geometry.depth > 0).all() and (geometry.confidence >= 1).all()
    assert geometry.evidence.keys() == encoder.evidence_dims.keys()
    given = torch.tensor([[20.0, 0, width / 2], [0, 21, height / 2], [0, 0, 1]]).expand(2, 3, 3, 3)
    with torch.no_grad():
        told = encoder.encode(photos, given)
    assert torch.equal(told.cameras.intrinsics, given)
    assert not torch.equal(told.cameras.intrinsics, geometry.cameras.intrinsics)


def test_the_docstring_s_wall_is_one_unit_away() -> None:
    geometry = flat_wall()().encode(torch.rand(1, 2, 3, 16, 24))
    torch.testing.assert_close(geometry.points[..., 2], torch.ones(1, 2, 16, 24))
    corner = torch.tensor([0.5 / 24 - 0.5, 0.5 / 24 - 8 / 24, 1.0])
    torch.testing.assert_close(geometry.points[0, 0, 0, 0], corner)


def test_what_is_no_encoder_is_none() -> None:
    assert not isinstance(torch.nn.Linear(2, 2), Encoder)
