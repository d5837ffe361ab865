"""Targets of queries against loops over cells and pixels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tokengroups.losses.query_targets import QueryTargetConfig, instance_targets

CLASSES = {0: 2, 4: 0, 9: 1, 77: 1}  # 77 is nowhere; 6 is stuff


def some_ids(views: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    coarse = torch.tensor([-1, 0, 4, 6, 9])[torch.randint(0, 5, (views, 4, 5), generator=rng)]
    fine = coarse.repeat_interleave(5, dim=1).repeat_interleave(3, dim=2)  # 20 x 15 pixels
    fine[2][fine[2] == 9] = -1
    return fine


def shares_by_loop(ids: Tensor, instance: int, size_hw: tuple[int, int]) -> Tensor:
    """Share of the pixels of every cell, of cells that are whole numbers of pixels."""
    tall, wide = ids.shape[1] // size_hw[0], ids.shape[2] // size_hw[1]
    shares = torch.zeros(len(ids), *size_hw)
    for view in range(len(ids)):
        for row in range(size_hw[0]):
            for column in range(size_hw[1]):
                cell = ids[view, row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
                shares[view, row, column] = (cell == instance).sum() / cell.numel()
    return shares


@pytest.mark.parametrize("rule", ["mean", "majority"])
def test_masks_are_shares_of_the_cells_or_their_majority(rule) -> None:
    ids = some_ids()
    targets = instance_targets(ids, CLASSES, (10, 5), QueryTargetConfig(resizing=rule))
    assert targets.ids.tolist() == [0, 4, 9] and targets.classes.tolist() == [2, 0, 1]
    for instance, mask in zip(targets.ids.tolist(), targets.masks, strict=True):
        shares = shares_by_loop(ids, instance, (10, 5))
        assert ((shares > 0) & (shares < 1)).any() and (shares == 0.5).any()
        torch.testing.assert_close(mask, shares if rule == "mean" else (shares > 0.5).float())


@pytest.mark.parametrize("counts", ["masks", "photos"])
def test_frame_shares_are_exactly_0_where_the_instance_is_not_seen(counts) -> None:
    ids = some_ids()
    targets = instance_targets(ids, CLASSES, (10, 5), QueryTargetConfig(frame_counts=counts))
    assert targets.frame_shares[2, 2] == 0
    for row, instance in enumerate(targets.ids.tolist()):
        numbers = [(ids[view] == instance).sum().item() for view in range(3)]
        if counts == "masks":
            numbers = (shares_by_loop(ids, instance, (10, 5)) > 0.5).sum(dim=(1, 2)).tolist()
        for view in range(3):
            assert targets.frame_shares[row, view].item() == pytest.approx(numbers[view] / sum(numbers), rel=1e-6)


def test_instances_that_vanish_are_left_out() -> None:
    ids = torch.zeros(2, 8, 8, dtype=torch.int64)
    ids[0, 3, 3] = 9  # one pixel of a cell of four
    ids[1, :4, :6] = 4  # 6 cells
    assert instance_targets(ids, CLASSES, (4, 4)).ids.tolist() == [0, 4]
    assert instance_targets(ids, CLASSES, (4, 4), QueryTargetConfig(min_cells=6)).ids.tolist() == [0, 4]
    assert instance_targets(ids, CLASSES, (4, 4), QueryTargetConfig(min_cells=7)).ids.tolist() == [0]
    kept = QueryTargetConfig(resizing="mean", min_cells=1)
    assert instance_targets(ids, CLASSES, (4, 4), kept).ids.tolist() == [0, 4]  # a quarter of a cell is none


@pytest.mark.parametrize("counts", ["masks", "photos"])
def test_a_scene_without_instances_has_empty_targets(counts) -> None:
    ids = torch.full((2, 6, 8), -1)
    ids[0] = 6
    targets = instance_targets(ids, CLASSES, (3, 4), QueryTargetConfig(frame_counts=counts))
    assert targets.masks.shape == (0, 2, 3, 4) and targets.frame_shares.shape == (0, 2)
    assert len(targets.ids) == len(targets.classes) == 0
