"""Local terms of dense losses against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tokengroups.losses.local_terms import gradient_loss, normal_loss


def loop_gradient(predicted, target, valid):
    number, height, width, channels = predicted.shape
    total = 0.0
    for step in (1, 2, 4, 8):
        differences, count = 0.0, 0
        for n in range(number):
            for i in range(0, height, step):
                for j in range(0, width, step):
                    if not valid[n, i, j]:
                        continue
                    count += channels
                    for neighbour in ((i, j + step), (i + step, j)):
                        if neighbour[0] < height and neighbour[1] < width and valid[n][neighbour]:
                            here = predicted[n, i, j] - target[n, i, j]
                            there = predicted[n][neighbour] - target[n][neighbour]
                            differences += (there - here).abs().clamp(max=100).sum().item()
        total += differences / max(count, 1)
    return total / 4


def random_maps(channels, number=2, height=11, width=14):
    predicted = torch.randn(number, height, width, channels, dtype=torch.float64)
    target = torch.randn(number, height, width, channels, dtype=torch.float64)
    return predicted, target, torch.rand(number, height, width) < 0.8


def test_gradient_loss_matches_a_loop_over_pixels():
    maps = random_maps(2)
    assert gradient_loss(*maps).item() == pytest.approx(loop_gradient(*maps), rel=1e-9)


def loop_normals(predicted, target, valid):
    total = 0.0
    for step in (1, 2, 4):
        p, t, m = (x[:, ::step, ::step] for x in (predicted, target, valid))
        errors = []
        for n in range(p.shape[0]):
            for i in range(1, p.shape[1] - 1):
                for j in range(1, p.shape[2] - 1):
                    ring = [(i - 1, j), (i, j - 1), (i + 1, j), (i, j + 1)]
                    for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
                        if m[n, i, j] and m[n][a] and m[n][b]:
                            normals = [
                                np.cross((x[n][a] - x[n, i, j]).numpy(), (x[n][b] - x[n, i, j]).numpy()) for x in (p, t)
                            ]
                            lengths = [np.linalg.norm(normal) for normal in normals]
                            errors.append(1 - float(normals[0] @ normals[1]) / (lengths[0] * lengths[1]))
        if len(errors) >= 10:
            total += sum(errors) / len(errors)
    return total / 3


def test_normal_loss_matches_a_loop_over_pixels():
    maps = random_maps(3)
    assert normal_loss(*maps).item() == pytest.approx(loop_normals(*maps), rel=1e-6)


def test_normal_loss_ignores_scale_and_shift():
    predicted, _, valid = random_maps(3)
    assert normal_loss(predicted, predicted * 3 + 1, valid).item() == pytest.approx(0, abs=1e-7)
