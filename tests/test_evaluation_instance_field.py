"""Mean IoU over all views and its ceiling against loops over all pairings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from tokengroups.evaluation.instance_field import joint_mean_iou, true_means_ceiling
from tokengroups.evaluation.tracking import nearest_true_means


def test_joint_mean_iou_is_the_best_of_all_pairings() -> None:
    random = torch.Generator().manual_seed(0)
    ids = torch.randint(-1, 4, (3, 6, 7), generator=random)
    labels = torch.where(torch.rand(3, 6, 7, generator=random) < 0.6, (ids + 2) % 5, 0)
    masks, truth = [labels == label for label in range(5)], [ids == instance for instance in range(4)]
    ious = np.array([[((m & t).sum() / (m | t).sum()).item() for t in truth] for m in masks])
    best = max(
        sum(ious[row, column] for column, row in enumerate(rows)) for rows in itertools.permutations(range(5), 4)
    )
    assert joint_mean_iou(labels, ids) == pytest.approx(best / 4)
    assert joint_mean_iou(ids.clamp(min=0), ids) < 1  # what is predicted on unlabelled pixels counts


def test_unmatched_small_and_missing_instances() -> None:
    ids = torch.tensor([[[0, 0, 0, 0, 3, 3, 7]]])
    one = torch.zeros_like(ids)
    assert joint_mean_iou(one, ids) == pytest.approx(4 / 7 / 3)
    assert joint_mean_iou(one, ids, min_pixels=2) == pytest.approx(4 / 7 / 2)
    assert np.isnan(joint_mean_iou(one, torch.full_like(ids, -1)))


def test_nearest_true_means_are_a_loop_over_pixels() -> None:
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(-1, 3, (2, 5, 6), generator=random) * 4  # -4 is unlabelled too
    field = torch.randn(2, 3, 5, 6, generator=random) + 2 * ids[:, None]
    unit = (field.double() / field.double().norm(dim=1, keepdim=True)).movedim(1, -1)
    means = {i: unit[ids == i].mean(dim=0) for i in (0, 4, 8)}
    found = nearest_true_means(field, ids)
    for place in np.ndindex(2, 5, 6):
        assert found[place] == min(means, key=lambda i: float((unit[place] - means[i]).norm()))
    assert true_means_ceiling(field, ids.clamp(min=-1)) == joint_mean_iou(found, ids.clamp(min=-1))
