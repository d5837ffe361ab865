"""The gsplat backend against our own: all of it on a GPU, elsewhere the code around a replaced call of gsplat."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from render_scenes import Scene, cotangents, gradients, load_golden, random_scene, relative_l2, with_fields
from tolerances import RELATIVE_L2, tolerance
from torch import Tensor

from tokengroups.io.ply import load_ply
from tokengroups.render import rasterize
from tokengroups.render.gsplat_backend import gsplat_missing


def _on(scene: Scene, device: str) -> Scene:
    values = {name: v.to(device) if isinstance(v, Tensor) else v for name, v in scene.__dict__.items()}
    return Scene(**values)


def _compare(scene: Scene, allowed: str = "render_gradients_flip") -> None:
    """Images and gradients of gsplat equal those of float64 PyTorch, up to pairs that flip at a threshold."""
    truth = scene.to(torch.float64, grad=True)
    expected = truth.render("torch")
    weights = cotangents(expected)
    wanted = gradients(truth, expected, weights)
    scene = _on(scene, "cuda").to(torch.float32, grad=True)
    output = scene.render("gsplat")
    for name in weights:
        actual = getattr(output, name).double().cpu()
        error = (actual - getattr(expected, name)).abs()
        assert error.quantile(0.999) < 1e-4, name
    found = gradients(scene, output, {name: weight.cuda() for name, weight in weights.items()})
    for name, gradient in found.items():
        assert relative_l2(gradient.cpu(), wanted[name]) < RELATIVE_L2[allowed], name


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["raster_a", "raster_b"])
def test_golden(name: str, data_dir: Path) -> None:
    scene, data = load_golden(data_dir / f"{name}.safetensors")
    scene = _on(scene, "cuda").to(torch.float32, grad=True)
    output = scene.render("gsplat")
    torch.testing.assert_close(output.colors.double().cpu(), data["render"], **tolerance("render_pixels_flip"))
    weights = {"colors": data["cotangent_render"].cuda(), "alphas": data["cotangent_alpha"][..., 0].cuda()}
    found = gradients(scene, output, weights)
    for leaf in ("means", "quats", "scales", "opacities", "colors"):
        assert relative_l2(found[leaf].cpu(), data[f"grad.{leaf}"]) < RELATIVE_L2["render_gradients_flip"], leaf


@pytest.mark.gpu
@pytest.mark.parametrize(("channels", "features"), [(3, 0), (1, 5), (20, 0), (3, 108)])
def test_channels_and_anchor_features(channels: int, features: int) -> None:
    _compare(random_scene(5, 300, (45, 70), channels=channels, features=features))


@pytest.mark.gpu
def test_colours_per_camera() -> None:
    scene = random_scene(6, 200, (30, 40), features=4)
    _compare(with_fields(scene, colors=torch.randn(2, 200, 3)))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["S", "M", "L"])
def test_benchmark_scenes(name: str, data_dir: Path) -> None:
    scene, _ = load_golden(data_dir / f"raster_bench_{name}.safetensors")
    truth = scene.to(torch.float32, grad=True)
    expected = truth.render("cpp")
    weights = {name: w.float() for name, w in cotangents(expected).items()}
    wanted = gradients(truth, expected, weights)
    scene = _on(scene, "cuda").to(torch.float32, grad=True)
    output = scene.render("gsplat")
    assert (output.colors.cpu() - expected.colors).abs().quantile(0.999) < 1e-4
    for leaf, gradient in gradients(scene, output, {n: w.cuda() for n, w in weights.items()}).items():
        assert relative_l2(gradient.cpu(), wanted[leaf]) < RELATIVE_L2["render_gradients_flip"], leaf


@pytest.mark.gpu
def test_real_splats(data_dir: Path) -> None:
    """Three groups of a scene that a published model predicted."""
    parts = [load_ply(data_dir / "instok3d" / f"tok_{i:02d}.ply") for i in (8, 11, 13)]
    fields = ("means", "quats", "scales", "opacities")
    tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in fields}
    intrinsics = torch.tensor([[[200.0, 0, 80], [0, 200.0, 60], [0, 0, 1]]])
    colors = 0.5 + 0.282 * torch.cat([part.sh[:, 0] for part in parts])
    _compare(
        Scene(**tensors, colors=colors, cam_from_world=torch.eye(4)[None], intrinsics=intrinsics, size_hw=(120, 160)),
        allowed="render_gradients_fast_math",
    )


@pytest.mark.gpu
def test_batches_and_nothing() -> None:
    scene = _on(random_scene(1, 40, (16, 20), cameras=3), "cuda")
    names = ("means", "quats", "scales", "opacities", "colors", "cam_from_world", "intrinsics")
    batch = [torch.stack([getattr(scene, name)] * 2) for name in names]
    out = rasterize(*batch, (16, 20), backend="gsplat")
    torch.testing.assert_close(out.colors[1], scene.render("gsplat").colors)
    assert _on(random_scene(1, 0, (16, 20)), "cuda").render("gsplat").alphas.max() == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="the real backend is tested")
def test_what_is_missing_is_said() -> None:
    assert gsplat_missing() == "torch sees no CUDA device"


@pytest.mark.parametrize("colors_per_camera", [False, True])
def test_call_of_gsplat_fits_its_signature(colors_per_camera: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of `gsplat.rasterization` and use of its results, without a GPU."""
    import inspect

    import gsplat

    from tokengroups.render.gsplat_backend import rasterize_gsplat
    from tokengroups.render.inputs import RasterInputs

    signature = inspect.signature(gsplat.rasterization)
    seen = SimpleNamespace()

    def answer(*args: Tensor, **options: object) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        call = signature.bind(*args, **options)
        seen.arguments = call.arguments
        batch = call.arguments["viewmats"].shape[:-2]
        shape = (*batch, call.arguments["height"], call.arguments["width"])
        channels = call.arguments["colors"].shape[-1] + 1
        image = torch.arange(channels, dtype=torch.float32).expand(*shape, channels)
        return image, torch.ones(*shape, 1), {}

    monkeypatch.setattr(gsplat, "rasterization", answer)
    scene = random_scene(0, 12, (5, 7), cameras=2, channels=3, features=4)
    colors = torch.randn(2, 12, 3) if colors_per_camera else scene.colors
    assert scene.anchor_features is not None
    inputs = RasterInputs(
        scene.means[None], scene.quats[None], scene.scales[None], scene.opacities[None], colors[None],
        scene.cam_from_world[None], scene.intrinsics[None], (5, 7), anchor_ids=scene.anchor_ids,
        anchor_features=scene.anchor_features[None],
    )  # fmt: skip
    images = rasterize_gsplat(inputs)
    assert seen.arguments["colors"].shape == ((1, 2, 12, 7) if colors_per_camera else (1, 12, 7))
    assert seen.arguments["render_mode"] == "RGB+ED"
    assert images.colors.shape == (1, 2, 5, 7, 3) and images.alphas.shape == (1, 2, 5, 7)
    assert images.features is not None
    assert images.features[0, 0, 0, 0].tolist() == [3, 4, 5, 6] and images.depths[0, 0, 0, 0] == 7
