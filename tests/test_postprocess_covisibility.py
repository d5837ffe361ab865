"""Which photos show the same, against loops and SciPy, and what hangs on it: poses of photos in any order."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.transform import Rotation
from torch.nn import functional

from tokengroups.data.augment import to_views
from tokengroups.data.procedural.generate import generate_room
from tokengroups.geometry import invert_rigid, rigid
from tokengroups.postprocess.bundle_adjustment import BundleAdjustment
from tokengroups.postprocess.bundle_adjustment.covisibility import (
    DEPTH_TOLERANCE,
    PARTNERS,
    SAMPLES,
    covisible_pairs,
    overlap_shares,
)
from tokengroups.postprocess.bundle_adjustment.frames import Frame
from tokengroups.postprocess.mutual_matches import mutual_shares
from tokengroups.systems import load_model

CELLS, DIM = 24, 16


def walk(views: int, seed: int = 0) -> torch.Tensor:
    """Descriptors of photos along a line of surface points: neighbours share most of their cells."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(CELLS + 6 * views, DIM, generator=generator)
    starts = [6 * view + int(torch.randint(0, 3, (), generator=generator)) for view in range(views)]
    return torch.stack([points[start : start + CELLS] for start in starts])


@pytest.mark.parametrize("seed", range(3))
def test_shares_are_those_of_a_loop(seed):
    descriptors = torch.randn(4, 9, 5, generator=torch.Generator().manual_seed(seed))
    expected = -np.ones((4, 4))
    for u in range(4):
        for v in range(4):
            if u == v:
                continue
            products = descriptors[u].double().numpy() @ descriptors[v].double().numpy().T
            mutual = [q for q in range(9) if products[:, products[q].argmax()].argmax() == q]
            expected[u, v] = len(mutual) / 9
    torch.testing.assert_close(mutual_shares(descriptors).double(), torch.tensor(expected))


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_the_best_partners_and_a_maximum_spanning_tree(seed):
    """Up to ties: by what the partners and the tree share in all."""
    descriptors = torch.randn(7, 40, 6, generator=torch.Generator().manual_seed(seed))
    shares = mutual_shares(descriptors).double().numpy()
    pairs = covisible_pairs(mutual_shares(descriptors))
    assert pairs == sorted(set(pairs)) and all(u < v for u, v in pairs)
    everyone = {(u, v) for u in range(7) for v in range(u + 1, 7)}
    assert spanning_weight(set(pairs), shares) == pytest.approx(spanning_weight(everyone, shares))
    for view, row in enumerate(shares):
        linked = sorted(row[u + v - view] for u, v in pairs if view in (u, v))
        assert linked[-PARTNERS:] == sorted(row)[-PARTNERS:]
    assert len(pairs) <= 7 * PARTNERS + 6


def spanning_weight(pairs: set[tuple[int, int]], shares: np.ndarray) -> float:
    """Of the best tree within the pairs; fails if they do not join all views."""
    weights = np.zeros_like(shares)
    for u, v in pairs:
        weights[u, v] = 2 - shares[u, v]
    tree = minimum_spanning_tree(weights)
    assert tree.nnz == len(shares) - 1
    return 2 * tree.nnz - tree.sum()


def test_photos_along_a_walk_hang_on_their_neighbours_in_whatever_order():
    descriptors = walk(6)
    assert {(u, u + 1) for u in range(5)} <= set(covisible_pairs(mutual_shares(descriptors)))
    assert all(v - u <= 2 for u, v in covisible_pairs(mutual_shares(descriptors)))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    known = {
        tuple(sorted((int(order[u]), int(order[v])))) for u, v in covisible_pairs(mutual_shares(descriptors[order]))
    }
    assert {(u, u + 1) for u in range(5)} <= known and all(v - u <= 2 for u, v in known)


