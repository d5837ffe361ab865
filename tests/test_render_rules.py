"""The edge of every rule of rasterisation, against the dense float64 oracle: images and finite, right gradients."""

from __future__ import annotations

import pytest
import torch
from render_scenes import (
    BACKENDS,
    Scene,
    cotangents,
    dense_render,
    gradients,
    random_scene,
    single_camera_scene,
    with_fields,
)  # fmt: skip
from tolerances import RELATIVE_L2, tolerance
from torch import Tensor

pytestmark = pytest.mark.parametrize("backend", BACKENDS)
VISIBLE = {"means", "quats", "scales", "opacities", "colors", "cam_from_world"}


def check(scene: Scene, backend: str) -> dict[str, Tensor]:
    """Assert that images and gradients agree with the oracle; returns the backend's gradients."""
    truth = scene.to(torch.float64, grad=True)
    expected = dense_render(truth)
    weights = cotangents(expected)
    wanted = gradients(truth, expected, weights)
    scene = scene.to(torch.float32, grad=True)
    output = scene.render(backend)
    for name in weights:
        actual = getattr(output, name).double()
        torch.testing.assert_close(actual, getattr(expected, name), **tolerance("render_pixels"), msg=name)
    found = gradients(scene, output, weights)
    for name, gradient in found.items():
        assert torch.isfinite(gradient).all(), name
        # Rounding is relative to the largest gradient of a kind, here 1e-5 where all gradients vanish.
        error = (gradient.double() - wanted[name]).norm()
        assert error <= RELATIVE_L2["render_gradients"] * wanted[name].norm() + 1e-5, name
    return found


def test_alpha_is_clamped_and_clamped_pairs_have_no_gradient(backend: str) -> None:
    scene = single_camera_scene([(0.03125, 0.03125, 1.0), (0.0, 0.0, 2.0)], opacity=1.0)
    found = check(scene, backend)
    lone = with_fields(scene, **{n: getattr(scene, n)[:1] for n in VISIBLE - {"cam_from_world"}})
    lone = with_fields(lone, scales=torch.full((1, 3), 100.0))  # alpha > 0.999 everywhere
    output = lone.to(torch.float32, grad=True)
    image = output.render(backend)
    torch.testing.assert_close(image.alphas, torch.full_like(image.alphas, 0.999))
    assert gradients(output, image, {"alphas": torch.ones(1, 12, 16)})["opacities"].abs().max() == 0
    assert found["opacities"].abs().max() > 0


@pytest.mark.parametrize("factor", [1 - 1e-4, 1 + 1e-4])
def test_threshold_of_one_in_255(factor: float, backend: str) -> None:
    scene = single_camera_scene([(0.03125, 0.03125, 1.0)], opacity=factor / 255, scale=0.2)
    check(scene, backend)
    count = int((scene.render(backend).alphas > 0).sum())
    assert count == (1 if factor > 1 else 0)


def test_pair_that_would_cross_the_limit_is_left_out_for_good(backend: str) -> None:
    """After T = 4e-4 an opaque splat is left out; so is the faint one behind it, though it alone would fit."""
    means = [(0.0, 0.0, 1.0 + 0.1 * i) for i in range(5)]
    scene = single_camera_scene(means, scale=100.0)
    scene = with_fields(scene, opacities=torch.tensor([0.98, 0.98, 0.98, 0.1, 0.9]))
    check(scene, backend)
    torch.testing.assert_close(scene.render(backend).alphas, torch.full((1, 12, 16), 1 - 0.02**2))


@pytest.mark.parametrize("z", [0.00999, 0.01001, 0.0, -1.0])
def test_near_plane_and_behind(z: float, backend: str) -> None:
    scene = single_camera_scene([(0.0, 0.0, z), (0.1, 0.0, 3.0)], scale=0.01)
    found = check(scene, backend)
    assert (found["means"][0].abs().max() > 0) == (z > 0.01)


def test_frustum_clamp_of_the_jacobian(backend: str) -> None:
    """Wide Gaussians beside the image: their x / z and y / z leave the limits in all four directions."""
    sides = [(3.0, 0.1, 1.5), (-3.0, 0.0, 1.4), (0.1, 2.5, 1.3), (0.0, -2.5, 1.2), (3.0, 3.0, 1.6), (0.2, 0.1, 1.1)]
    check(single_camera_scene(sides, scale=1.2), backend)


def test_zero_and_tiny_opacity(backend: str) -> None:
    scene = single_camera_scene([(0.0, 0.0, 1.0), (0.1, 0.0, 1.5), (0.0, 0.1, 2.0)])
    found = check(with_fields(scene, opacities=torch.tensor([0.0, 1e-8, 0.7])), backend)
    assert found["opacities"][:2].abs().max() == 0


