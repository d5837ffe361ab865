"""Gaussian mathematics: activations, covariance, and SH rotation against its definition and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y
from tolerances import tolerance

from tokengroups.gaussians import (
    color_from_sh,
    concatenate,
    covariances,
    footprints,
    log_from_scale,
    logit_from_opacity,
    opacity_from_logit,
    scale_from_log,
    select,
    transform,
)
from tokengroups.spherical_harmonics import SH_C0, rotate_sh, sh_basis, wigner_matrix
from tokengroups.types import Gaussians


def random_gaussians(n: int, degree: int = 3) -> Gaussians:
    rng = torch.Generator().manual_seed(n)
    return Gaussians(
        means=torch.randn(n, 3, generator=rng, dtype=torch.float64),
        quats=torch.randn(n, 4, generator=rng, dtype=torch.float64),
        scales=torch.rand(n, 3, generator=rng, dtype=torch.float64) + 0.1,
        opacities=torch.rand(n, generator=rng, dtype=torch.float64),
        sh=torch.randn(n, (degree + 1) ** 2, 3, generator=rng, dtype=torch.float64),
    )


def random_rotation(seed: int) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(random_state=seed).as_matrix())


def random_directions(n: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(n, 3, dtype=torch.float64), dim=1)


def test_activations_and_inverses_are_pairs() -> None:
    logits = torch.linspace(-80, 15, 400, dtype=torch.float64)
    torch.testing.assert_close(logit_from_opacity(opacity_from_logit(logits)), logits, rtol=1e-9, atol=1e-9)
    logs = torch.linspace(-100, 80, 400, dtype=torch.float64)
    torch.testing.assert_close(log_from_scale(scale_from_log(logs)), logs, **tolerance("float64"))
    colors = torch.rand(20, 3, dtype=torch.float64)
    constant = ((colors - 0.5) / SH_C0)[:, None]
    torch.testing.assert_close(color_from_sh(constant), colors, **tolerance("float64"))


def test_ends_of_the_range_are_finite_and_exact_in_float32() -> None:
    ends = torch.tensor([0.0, 1.0])
    assert logit_from_opacity(ends).isfinite().all() and torch.equal(opacity_from_logit(logit_from_opacity(ends)), ends)
    zero = torch.tensor([0.0])
    assert log_from_scale(zero).isfinite().all() and torch.equal(scale_from_log(log_from_scale(zero)), zero)


def test_sh_basis_is_scipys_real_spherical_harmonics() -> None:
    """Real SH from complex ones, Condon-Shortley phase kept: sqrt(2) Im for m < 0, sqrt(2) Re for m > 0."""
    directions = random_directions(30)
    x, y, z = directions.numpy().T
    theta, phi = np.arccos(z), np.arctan2(y, x)
    columns = []
    for degree in range(4):
        for order in range(-degree, degree + 1):
            value = sph_harm_y(degree, abs(order), theta, phi)
            part = value.imag if order < 0 else value.real
            columns.append(part * (1 if order == 0 else math.sqrt(2)))
    expected = torch.from_numpy(np.stack(columns, axis=1))
    torch.testing.assert_close(sh_basis(directions, 3), expected, **tolerance("float64"))


def test_gsplat_evaluates_the_same_basis() -> None:
    reference = pytest.importorskip("gsplat.cuda._torch_impl")
    directions = random_directions(30)
    torch.testing.assert_close(
        sh_basis(directions, 3), reference._eval_sh_bases_fast(16, directions), **tolerance("float64")
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_rotated_sh_is_the_colour_function_turned(degree: int) -> None:
    """f'(d) = f(R^T d) for all directions d."""
    rotation, directions = random_rotation(1), random_directions(40)
    sh = torch.randn(5, (degree + 1) ** 2, 3, dtype=torch.float64)
    turned = torch.einsum("ds,nsc->ndc", sh_basis(directions, degree), rotate_sh(sh, rotation))
    expected = torch.einsum("ds,nsc->ndc", sh_basis(directions @ rotation, degree), sh)
    torch.testing.assert_close(turned, expected, **tolerance("float64"))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_wigner_matrices_are_an_orthogonal_representation(degree: int) -> None:
    a, b = random_rotation(2), random_rotation(3)
    product = wigner_matrix(a, degree) @ wigner_matrix(b, degree)
    torch.testing.assert_close(wigner_matrix(a @ b, degree), product, **tolerance("float64"))
    identity = torch.eye(2 * degree + 1, dtype=torch.float64)
    torch.testing.assert_close(product @ product.T, identity, **tolerance("float64"))


def test_covariance_turns_and_scales_with_the_transform() -> None:
    gaussians, rotation = random_gaussians(6), random_rotation(4)
    shift = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    moved = transform(gaussians, shift, rotation, 1.7)
    expected = 1.7**2 * rotation @ covariances(gaussians) @ rotation.T
    torch.testing.assert_close(covariances(moved), expected, **tolerance("float64"))
    torch.testing.assert_close(moved.means, 1.7 * gaussians.means @ rotation.T + shift, **tolerance("float64"))
    assert torch.equal(moved.opacities, gaussians.opacities)


def test_covariance_is_that_of_samples() -> None:
    """Scipy's rotation as oracle for quaternion order wxyz."""
    gaussians = random_gaussians(4)
    turns = Rotation.from_quat(gaussians.quats.numpy()[:, [1, 2, 3, 0]]).as_matrix()
    expected = turns @ (gaussians.scales.numpy()[:, :, None] ** 2 * np.eye(3)) @ turns.transpose(0, 2, 1)
    torch.testing.assert_close(covariances(gaussians), torch.from_numpy(expected), **tolerance("float64"))


def test_transform_and_back_is_the_identity() -> None:
    gaussians, rotation = random_gaussians(6), random_rotation(5)
    shift = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    back = transform(transform(gaussians, shift, rotation, 2.0), -rotation.T @ shift / 2, rotation.T, 0.5)
    for name in ("means", "scales", "sh"):
        torch.testing.assert_close(getattr(back, name), getattr(gaussians, name), **tolerance("float64"))
    torch.testing.assert_close(covariances(back), covariances(gaussians), **tolerance("float64"))


def test_shift_alone_touches_only_means() -> None:
    gaussians = random_gaussians(6)
    moved = transform(gaussians, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    assert torch.equal(moved.quats, gaussians.quats) and torch.equal(moved.sh, gaussians.sh)


def test_footprints_are_opacities_times_the_largest_cross_sections() -> None:
    gaussians = random_gaussians(5)
    for found, opacity, scales in zip(
        footprints(gaussians).tolist(), gaussians.opacities.tolist(), gaussians.scales.tolist(), strict=True
    ):
        _, middle, largest = sorted(scales)
        assert found == pytest.approx(opacity * middle * largest)


def test_concatenate_fills_up_lower_degrees_and_select_undoes_it() -> None:
    low, high = random_gaussians(3, degree=0), random_gaussians(4, degree=2)
    both = concatenate([low, high])
    assert both.sh.shape == (7, 9, 3)
    assert torch.equal(both.sh[:3, :1], low.sh) and bool((both.sh[:3, 1:] == 0).all())
    again = select(both, torch.arange(7) >= 3)
    assert torch.equal(again.means, high.means) and torch.equal(again.sh, high.sh)