def test_two_photos_are_one_pair_and_one_is_none():
    assert covisible_pairs(mutual_shares(walk(2))) == [(0, 1)]
    assert covisible_pairs(mutual_shares(walk(1))) == []
    assert covisible_pairs(mutual_shares(walk(3))) == [(0, 1), (0, 2), (1, 2)]


def test_the_shipped_encoder_finds_photos_that_turned_away_in_whatever_order():
    """A held-out room whose path turns by 83 degrees: the heads lose its last photos, pairs of photos find them."""
    views = to_views(generate_room(9002, 1, "test", num_views=17, size=128), list(range(1, 17, 2)))
    model = load_model("token_groups_tiny")
    true = views.cameras.cam_from_world @ invert_rigid(views.cameras.cam_from_world[0])

    def off(found: torch.Tensor) -> torch.Tensor:
        turn = found[:, :3, :3] @ true[:, :3, :3].mT
        return torch.rad2deg(((turn.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2).clamp(-1, 1).acos())

    adjust = BundleAdjustment()
    predicted = model.encode(views.images)
    assert off(predicted.geometry.cameras.cam_from_world).max() > 20
    assert off(adjust(predicted).geometry.cameras.cam_from_world).max() < 5
    order = torch.tensor([0, 5, 2, 7, 1, 6, 3, 4])
    shuffled = adjust(model.encode(views.images[order])).geometry.cameras.cam_from_world
    assert off(shuffled[order.argsort()]).max() < 5


# --- shares of what views have in common, from depth and cameras


SIZE_HW = (40, 56)  # 24 lines of pixels would be 1.7 pixels apart: they are 1 apart
FOCAL = 45.0


def frame(depth: torch.Tensor, focal: float = FOCAL) -> Frame:
    height, width = depth.shape
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Frame(torch.zeros(3, height, width), depth, intrinsics)


def pose(rotvec: list[float], translation: list[float]) -> torch.Tensor:
    return rigid(torch.tensor(Rotation.from_rotvec(rotvec).as_matrix()).float(), torch.tensor(translation))


def loop_shares(frames: list[Frame], poses: torch.Tensor) -> np.ndarray:
    """Every pixel of a sparse grid is lifted, moved, projected and compared with the depth it falls on."""
    height, width = frames[0].depth.shape
    step = max(1, min(height, width) // SAMPLES)
    seen = np.zeros((len(frames), len(frames)))
    places = [(y, x) for y in np.arange(step / 2, height, step) for x in np.arange(step / 2, width, step)]
    for u, source in enumerate(frames):
        for v, target in enumerate(frames):
            if u == v:
                continue
            relative = poses[v].double().numpy() @ np.linalg.inv(poses[u].double().numpy())
            for y, x in places:
                ray = np.linalg.inv(source.intrinsics.double().numpy()) @ [x, y, 1.0]
                point = relative @ np.append(ray * bilinear(source.depth, y, x), 1.0)
                if point[2] <= 0:
                    continue
                column, row, _ = target.intrinsics.double().numpy() @ point[:3] / point[2]
                if 0 <= column < width and 0 <= row < height:
                    there = bilinear(target.depth, row, column)
                    seen[u, v] += abs(np.log(point[2]) - np.log(there)) < DEPTH_TOLERANCE
    shares = (seen + seen.T) / 2 / len(places)
    np.fill_diagonal(shares, -1.0)
    return shares


def bilinear(depth: torch.Tensor, y: float, x: float) -> float:
    """Between pixel centres; the border's value beyond them."""
    places = [[y - 0.5], [x - 0.5]]
    return float(map_coordinates(depth.double().numpy(), places, order=1, mode="nearest")[0])


def bumpy_scene(views: int, size_hw: tuple[int, int] = SIZE_HW) -> tuple[list[Frame], torch.Tensor]:
    """Depths that agree only here and there, seen from some places."""
    generator = torch.Generator().manual_seed(views)
    smooth = torch.rand(views, 1, 5, 6, generator=generator)
    depth = 2 + functional.interpolate(smooth, size_hw, mode="bicubic", align_corners=False)[:, 0]
    motions = (0.25 * torch.randn(views, 6, generator=generator)).tolist()
    return [frame(d) for d in depth], torch.stack([pose(motion[:3], motion[3:]) for motion in motions])


@pytest.mark.parametrize(("views", "size_hw"), [(2, SIZE_HW), (4, SIZE_HW), (3, (112, 140))])
def test_overlap_shares_are_those_of_a_loop(views, size_hw):
    frames, poses = bumpy_scene(views, size_hw)
    shares, expected = overlap_shares(frames, poses), loop_shares(frames, poses)
    off_diagonal = expected[~np.eye(views, dtype=bool)]
    assert 0.05 < off_diagonal.min() and off_diagonal.max() < 0.95  # some points, not all
    # A point on an edge of the photo or of the tolerance may fall on the other side in float32: one of hundreds.
    np.testing.assert_allclose(shares.double().numpy(), expected, rtol=0, atol=2e-3)
    assert torch.equal(shares, shares.T)


def test_overlap_does_not_depend_on_world_nor_unit():
    frames, poses = bumpy_scene(3)
    shares = overlap_shares(frames, poses)
    moved = poses @ pose([0.3, -0.2, 0.5], [1.0, -2.0, 0.3])
    torch.testing.assert_close(overlap_shares(frames, moved), shares, rtol=0, atol=2e-3)
    for unit in (0.5, 20.0):
        larger = poses.clone()
        larger[:, :3, 3] *= unit
        scaled = overlap_shares([replace(f, depth=f.depth * unit) for f in frames], larger)
        torch.testing.assert_close(scaled, shares, rtol=0, atol=2e-3)


def test_the_same_camera_has_everything_in_common():
    wall = frame(torch.full(SIZE_HW, 2.0))
    shares = overlap_shares([wall, wall], torch.eye(4).repeat(2, 1, 1))
    assert shares.tolist() == [[-1, 1], [1, -1]]


@pytest.mark.parametrize(
    "away",
    [pose([0.0, math.pi, 0.0], [0.0, 0.0, 0.0]), pose([0.0, 0.0, 0.0], [9.0, 0.0, 0.0])],
    ids=["back to back", "far to the side"],
)
def test_views_that_do_not_see_each_other_share_nothing(away):
    wall = frame(torch.full(SIZE_HW, 2.0))
    shares = overlap_shares([wall, wall], torch.stack([torch.eye(4), away]))
    assert shares.tolist() == [[-1, 0], [0, -1]]


def test_what_is_hidden_is_not_shared():
    """Two cameras in one place; a board hides the right half of the wall from the second one."""
    wall, behind = torch.full(SIZE_HW, 2.0), torch.full(SIZE_HW, 2.0)
    behind[:, SIZE_HW[1] // 2 :] = 1.0
    together = torch.eye(4).repeat(2, 1, 1)
    assert overlap_shares([frame(wall), frame(behind)], together)[0, 1] == 0.5
    nearly = torch.where(behind == 1.0, 2.0 * math.exp(-0.9 * DEPTH_TOLERANCE), behind)
    assert overlap_shares([frame(wall), frame(nearly)], together)[0, 1] == 1.0  # within the tolerance


def test_a_view_that_turned_away_hangs_on_the_one_between():
    """Three views from one place, 34 degrees apart: the outer two share nothing."""
    wall = frame(torch.full(SIZE_HW, 2.0), focal=50.0)
    poses = torch.stack([pose([0.0, angle, 0.0], [0.0, 0.0, 0.0]) for angle in (0.0, 1.2, 0.6)])
    shares = overlap_shares([wall] * 3, poses)
    assert shares[0, 1] == 0 < min(shares[0, 2], shares[1, 2])
    assert {(0, 2), (1, 2)} <= set(covisible_pairs(shares))
