"""Every CPU backend, and every variant of the C++ kernels that this machine executes, against the golden numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from render_scenes import BACKENDS, gradients, load_golden, relative_l2
from tolerances import RELATIVE_L2, tolerance


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["raster_a", "raster_b"])
def test_golden_images_and_gradients(name: str, backend: str, data_dir: Path) -> None:
    scene, data = load_golden(data_dir / f"{name}.safetensors")
    scene = scene.to(torch.float32, grad=True)
    output = scene.render(backend)
    torch.testing.assert_close(output.colors.double(), data["render"], **tolerance("render_pixels"))
    torch.testing.assert_close(output.alphas.double(), data["alpha"][..., 0], **tolerance("render_pixels"))
    weights = {"colors": data["cotangent_render"], "alphas": data["cotangent_alpha"][..., 0]}
    for leaf, gradient in gradients(scene, output, weights).items():
        if leaf != "cam_from_world":
            assert relative_l2(gradient, data[f"grad.{leaf}"]) < RELATIVE_L2["render_gradients"], leaf


def test_float64_tiles_equal_golden_to_rounding(data_dir: Path) -> None:
    """The PyTorch backend is an oracle: in float64 it reproduces the golden numbers, not only approximates them."""
    scene, data = load_golden(data_dir / "raster_a.safetensors")
    scene = scene.to(torch.float64, grad=True)
    output = scene.render("torch")
    torch.testing.assert_close(output.colors, data["render"], **tolerance("float64"))
    weights = {"colors": data["cotangent_render"].double(), "alphas": data["cotangent_alpha"][..., 0].double()}
    found = gradients(scene, output, weights)
    for leaf in ("means", "quats", "scales", "opacities", "colors"):
        assert relative_l2(found[leaf], data[f"grad.{leaf}"]) < 1e-10, leaf
