"""The boundary CRF: against loops in float64, and on objects with known boundaries."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tokengroups.encoders.base import PAIR_AFFINITY, PAIR_OFFSETS, Geometry
from tokengroups.geometry import world_points
from tokengroups.postprocess.boundary_crf import DISTANCE_OFFSET, MAX_LOGIT, BoundaryCRF, mean_field
from tokengroups.types import Cameras

CELLS = 10  # more than the longest reach
GROUPS = 3


def flat_scene(height: int, width: int, couplings: torch.Tensor) -> Geometry:
    """A plane 2 m in front of cameras side by side, 3 pixels of the square photo a cell."""
    num_views = len(couplings)
    depth = torch.full((num_views, height, width), 2.0)
    poses = torch.eye(4).repeat(num_views, 1, 1)
    poses[:, 0, 3] = 3.0 * torch.arange(num_views)  # far enough apart to share nothing
    intrinsics = torch.tensor([[40.0, 0, width / 2], [0, 40.0, height / 2], [0, 0, 1]]).expand(num_views, 3, 3)
    points = world_points(depth, poses, intrinsics)
    cameras = Cameras(poses, intrinsics, (height, width))
    return Geometry(torch.zeros(num_views, 1, 1, 1), points, depth, depth, cameras, {PAIR_AFFINITY: couplings})


def uneven(geometry: Geometry, generator: torch.Generator) -> Geometry:
    """The scene with other depths at every pixel, so that no two neighbours are equally near."""
    depth = geometry.depth * (1 + 0.1 * torch.rand(geometry.depth.shape, generator=generator))
    cameras = geometry.cameras
    return replace(geometry, depth=depth, points=world_points(depth, cameras.cam_from_world, cameras.intrinsics))


def middles(num_views: int, top: int = 0, left: int = 0) -> torch.Tensor:
    """An anchor in the middle of every cell."""
    at = 3 * torch.arange(CELLS) + 1
    return torch.stack(torch.meshgrid(torch.arange(num_views), top + at, left + at, indexing="ij"), -1).flatten(0, 2)


def two_objects(column: int, certainty: float = 4.0) -> torch.Tensor:
    """Couplings of one photo with a border in front of a column."""
    couplings = torch.full((1, len(PAIR_OFFSETS), CELLS, CELLS), certainty)
    for index, (_, right) in enumerate(PAIR_OFFSETS):
        if right:
            couplings[0, index, :, max(column - right, 0) : column] = -certainty
    return couplings


def mean_field_by_loops(own: torch.Tensor, couplings: torch.Tensor, steps: int) -> torch.Tensor:
    """The equations, one cell after another."""
    num_groups, num_views = own.shape[:2]
    belief = own.softmax(dim=0)
    for _ in range(steps):
        following = torch.zeros_like(belief)
        for view in range(num_views):
            for row in range(CELLS):
                for column in range(CELLS):
                    logits = own[:, view, row, column].tolist()
                    for index, (down, right) in enumerate(PAIR_OFFSETS):
                        for sign in (1, -1):
                            r, c = row + sign * down, column + sign * right
                            if not (0 <= r < CELLS and 0 <= c < CELLS):
                                continue
                            first = (row, column) if sign == 1 else (r, c)
                            pull = float(couplings[view, index, first[0], first[1]])
                            for group in range(num_groups):
                                logits[group] += pull * float(belief[group, view, r, c])
                    powers = [math.exp(value) for value in logits]
                    for group in range(num_groups):
                        following[group, view, row, column] = powers[group] / sum(powers)
        belief = following
    return belief


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_mean_field_matches_loops(steps):
    generator = torch.Generator().manual_seed(0)
    own = torch.randn(GROUPS, 2, CELLS, CELLS, generator=generator).log_softmax(dim=0)
    couplings = 0.3 * torch.randn(2, len(PAIR_OFFSETS), CELLS, CELLS, generator=generator)
    expected = mean_field_by_loops(own.double(), couplings.double(), steps)
    torch.testing.assert_close(mean_field(own, couplings, steps), expected.float(), rtol=1e-4, atol=1e-5)


def test_rounds_match_loops():
    """Few anchors at odd pixels: nearest neighbours by comparing all, then `mean_field`, then back."""
    settings = BoundaryCRF(iterations=2, neighbours=4)
    generator = torch.Generator().manual_seed(1)
    couplings = 6 * torch.randn(2, len(PAIR_OFFSETS), CELLS, CELLS, generator=generator)
    geometry = flat_scene(30, 30, couplings)
    pixels = torch.cat([torch.randint(2, (25, 1)), torch.randint(30, (25, 2), generator=generator)], dim=1)
    start = torch.randn(25, GROUPS, generator=generator).softmax(dim=-1)
    cells, side = middles(2), 2.0 / 40 * 3
    place = [geometry.points[v, r, c].double().tolist() for v, r, c in pixels.tolist()]
    cell_place = [geometry.points[v, r, c].double().tolist() for v, r, c in cells.tolist()]

    def mean(values: torch.Tensor, here: list[float], others: list[list[float]]) -> torch.Tensor:
        ranked = sorted((math.dist(here, other) / side, i) for i, other in enumerate(others))[:4]
        weights = [1 / (distance + DISTANCE_OFFSET) for distance, _ in ranked]
        total = sum(w * values[i] for w, (_, i) in zip(weights, ranked, strict=True))
        assert isinstance(total, torch.Tensor)
        return total / sum(weights)

    current = start.double()
    pull = settings.pair_weight * couplings.double().clamp(-MAX_LOGIT, MAX_LOGIT)
    for _ in range(2):
        heard = torch.stack([mean(current, here, place) for here in cell_place])
        own = heard.clamp_min(1e-6).log().T.reshape(GROUPS, 2, CELLS, CELLS)
        belief = mean_field_by_loops(own, pull, settings.mean_field_steps)
        current = torch.stack([mean(belief.flatten(1).T, here, cell_place) for here in place])
    result = settings.refine(start, pixels, geometry)
    torch.testing.assert_close(result, current.float(), rtol=1e-3, atol=1e-4)
    assert (result - start).abs().max() > 0.1


def test_a_border_stops_a_group_and_certainty_fills_it():
    """The decoder's border is two cells off and some anchors stray; the photo's wins."""
    pixels = middles(1)
    column = (pixels[:, 2] - 1) // 3
    start = torch.where((column < 3)[:, None], torch.tensor([0.7, 0.3, 0.0]), torch.tensor([0.3, 0.7, 0.0]))
    start[[11, 57]] = start[[11, 57]].flip(-1).roll(1, dims=-1)
    geometry = flat_scene(30, 30, two_objects(5))
    groups = BoundaryCRF(iterations=4).refine(start, pixels, geometry).argmax(dim=-1)
    assert torch.equal(groups, (column >= 5).long())


def test_order_of_anchors_names_of_groups_and_the_unit_of_length_do_not_matter():
    generator = torch.Generator().manual_seed(2)
    couplings = 3 * torch.randn(2, len(PAIR_OFFSETS), CELLS, CELLS, generator=generator)
    geometry, pixels = uneven(flat_scene(30, 30, couplings), generator), middles(2)[::3]
    start = torch.randn(len(pixels), GROUPS, generator=generator).softmax(dim=-1)
    result = BoundaryCRF(iterations=2).refine(start, pixels, geometry)
    torch.testing.assert_close(result.sum(dim=-1), torch.ones(len(pixels)))
    anchors, groups = torch.randperm(len(pixels), generator=generator), torch.tensor([2, 0, 1])
    again = BoundaryCRF(iterations=2).refine(start[anchors][:, groups], pixels[anchors], geometry)
    torch.testing.assert_close(again, result[anchors][:, groups])
    large = replace(geometry, points=7 * geometry.points, depth=7 * geometry.depth)
    torch.testing.assert_close(BoundaryCRF(iterations=2).refine(start, pixels, large), result, rtol=1e-3, atol=1e-4)


def test_anchors_outside_the_square_keep_their_groups():
    geometry = flat_scene(30, 50, two_objects(5))
    inside = middles(1, left=10)
    outside = torch.tensor([[0, 4, 2], [0, 15, 9], [0, 20, 40], [0, 29, 49]])
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(len(inside) + 4, GROUPS, generator=generator).softmax(dim=-1)
    pixels = torch.cat([inside, outside])
    result = BoundaryCRF(iterations=3).refine(start, pixels, geometry)
    torch.testing.assert_close(result[-4:], start[-4:])
    assert (result[:-4] - start[:-4]).abs().max() > 0.2
    assert torch.equal(BoundaryCRF(iterations=3).refine(start[-4:], outside, geometry), start[-4:])


def test_no_rounds_one_anchor_and_groups_without_anchors():
    geometry, pixels = flat_scene(30, 30, two_objects(5)), middles(1)
    start = torch.tensor([0.6, 0.4, 0.0]).repeat(len(pixels), 1)
    assert BoundaryCRF(iterations=0).refine(start, pixels, geometry) is start
    torch.testing.assert_close(BoundaryCRF(iterations=2).refine(start[:1], pixels[:1], geometry), torch.eye(3)[:1])
    assert BoundaryCRF(iterations=2).refine(start, pixels, geometry)[:, 1:].abs().max() == 0
    with pytest.raises(ValueError, match="iterations must be a whole number from 0 to 100, got -1"):
        BoundaryCRF(iterations=-1).refine(start, pixels, geometry)
