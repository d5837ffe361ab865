"""Losses of an instance field against loops in float64, and what they teach."""

from __future__ import annotations

import itertools
from statistics import fmean

import pytest
import torch
from torch.nn import functional

from tokengroups.losses.instance_field import InstanceFieldLossConfig, instance_field_loss, prototype_loss

CONFIG = InstanceFieldLossConfig(min_cells=3, classification=0.7)


def room(seed: int, views: int = 3, side: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(views, 4, side, side, generator=generator, dtype=torch.float64)
    ids = torch.randint(-1, 4, (views, side, side), generator=generator) * 7  # -7 is negative, too: unlabelled
    ids[0][ids[0] == 14] = 0
    return field, ids


def by_loops(field: torch.Tensor, ids: torch.Tensor, config: InstanceFieldLossConfig) -> dict[str, float]:
    unit = field / field.norm(dim=1, keepdim=True)
    means: dict[tuple[int, int], torch.Tensor] = {}
    pull: dict[int, list[float]] = {}
    for view, own in enumerate(ids):
        for instance in own[own >= 0].unique().tolist():
            pixels = unit[view][:, own == instance].T
            if len(pixels) < config.min_cells:
                continue
            means[view, instance] = pixels.mean(0)
            radii = [max(float((p - pixels.mean(0)).norm()) - config.pull_margin, 0) for p in pixels]
            pull.setdefault(view, []).append(fmean(radii))
    push: dict[int, list[float]] = {}
    across, cross = [], {}
    for ((view, instance), mean), ((other_view, other), other_mean) in itertools.combinations(means.items(), 2):
        distance = float((mean - other_mean).norm())
        if view == other_view:
            push.setdefault(view, []).append(max(config.push_margin - distance, 0))
        elif instance == other:
            cross.setdefault(instance, []).append(max(distance - config.cross_view_margin, 0))
        else:
            across.append(max(config.push_margin - distance, 0))
    prototypes = {
        i: functional.normalize(torch.stack([m for (_, j), m in means.items() if i == j]).mean(0), dim=0)
        for i in sorted({i for _, i in means})
    }
    entropies = []
    for view, instance in means:
        logits = unit[view][:, ids[view] == instance].T @ torch.stack(list(prototypes.values())).T / config.temperature
        target = torch.full((len(logits),), list(prototypes).index(instance))
        entropies.append(float(functional.cross_entropy(logits, target)))
    return {
        "pull": fmean(fmean(values) for values in pull.values()),
        "push": 0.5 * (fmean(fmean(values) for values in push.values()) + fmean(across)),
        "cross_view": fmean(fmean(values) for values in cross.values()),
        "classification": fmean(entropies),
    }


def test_terms_equal_loops_and_scenes_are_averaged() -> None:
    rooms = [room(1), room(2)]
    losses = instance_field_loss(torch.stack([f for f, _ in rooms]), torch.stack([i for _, i in rooms]), CONFIG)
    expected = [by_loops(field, ids, CONFIG) for field, ids in rooms]
    weights = {"pull": 2.0, "push": 1.0, "cross_view": 2.0, "classification": 0.7}
    for name, value in losses.terms.items():
        assert float(value) == pytest.approx(fmean(each[name] for each in expected), rel=1e-5), name
    total = sum(weights[name] * float(value) for name, value in losses.terms.items())
    assert float(losses.total) == pytest.approx(total, rel=1e-6)


def test_pairs_equal_loops() -> None:
    """With enough samples every labelled pixel is taken; all pairs of one instance, in one view or two, are pulled."""
    field, ids = room(3)
    config = InstanceFieldLossConfig(form="pairs", min_cells=1, samples=10_000)
    terms = instance_field_loss(field[None], ids[None], config).terms
    unit = (field / field.norm(dim=1, keepdim=True)).permute(0, 2, 3, 1)[ids >= 0]
    owner = ids[ids >= 0].tolist()
    same, other = [], []
    for i, j in itertools.combinations(range(len(owner)), 2):
        distance = float((unit[i] - unit[j]).norm())
        same.append(distance) if owner[i] == owner[j] else other.append(max(1 - distance, 0))
    assert float(terms["pull"]) == pytest.approx(fmean(same), rel=1e-5)
    assert float(terms["push"]) == pytest.approx(fmean(other), rel=1e-5)
    assert set(terms) == {"pull", "push"}


@pytest.mark.parametrize("form", ["means", "pairs"])
def test_nothing_labelled_is_a_zero_on_the_graph(form: str) -> None:
    field = torch.randn(1, 2, 4, 6, 6, requires_grad=True)
    for ids in (torch.full((1, 2, 6, 6), -1), torch.arange(72).reshape(1, 2, 6, 6)):
        config = InstanceFieldLossConfig(form=form, min_cells=2, classification=1.0)
        loss = instance_field_loss(field, ids, config).total
        loss.backward()
        assert float(loss.detach()) == 0 and field.grad is not None and not bool(field.grad.any())


@pytest.mark.parametrize("form", ["means", "pairs"])
def test_learning_separates_instances_that_views_share(form: str) -> None:
    ids = torch.arange(3).repeat_interleave(12).reshape(1, 1, 6, 6).expand(1, 2, 6, 6)
    field = torch.randn(1, 2, 4, 6, 6).requires_grad_()
    optimiser = torch.optim.Adam([field], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        instance_field_loss(field, ids, InstanceFieldLossConfig(form=form, min_cells=1)).total.backward()
        optimiser.step()
    unit = functional.normalize(field.detach()[0], dim=1).permute(0, 2, 3, 1)
    means = torch.stack([unit[ids[0] == i].mean(0) for i in range(3)])
    spread = max(float((unit[ids[0] == i] - means[i]).norm(dim=-1).mean()) for i in range(3))
    assert float(torch.pdist(means).min()) > 0.75 and spread < 0.35


@pytest.mark.parametrize(
    "wrong",
    [{"pull": -1}, {"push": float("nan")}, {"push_margin": 3}, {"temperature": 0}, {"min_cells": 0}, {"samples": 1}],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must be"):
        InstanceFieldLossConfig(**wrong)


def test_prototypes_of_all_scenes_compete() -> None:
    """The loss of a batch is that of one scene which has all its views and, in each scene, instances of its own."""
    fields, labels = zip(*(room(seed) for seed in (1, 2)), strict=True)
    apart = [torch.where(ids < 0, ids, ids + 100 * index) for index, ids in enumerate(labels)]
    expected = by_loops(torch.cat(fields), torch.cat(apart), CONFIG)["classification"]
    found = prototype_loss(torch.stack(fields), torch.stack(labels), CONFIG.temperature, CONFIG.min_cells)
    assert found.item() == pytest.approx(expected, rel=1e-9)
    alone = by_loops(*room(1), CONFIG)["classification"]
    assert expected > alone  # more to choose from
    empty = prototype_loss(torch.stack(fields).requires_grad_(), torch.full((2, 3, 6, 6), -1), 0.1, 3)
    assert empty == 0 and empty.requires_grad
