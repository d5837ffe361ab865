"""Pairs of boxes from a sweep, against all pairs."""

from __future__ import annotations

import itertools

import pytest
import torch
from blocks import Block

from tokengroups.scene import pairs as module
from tokengroups.scene.layout import relations
from tokengroups.scene.pairs import Boxes, diameter, exchanged, measure_pairs, stack_boxes

REACH = 0.5


def random_blocks(seed: int, count: int = 40) -> list[Block]:
    """Blocks of all sizes and yaws, every fourth one with a small one on it, and a floor under half of them."""
    torch.manual_seed(seed)
    blocks = [Block((0.0, 1.01, 3.0), (4.0, 3.0, 0.02))]
    while len(blocks) < count:
        x, y, z = (torch.rand(3) * torch.tensor([6.0, 1.5, 5.0]) - torch.tensor([3.0, 0.5, -0.5])).tolist()
        sides, yaw = (0.05 + torch.rand(3) ** 3).tolist(), 360 * float(torch.rand(()))
        blocks.append(Block((x, y, z), tuple(sides), yaw))
        if len(blocks) % 4 == 0:
            small = tuple(side / 2 for side in sides)
            blocks.append(Block((x, y - sides[2] / 2 - small[2] / 2, z), small, yaw + 20))
    return blocks


def boxes_of(blocks: list[Block]) -> Boxes:
    return stack_boxes([block.box() for block in blocks])


def all_pairs(boxes: Boxes, reach: float, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # noqa: ARG001
    first, second = torch.triu_indices(len(boxes.sizes), len(boxes.sizes), 1)
    return first, second


def distance_of_footprints(a: Block, b: Block, points: int = 41) -> float:
    """From points of one footprint's border to the other's, both ways."""
    ticks = torch.linspace(-0.5, 0.5, points).double()
    grid = torch.cartesian_prod(ticks, ticks)
    found = []
    for one, other in ((a, b), (b, a)):
        on = one.box().centre + (grid * one.box().size[:2]) @ one.axes()[:2]
        local = (on - other.box().centre) @ other.axes()[:2].T
        found.append(float((local.abs() - other.box().size[:2] / 2).clamp(min=0).norm(dim=1).min()))
    return min(found)


@pytest.mark.parametrize("seed", range(5))
def test_all_near_pairs_are_found_once_each_way(seed: int) -> None:
    blocks = random_blocks(seed)
    pairs = measure_pairs(boxes_of(blocks), REACH)
    found = list(zip(pairs.group.tolist(), pairs.other.tolist(), strict=True))
    assert len(set(found)) == len(found) < len(blocks) * (len(blocks) - 1)
    near = 0
    for a, b in itertools.permutations(range(len(blocks)), 2):
        if distance_of_footprints(blocks[a], blocks[b]) <= REACH * max(*blocks[a].size[:2], *blocks[b].size[:2]):
            assert (a, b) in found
            near += 1
    assert near > 40
    assert list(zip(exchanged(pairs.group).tolist(), exchanged(pairs.other).tolist(), strict=True)) == [
        (b, a) for a, b in found
    ]


@pytest.mark.parametrize("seed", range(20))
def test_relations_are_those_of_all_pairs(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [block.box() for block in random_blocks(seed, 80)]
    found = relations(boxes, range(len(boxes)))
    monkeypatch.setattr(module, "_near_pairs", all_pairs)
    assert relations(boxes, range(len(boxes))) == found
    assert {"on", "next to"} <= {relation.kind for relation in found}


def test_measures_of_a_pair() -> None:
    """A lamp half beside a desk, and a box half a metre from it."""
    blocks = [Block((0, 0.5, 3), (2, 1, 1)), Block((1, -0.2, 3), (0.5, 0.5, 0.4)), Block((2.25, 0.5, 3), (1, 1, 1))]
    pairs = measure_pairs(boxes_of(blocks), REACH)
    on_desk = (pairs.group == 1) & (pairs.other == 0)
    to_box = (pairs.group == 2) & (pairs.other == 1)
    assert float(pairs.footprint_share[on_desk]) == pytest.approx(6 / 11)  # columns of a grid of 11
    assert float(pairs.gap[on_desk]) == 0 and float(pairs.rise[on_desk]) == pytest.approx(0)
    assert float(pairs.gap[to_box]) == pytest.approx(0.5) and float(pairs.footprint_share[to_box]) == 0
    assert float(pairs.height_overlap[to_box]) == pytest.approx(0) and float(pairs.rise[to_box]) == pytest.approx(-1.4)
    assert pairs.sizes[to_box].tolist() == [[1, 1, 1]] and pairs.other_sizes[to_box].tolist() == [[0.5, 0.5, 0.4]]


@pytest.mark.parametrize("towards", [(1, 0), (0, 1)])
def test_a_row_is_not_compared_all_with_all(towards: tuple[int, int]) -> None:
    """Along either horizontal direction."""
    across, along = towards
    blocks = [Block((across * 3.0 * i, 0.5, along * 3.0 * i), (1, 1, 1)) for i in range(300)]
    assert len(measure_pairs(boxes_of(blocks), REACH).group) == 0
    near = [Block((across * 1.5 * i, 0.5, along * 1.5 * i), (1, 1, 1)) for i in range(300)]
    assert len(measure_pairs(boxes_of(near), REACH).group) == 2 * 299


def test_a_single_box_has_no_pairs() -> None:
    assert len(measure_pairs(boxes_of([Block((0, 0, 3), (1, 1, 1))]), REACH).gap) == 0


@pytest.mark.parametrize("shape", ["cloud", "ball", "line", "pair", "point", "far outlier"])
def test_diameter(shape: str) -> None:
    torch.manual_seed(0)
    points = torch.randn(700, 3).double()
    points = {
        "cloud": points,
        "ball": torch.nn.functional.normalize(points, dim=1),
        "line": points * torch.tensor([1.0, 0, 0]),
        "pair": points[:2],
        "point": points[:1].expand(5, 3),
        "far outlier": torch.cat([points, torch.tensor([[50.0, 3, 2]]).double()]),
    }[shape]
    expected = max(float((points - point).norm(dim=1).max()) for point in points)
    assert float(diameter(points)) == pytest.approx(expected, rel=1e-6, abs=1e-6)
