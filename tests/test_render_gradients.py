"""Gradients beyond the golden files: gradcheck of the oracle, poses, spherical harmonics, random scenes."""

from __future__ import annotations

import pytest
import torch
from gsplat.cuda._torch_impl import _spherical_harmonics
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from render_scenes import BACKENDS, cotangents, dense_render, gradients, random_scene, relative_l2, single_camera_scene
from tolerances import RELATIVE_L2, tolerance

from tokengroups.geometry import rigid, rotation_from_quaternion
from tokengroups.render import render
from tokengroups.render.inputs import sh_colors
from tokengroups.spherical_harmonics import sh_basis
from tokengroups.types import Gaussians


def test_oracle_by_hand() -> None:
    """One splat of opacity 0.5 with its centre on a pixel's."""
    scene = single_camera_scene([(0.03125, 0.03125, 1.0)])
    image = dense_render(scene.to(torch.float64))
    assert float(image.alphas[0, 6, 8]) == pytest.approx(0.5, rel=1e-6)
    assert relative_l2(image.colors[0, 6, 8], 0.5 * scene.colors[0]) < 1e-6
    assert float(image.depths[0, 6, 8]) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", [0, 4])
def test_gradcheck_of_the_tiles(seed: int) -> None:
    scene = random_scene(seed, 4, (4, 3), cameras=1, channels=1, features=1).to(torch.float64, grad=True)
    assert dense_render(scene).margin > 1e-4  # finite differences must not cross a threshold
    leaves = scene.leaves()

    def images(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        fields = {**scene.__dict__, **dict(zip(leaves, tensors, strict=True))}
        out = type(scene)(**fields).render("torch")
        assert out.features is not None
        return out.colors, out.alphas, out.depths, out.features

    # cam_from_world's last row is constant and its gradient zero, which gradcheck sees too.
    assert torch.autograd.gradcheck(images, tuple(leaves.values()), eps=1e-6, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS[1:])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    seed=st.integers(0, 2**20),
    count=st.integers(1, 60),
    size_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.integers(0, 5),
    features=st.integers(0, 20),
)
def test_random_scenes(
    backend: str, seed: int, count: int, size_hw: tuple[int, int], channels: int, features: int
) -> None:
    """Images and all gradients, poses included, of random scenes."""
    scene = random_scene(seed, count, size_hw, channels=channels, features=features)
    truth = scene.to(torch.float64, grad=True)
    expected = dense_render(truth)
    assume(expected.margin > 1e-5)  # no pair so near a threshold that float32 may decide otherwise
    weights = cotangents(expected, seed)
    wanted = gradients(truth, expected, weights)
    scene = scene.to(torch.float32, grad=True)
    output = scene.render(backend)
    for name in weights:
        actual = getattr(output, name).double()
        torch.testing.assert_close(actual, getattr(expected, name), **tolerance("render_pixels"))
    for name, gradient in gradients(scene, output, weights).items():
        error = (gradient.double() - wanted[name]).norm()
        assert error <= RELATIVE_L2["render_gradients_random"] * wanted[name].norm() + 1e-5, name


@pytest.mark.parametrize("degree", range(4))
def test_harmonics_equal_gsplats(degree: int) -> None:
    directions = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    sh = torch.randn(50, (degree + 1) ** 2, 3, dtype=torch.float64)
    colors = torch.einsum("ns,nsd->nd", sh_basis(directions, degree), sh)
    torch.testing.assert_close(colors, _spherical_harmonics(degree, directions, sh), **tolerance("float64"))


def test_harmonics_refuse_other_numbers_of_coefficients() -> None:
    with pytest.raises(ValueError, match="1, 4, 9 or 16 coefficients, got 5"):
        sh_colors(torch.zeros(2, 5, 3), torch.zeros(2, 3), torch.eye(4)[None])


@pytest.mark.parametrize("backend", [None, *BACKENDS[1:]])
@pytest.mark.parametrize("degree", range(4))
def test_gradients_through_harmonics_and_poses(
    degree: int, backend: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of `render` against float64 PyTorch, whose own gradients are checked by finite differences."""
    if backend is not None:
        monkeypatch.setenv("TOKENGROUPS_RENDER_VARIANT", backend.partition(":")[2])

    def run(dtype: torch.dtype, name: str) -> list[torch.Tensor]:
        g = torch.Generator().manual_seed(degree)
        base = random_scene(11, 40, (12, 17))
        sh = 0.3 * torch.randn(40, (degree + 1) ** 2, 3, generator=g)
        gaussians = Gaussians(base.means, base.quats, base.scales, base.opacities, sh)
        gaussians = gaussians.map(lambda t: t.to(dtype).requires_grad_())
        twist = torch.zeros(2, 7, dtype=dtype).requires_grad_()  # quaternion's xyz and translation
        turn = rotation_from_quaternion(torch.cat([1 + twist[:, 6:], twist[:, :3]], dim=-1))
        poses = rigid(turn, twist[:, 3:6]) @ base.cam_from_world.to(dtype)
        out = render(gaussians, poses, base.intrinsics.to(dtype), (12, 17), backend=name)
        weight = torch.randn(out.colors.shape, generator=g, dtype=torch.float64)
        tensors = [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh, twist]
        return list(torch.autograd.grad((out.colors * weight).sum(), tensors))

    wanted = run(torch.float64, "torch")
    if backend is not None:
        for actual, expected in zip(run(torch.float32, "cpp"), wanted, strict=True):
            assert relative_l2(actual, expected) < RELATIVE_L2["render_gradients"]
        return
    assert all(torch.isfinite(gradient).all() for gradient in wanted)
    assert (wanted[-1][:, :6].abs() > 0).all()