@pytest.mark.parametrize("scale", [(0.0, 0.0, 0.0), (0.3, 0.0, 0.0), (0.3, 0.3, 0.0), (1e-9, 0.3, 1e-9)])
def test_degenerate_scales(scale: tuple[float, ...], backend: str) -> None:
    scene = single_camera_scene([(0.05, 0.02, 1.0), (0.1, -0.1, 1.3)])
    check(with_fields(scene, scales=torch.tensor([scale, scale])), backend)


def test_needle_across_the_image_from_far_outside(backend: str) -> None:
    """A needle thousands of pixels long: its conic has entries that cancel to a millionth."""
    scene = single_camera_scene([(40.0, 40.0, 2.0)], opacity=0.9)
    turn = torch.tensor([[0.92387953, 0.0, 0.0, 0.38268343]])  # by 45 degrees about z
    scene = with_fields(scene, quats=turn, scales=torch.tensor([[60.0, 0.05, 0.05]]))
    expected = dense_render(scene.to(torch.float64))
    assert expected.alphas.max() > 0.5
    torch.testing.assert_close(scene.render(backend).alphas.double(), expected.alphas, rtol=0, atol=2e-3)


def test_zero_quaternion_means_no_rotation(backend: str) -> None:
    scene = single_camera_scene([(0.0, 0.0, 1.0)])
    scene = with_fields(scene, scales=torch.tensor([[0.3, 0.1, 0.2]]))
    identity = with_fields(scene, quats=torch.tensor([[1.0, 0, 0, 0]])).render(backend)
    zero = with_fields(scene, quats=torch.zeros(1, 4)).to(torch.float32, grad=True)
    output = zero.render(backend)
    torch.testing.assert_close(output.colors, identity.colors, **tolerance("float32"))
    assert torch.isfinite(gradients(zero, output, cotangents(output))["quats"]).all()


def test_equal_depths_keep_the_order_of_the_gaussians(backend: str) -> None:
    scene = single_camera_scene([(0.0, 0.0, 1.0)] * 3, scale=100.0)
    expected = dense_render(scene.to(torch.float64))
    torch.testing.assert_close(scene.render(backend).colors.double(), expected.colors, **tolerance("render_pixels"))


def test_huge_and_distant_gaussians_stay_finite(backend: str) -> None:
    scene = single_camera_scene([(0.0, 0.0, 1.0), (1e6, 0.0, 2.0), (0.0, 1e10, 3.0), (0.0, 0.0, 1e9), (0.1, 0.1, 0.02)])
    scene = with_fields(scene, scales=torch.tensor([[1e4] * 3, [1e6, 1, 1], [1e12] * 3, [1e10] * 3, [5.0, 1e-3, 1]]))
    scene = scene.to(torch.float32, grad=True)
    output = scene.render(backend)
    found = gradients(scene, output, cotangents(output))
    for name, tensor in {"colors": output.colors, "depths": output.depths, **found}.items():
        assert torch.isfinite(tensor).all(), name


@pytest.mark.parametrize("count", [0, 1, 15, 17, 33])
@pytest.mark.parametrize("size_hw", [(1, 1), (3, 21), (18, 5)])
def test_counts_and_sizes_that_are_no_multiple_of_anything(
    count: int, size_hw: tuple[int, int], backend: str
) -> None:  # fmt: skip
    check(random_scene(count + 7, count, size_hw, cameras=3, channels=3, features=5), backend)


def test_more_gaussians_on_a_pixel_than_a_chunk_holds(backend: str) -> None:
    scene = random_scene(3, 700, (7, 9), cameras=1)
    check(with_fields(scene, opacities=scene.opacities * 0.03), backend)


@pytest.mark.parametrize(("channels", "features"), [(0, 0), (1, 0), (2, 3), (4, 0), (20, 0), (3, 108), (19, 17)])
def test_any_number_of_channels(channels: int, features: int, backend: str) -> None:
    check(random_scene(5, 60, (13, 18), channels=channels, features=features), backend)


def test_colours_per_camera(backend: str) -> None:
    for channels in (3, 6):
        scene = random_scene(6, 40, (13, 18), channels=channels)
        check(with_fields(scene, colors=torch.randn(2, 40, channels)), backend)


def test_anchor_features_equal_colours_of_the_anchors(backend: str) -> None:
    scene = random_scene(8, 50, (20, 20), features=11)
    assert scene.anchor_features is not None and scene.anchor_ids is not None
    spread = with_fields(scene, colors=scene.anchor_features[scene.anchor_ids]).render(backend).colors
    features = scene.render(backend).features
    assert features is not None
    torch.testing.assert_close(features, spread, **tolerance("render_pixels"))
