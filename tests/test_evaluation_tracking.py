"""Tracking scores against loops over all assignments."""

from __future__ import annotations

import itertools
from statistics import fmean

import pytest
import torch

from tokengroups.evaluation.tracking import nearest_true_means, track_scores


def by_hand(predicted: torch.Tensor, true: torch.Tensor) -> dict[str, float]:
    """The best one-to-one assignment, by trying all of them."""
    objects = [i for i in true.unique().tolist() if i >= 0 and int((true == i).sum()) >= 200]
    groups = [g for g in predicted.unique().tolist() if g >= 0] + [-99] * len(objects)

    def joint(g: int, o: int) -> float:
        return float(((predicted == g) & (true == o)).sum() / ((predicted == g) | (true == o)).sum())

    best = max(
        itertools.permutations(groups, len(objects)),
        key=lambda chosen: sum(joint(g, o) for g, o in zip(chosen, objects, strict=True)),
    )
    visible, everywhere, success = [], [], []
    for g, o in zip(best, objects, strict=True):
        views = list(zip(predicted == g, true == o, strict=True))
        ious = [float((p & t).sum() / (p | t).sum()) if bool((p | t).any()) else 1.0 for p, t in views]
        visible.append(fmean(iou for iou, (_, t) in zip(ious, views, strict=True) if bool(t.any())))
        everywhere.append(fmean(ious))
        success.append(float(all(bool(p.any()) for p, t in views if bool(t.any()))))
    return {"t_miou": fmean(visible), "t_miou_all_views": fmean(everywhere), "t_sr": fmean(success)}


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_the_best_assignment(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(0, 4, (3, 4, 4), generator=generator).repeat_interleave(8, 1).repeat_interleave(8, 2) - 1
    true[1][true[1] == 2] = 0  # absent from a view
    noise = torch.rand(true.shape, generator=generator) < 0.3
    shuffled = torch.randint(-1, 4, true.shape, generator=generator)
    predicted = torch.where(noise, shuffled, (true + 1) % 3 - 1)
    predicted[2][predicted[2] == 1] = -1
    found = track_scores(predicted, true).summary()
    assert found == pytest.approx(by_hand(predicted, true), abs=1e-6)


def test_perfect_labels_score_one_whatever_their_names() -> None:
    true = torch.arange(4).reshape(1, 2, 2).repeat_interleave(16, 1).repeat_interleave(16, 2).repeat(2, 1, 1)
    assert track_scores(50 - true, true).summary() == {"t_miou": 1.0, "t_miou_all_views": 1.0, "t_sr": 1.0}


def test_small_and_missing_instances() -> None:
    true = torch.full((1, 30, 30), -1)
    true[0, :5, :5] = 3  # 25 pixels: left out
    assert all(value != value for value in track_scores(torch.zeros_like(true), true).summary().values())
    true[0, 10:] = 4
    nothing = torch.full_like(true, -1)
    assert track_scores(nothing, true).summary() == {"t_miou": 0.0, "t_miou_all_views": 0.0, "t_sr": 0.0}


def test_nearest_true_means_is_the_ceiling_of_a_clean_field() -> None:
    true = torch.randint(0, 3, (2, 16, 16))
    field = torch.eye(3)[true].permute(0, 3, 1, 2) + 0.05 * torch.randn(2, 3, 16, 16)
    unlabelled = true.clone()
    unlabelled[0, :4] = -1
    assert torch.equal(nearest_true_means(5 * field, unlabelled), true)
