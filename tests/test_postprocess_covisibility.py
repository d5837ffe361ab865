"""Which photos show the same, against loops and SciPy, and what hangs on it: poses of photos in any order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree

from tokengroups.data.augment import to_views
from tokengroups.data.procedural.generate import generate_room
from tokengroups.encoders.vggt import encoder_cameras
from tokengroups.geometry import invert_rigid, relative_cameras
from tokengroups.postprocess.bundle_adjustment.covisibility import PARTNERS, covisible_pairs, mutual_shares
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
        tuple(sorted((int(order[u]), int(order[v]))))
        for u, v in covisible_pairs(mutual_shares(descriptors[order]))
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

    with torch.no_grad():
        heads = encoder_cameras(model.encoder(views.images[None]), (128, 128)).cam_from_world
    assert off(relative_cameras(heads, heads[:, 0], torch.ones(1))[0]).max() > 20
    assert off(model.encode(views.images[None]).cameras.cam_from_world[0]).max() < 5
    order = torch.tensor([0, 5, 2, 7, 1, 6, 3, 4])
    shuffled = model.encode(views.images[None, order]).cameras.cam_from_world[0]
    assert off(shuffled[order.argsort()]).max() < 5
