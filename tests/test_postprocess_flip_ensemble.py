"""Groups averaged with those of the mirrored photos: a symmetric answer changes nothing, another one counts half."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.transform import Rotation

from tokengroups.encoders import Geometry
from tokengroups.geometry import rigid, world_points
from tokengroups.postprocess.flip_ensemble import average_mirrored, mirror_geometry
from tokengroups.types import Cameras

VIEWS, SIDE, STRIDE, GROUPS = 2, 16, 4, 5


def grid_anchors() -> torch.Tensor:
    """All cells of both views, first pixels of a symmetric grid."""
    at = torch.tensor([1, 5, 10, 14])  # its own mirror image in 16 pixels
    view, row, column = torch.meshgrid(torch.arange(VIEWS), at, at, indexing="ij")
    return torch.stack([view, row, column], dim=-1).flatten(0, 2)


@pytest.fixture
def depth() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 1 + torch.rand(VIEWS, SIDE, SIDE, generator=generator)


def assignments(seed: int = 1, sharpness: float = 8.0) -> torch.Tensor:
    logits = sharpness * torch.randn(len(grid_anchors()), GROUPS, generator=torch.Generator().manual_seed(seed))
    return logits.softmax(dim=-1)


def mirrored(pixels: torch.Tensor) -> torch.Tensor:
    pixels = pixels.clone()
    pixels[:, 2] = SIDE - 1 - pixels[:, 2]
    return pixels


def near_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest mirrored anchor alone is averaged."""
    monkeypatch.setattr("tokengroups.postprocess.flip_ensemble.NEIGHBOURS", 1)


def test_a_symmetric_answer_stays(depth, monkeypatch):
    """Also with anchors and groups in another order."""
    near_only(monkeypatch)
    own, pixels = assignments(), grid_anchors()
    anchors, groups = torch.randperm(len(pixels)), torch.randperm(GROUPS)
    both = torch.stack([own, own[anchors][:, groups]])
    places = torch.stack([pixels, mirrored(pixels)[anchors]])
    torch.testing.assert_close(average_mirrored(both, places, depth, STRIDE), own)


def test_the_mirrored_assignment_counts_half(depth, monkeypatch):
    near_only(monkeypatch)
    own, pixels = assignments(), grid_anchors()
    other = own.clone()
    other[3] = torch.eye(GROUPS)[(own[3].argmax() + 1) % GROUPS]
    places = torch.stack([pixels, mirrored(pixels)])
    average = average_mirrored(torch.stack([own, other]), places, depth, STRIDE)
    torch.testing.assert_close(average[3], (own[3] + other[3]) / 2)
    torch.testing.assert_close(average.sum(dim=1), torch.ones(len(own)))
    torch.testing.assert_close(average[:3], own[:3])


def test_neighbours_of_other_views_and_depths_have_no_say(depth):
    """Anchors at one place of both photos, and before and behind an edge, keep their own groups."""
    pixels = torch.tensor([[0, 8, 7], [1, 8, 7], [0, 8, 9]])
    depth = torch.ones_like(depth)
    depth[0, :, 9:] = 4.0
    own = torch.eye(3)
    average = average_mirrored(torch.stack([own, own]), torch.stack([pixels, mirrored(pixels)]), depth, STRIDE)
    assert (average.argmax(dim=1) == torch.arange(3)).all()
    assert average[0, 1] < 1e-3 and average[0, 2] < 0.05


def test_mirrored_geometry_is_consistent():
    """Its points are what its depth and cameras give, and twice mirrored is as before."""
    generator = torch.Generator().manual_seed(3)
    depth = 1 + torch.rand(1, VIEWS, SIDE, SIDE, generator=generator)
    turn = torch.tensor(Rotation.from_rotvec([[0, 0, 0], [0.1, -0.2, 0.05]]).as_matrix()).float()
    poses = rigid(turn, torch.tensor([[0.0, 0, 0], [0.3, -0.1, 0.2]]))[None]
    intrinsics = torch.tensor([[20.0, 0, 7], [0, 21, 9], [0, 0, 1]]).expand(1, VIEWS, 3, 3)
    features, confidence = torch.rand(1, VIEWS, 3, 2, 2), torch.rand(1, VIEWS, SIDE, SIDE)
    points = world_points(depth, poses, intrinsics)
    geometry = Geometry(features, points, depth, confidence, Cameras(poses, intrinsics, (SIDE, SIDE)))
    mirror = mirror_geometry(geometry)
    again = world_points(mirror.depth, mirror.cameras.cam_from_world, mirror.cameras.intrinsics)
    torch.testing.assert_close(mirror.points, again)
    torch.testing.assert_close(mirror.points[..., 0], -points.flip(-2)[..., 0])
    back = mirror_geometry(mirror)
    torch.testing.assert_close(back.points, points)
    torch.testing.assert_close(back.cameras.cam_from_world, poses)
    torch.testing.assert_close(back.cameras.intrinsics, intrinsics)
