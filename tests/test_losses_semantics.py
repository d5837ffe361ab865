"""Distillation losses against the features written out, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from tokengroups.losses.semantics import (
    calibration_loss,
    combination_cosines,
    group_distillation_loss,
    mask_means,
    pixel_distillation_loss,
    plurality,
)


@pytest.fixture
def parts() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    shares = torch.rand(50, 6, generator=generator).softmax(-1)
    residual = torch.randn(50, 3, generator=generator)
    return {
        "shares": shares,
        "residual": residual,
        "embeddings": torch.randn(6, 20, generator=generator),
        "projection": torch.randn(20, 3, generator=generator),
        "targets": torch.randn(7, 20, generator=generator),
        "index": torch.randint(0, 7, (50,), generator=generator),
    }


def full_features(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    """F(u) = sum_l S_l(u) s_l + W_r R(u), pixel by pixel."""
    rows = []
    for share, residual in zip(parts["shares"].double(), parts["residual"].double(), strict=True):
        feature = parts["projection"].double() @ residual
        for weight, embedding in zip(share, parts["embeddings"].double(), strict=True):
            feature = feature + weight * embedding
        rows.append(feature)
    return torch.stack(rows)


def test_cosines_are_those_of_the_full_features(parts):
    coefficients = torch.cat([parts["shares"], parts["residual"]], dim=1)
    basis = torch.cat([parts["embeddings"], parts["projection"].T])
    wanted = parts["targets"][parts["index"]]
    expected = functional.cosine_similarity(full_features(parts), wanted.double(), dim=-1).float()
    by_table = combination_cosines(coefficients, basis, parts["targets"], parts["index"])
    torch.testing.assert_close(by_table, expected, rtol=1e-4, atol=1e-5)
    unknown = parts["index"].clone()
    unknown[::3] = -1
    loss = pixel_distillation_loss(coefficients, basis, parts["targets"], unknown)
    torch.testing.assert_close(loss, 1 - expected[unknown >= 0].mean(), rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_the_full_features(parts):
    leaves = [parts[name].double().requires_grad_() for name in ("shares", "residual", "embeddings", "projection")]
    shares, residual, embeddings, projection = leaves

    def direct() -> torch.Tensor:
        features = shares @ embeddings + residual @ projection.T
        return (1 - functional.cosine_similarity(features, parts["targets"].double()[parts["index"]], dim=-1)).mean()

    expected = torch.autograd.grad(direct(), leaves)
    coefficients, basis = torch.cat([shares, residual], dim=1), torch.cat([embeddings, projection.T])
    loss = pixel_distillation_loss(coefficients, basis, parts["targets"], parts["index"])
    for got, want in zip(torch.autograd.grad(loss, leaves), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-6)


def test_empty_pixels_and_unknown_targets_do_no_harm(parts):
    coefficients = torch.zeros(4, 9, requires_grad=True)
    basis = torch.cat([parts["embeddings"], parts["projection"].T]).requires_grad_()
    loss = pixel_distillation_loss(coefficients, basis, parts["targets"], torch.tensor([0, 1, -1, 2]))
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(1.0))
    assert torch.isfinite(coefficients.grad).all() and torch.isfinite(basis.grad).all()
    assert pixel_distillation_loss(coefficients, basis, parts["targets"], torch.full((4,), -1)) == 0


def test_groups_are_pulled_to_the_mean_over_their_masks(parts):
    features = parts["targets"][parts["index"]]
    ids = torch.arange(50) % 5 - 1
    means = mask_means(features, ids, torch.tensor([0, 3, 77]))
    unit = functional.normalize(features, dim=-1)
    torch.testing.assert_close(means[1], unit[ids == 3].mean(dim=0))
    assert (means[2] == 0).all()
    embeddings = parts["embeddings"][:2]
    expected = 1 - torch.stack(
        [functional.cosine_similarity(e, m, dim=0) for e, m in zip(embeddings, means, strict=False)]
    )
    torch.testing.assert_close(group_distillation_loss(embeddings, means[:2]), expected.mean())
    assert group_distillation_loss(embeddings[:0], means[:0]) == 0


def test_calibration_ends_where_the_logistic_regression_does():
    """Gradient descent on the loss finds the curve that made the data."""
    generator = torch.Generator().manual_seed(0)
    cosines = torch.rand(60, 400, generator=generator)
    matches = torch.rand(60, 400, generator=generator) < torch.sigmoid(9 * (cosines - 0.55))
    calibration = torch.tensor([4.0, 0.3], requires_grad=True)
    optimizer = torch.optim.LBFGS([calibration], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = calibration_loss(cosines, matches, calibration)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert calibration.tolist() == pytest.approx([9.0, 0.55], rel=0.05)
    assert calibration_loss(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.bool), calibration) == 0


def test_plurality_is_the_most_frequent_known_class():
    groups = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    classes = torch.tensor([2, 2, 1, 0, -1, -1, -1, -1])
    assert plurality(groups, classes, 4, 3).tolist() == [2, 0, -1, -1]
