"""Cell-matching targets and loss against loops in float64, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.tolerances import tolerance
from tests.walls import HEIGHT, WIDTH, look_at_wall, with_holes
from tokengroups.losses.cell_matching import (
    CellTargets,
    cell_targets,
    match_logits,
    matching_accuracy,
    matching_cells_loss,
)


def loop_cell_targets(views, side):
    batch, num_views, height, width = views.depth.shape
    found = {}
    for b in range(batch):
        poses = views.cameras.cam_from_world[b].double().numpy()
        matrices = views.cameras.intrinsics[b].double().numpy()
        for v in range(1, num_views):
            for cell in range(height // side * (width // side)):
                i, j = ((cell // (width // side)) * side + side // 2, (cell % (width // side)) * side + side // 2)
                z = views.depth[b, v, i, j].item()
                if z <= 0:
                    continue
                point = np.append(np.linalg.inv(matrices[v]) @ np.array([j + 0.5, i + 0.5, 1.0]) * z, 1.0)
                x, y, depth = matrices[0] @ (poses[0] @ np.linalg.inv(poses[v]) @ point)[:3]
                column, row = math.floor(x / depth), math.floor(y / depth)
                if depth > 0 and 0 <= column < width and 0 <= row < height:
                    seen = views.depth[b, 0, row, column].item()
                    if seen > 0 and abs(seen - depth) < 0.05 * depth:
                        found[b, v, cell] = (row // side) * (width // side) + column // side
    return found


def test_cell_targets_match_a_loop_over_cells():
    views = with_holes(look_at_wall(noise=0.1))
    targets = cell_targets(views, HEIGHT * WIDTH // 16)
    expected = loop_cell_targets(views, 4)
    assert 20 < len(expected) < targets.visible[:, 1:].numel()  # some, not all
    assert {tuple(index) for index in targets.visible.nonzero().tolist()} == expected.keys()
    assert {index: targets.cells[index].item() for index in expected} == expected


def test_the_same_camera_sees_every_cell_where_it_is():
    views = look_at_wall()
    views.cameras.cam_from_world[:] = views.cameras.cam_from_world[:, :1].clone()
    views.depth[:] = views.depth[:, :1].clone()
    targets = cell_targets(views, 96)
    assert targets.visible[:, 1:].all() and not targets.visible[:, 0].any()
    assert (targets.cells[:, 1:] == torch.arange(96)).all()


def test_what_something_nearer_hides_in_view_0_is_not_visible():
    views = look_at_wall()
    views.depth[:, 0] = 0.5
    assert not cell_targets(views, 96).visible.any()


def test_cells_must_tile_the_image():
    with pytest.raises(ValueError, match="50 square cells"):
        cell_targets(look_at_wall(), 50)


def test_matching_loss_is_the_mean_cross_entropy_of_visible_cells():
    logits = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    targets = CellTargets(torch.randint(6, (2, 3, 6)), torch.rand(2, 3, 6) < 0.5)
    targets.visible[:, 0] = False
    expected, right = [], []
    for index in targets.visible.nonzero().tolist():
        row, cell = logits[tuple(index)], targets.cells[tuple(index)]
        expected.append((row.exp().sum().log() - row[cell]).item())
        right.append(int(row.argmax() == cell))
    loss = matching_cells_loss(logits.float(), targets)
    assert loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert matching_accuracy(logits.float(), targets).item() == pytest.approx(sum(right) / len(right))


def test_matching_loss_is_zero_when_nothing_is_visible():
    logits = torch.randn(1, 1, 6, 6, requires_grad=True)  # a single view has nobody to match with
    targets = CellTargets(torch.zeros(1, 1, 6, dtype=torch.int64), torch.zeros(1, 1, 6, dtype=torch.bool))
    loss = matching_cells_loss(logits, targets)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_match_logits_are_products_with_view_0_in_float32():
    descriptors = torch.randn(2, 3, 6, 4)
    with torch.autocast("cpu", torch.bfloat16):
        logits = match_logits(descriptors)
    assert logits.dtype == torch.float32
    expected = torch.einsum("bvqd,brd->bvqr", descriptors.double(), descriptors[:, 0].double())
    torch.testing.assert_close(logits.double(), expected, **tolerance("float32"))
