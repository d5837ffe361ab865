"""Smoothing of groups: against loops in float64, and what it is for."""

from __future__ import annotations

import math

import pytest
import torch

from tokengroups.models.smoothing import SmoothingSettings, smooth_assignment


@pytest.fixture
def anchors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Assignment, positions and colours of 20 anchors."""
    rng = torch.Generator().manual_seed(0)
    positions = torch.rand(20, 3, generator=rng) * 0.3 + torch.tensor([0.0, 0.0, 1.5])
    assignment = torch.randn(20, 4, generator=rng).softmax(dim=1)
    return assignment, positions, torch.rand(20, 3, generator=rng)


def by_loops(
    assignment: torch.Tensor, positions: torch.Tensor, colors: torch.Tensor, steps: int
) -> list[list[float]]:
    """The mean-field equations, one anchor after another."""
    settings = SmoothingSettings()
    probabilities, points, shades = assignment.tolist(), positions.tolist(), colors.tolist()
    unit = settings.distance * sum(math.dist(p, (0, 0, 0)) for p in points) / len(points)
    current = probabilities
    for _ in range(steps):
        following = []
        for i, row in enumerate(probabilities):
            weights = [
                0.0
                if i == j
                else math.exp(
                    -0.5 * (math.dist(points[i], points[j]) / unit) ** 2
                    - 0.5 * (math.dist(shades[i], shades[j]) / settings.color) ** 2
                )
                for j in range(len(points))
            ]
            factor = settings.strength / (sum(weights) + settings.solitude)
            votes = [
                factor * sum(w * other[group] for w, other in zip(weights, current, strict=True))
                for group in range(len(row))
            ]
            powers = [p * math.exp(vote) for p, vote in zip(row, votes, strict=True)]
            following.append([power / sum(powers) for power in powers])
        current = following
    return current


@pytest.mark.parametrize("steps", [1, 5])
def test_mean_field_matches_loops(anchors, steps):
    assignment, positions, colors = anchors
    smoothed = smooth_assignment(assignment, positions, colors, steps)
    expected = torch.tensor(by_loops(*(values.double() for values in anchors), steps))
    torch.testing.assert_close(smoothed, expected, rtol=1e-4, atol=1e-5)
    assert (smoothed - assignment).abs().max() > 0.02


def test_order_of_anchors_and_unit_of_length_do_not_matter(anchors):
    assignment, positions, colors = anchors
    smoothed = smooth_assignment(assignment, positions, colors, 3)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = smooth_assignment(assignment[order], 7 * positions[order], colors[order], 3)
    torch.testing.assert_close(shuffled, smoothed[order])
    groups = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        smooth_assignment(assignment[:, groups], positions, colors, 3), smoothed[:, groups]
    )


def test_a_stray_anchor_joins_its_surface_and_one_of_another_colour_does_not():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    positions = torch.stack([0.03 * x, 0.03 * y, torch.ones(5, 5)], dim=-1).view(-1, 3)
    colors = torch.full((25, 3), 0.4)
    colors[6] = torch.tensor([0.9, 0.1, 0.1])
    assignment = torch.tensor([0.9, 0.1]).repeat(25, 1)
    assignment[[6, 18]] = torch.tensor([0.3, 0.7])
    groups = smooth_assignment(assignment, positions, colors, 5).argmax(dim=1)
    assert groups.nonzero().flatten().tolist() == [6]


def test_no_steps_certainty_and_a_lone_anchor(anchors):
    assignment, positions, colors = anchors
    assert smooth_assignment(assignment, positions, colors, 0) is assignment
    certain = torch.eye(4)[torch.arange(20) % 4]
    smoothed = smooth_assignment(certain, positions, colors, 3)
    assert smoothed.isfinite().all() and torch.equal(smoothed.argmax(1), certain.argmax(1))
    alone = smooth_assignment(assignment[:1], positions[:1], colors[:1], 3)
    torch.testing.assert_close(alone, assignment[:1])
    with pytest.raises(ValueError, match="must not be negative, got -3"):
        smooth_assignment(assignment, positions, colors, -3)
