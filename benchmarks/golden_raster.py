"""Golden files of the renderer: Gaussians, cameras and cotangents, with float64 images and gradients of a reference.

A file holds gsplat's parameters ``means quats scales opacities colors``, the cameras ``viewmats Ks`` and ``size_wh``,
the images ``render`` and ``alpha``, their cotangents ``cotangent_render`` and ``cotangent_alpha``, and ``grad.NAME``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields

import torch
from golden_file import Comparison, Golden, compare_tensors
from torch import Tensor

from tokengroups.errors import UserError
from tokengroups.render import RenderOutput, available_backends, rasterize
from tokengroups.render.library import LibraryMissing, supported_variants

INPUTS = {
    "means": "means", "quats": "quats", "scales": "scales", "opacities": "opacities", "colors": "colors",
    "cam_from_world": "viewmats", "intrinsics": "Ks",
}  # fmt: skip
VARIANT = "TOKENGROUPS_RENDER_VARIANT"
FLOAT64 = "torch float64"
# Relative L2. In float32 a pair of Gaussian and pixel may fall on the other side of a threshold (alpha = 1/255), which
# changes images and gradients by some 1e-4; in float64 only rounding is left.
GATES = {"float32": 1e-4, "gsplat": 1e-3, FLOAT64: 1e-10}


def cpu_backends() -> list[str]:
    """Backends that work on this machine's CPU, with every variant of the C++ kernels that it executes."""
    try:
        return ["torch", *(f"cpp:{name}" for name in supported_variants())]
    except LibraryMissing:
        return ["torch"]


@dataclass(frozen=True)
class Scene:
    """Differentiable inputs of `rasterize` for one scene, and the rest of the call."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor
    cam_from_world: Tensor
    intrinsics: Tensor
    size_hw: tuple[int, int]
    anchor_ids: Tensor | None = None
    anchor_features: Tensor | None = None

    def to(self, dtype: torch.dtype, grad: bool = False, device: str | None = None) -> Scene:
        """Fresh leaves in this dtype; other tensors keep theirs."""

        def leaf(name: str) -> Tensor | tuple[int, int] | None:
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                return value
            if not value.is_floating_point():
                return value.to(device)
            return value.detach().to(device, dtype).clone().requires_grad_(grad and name != "intrinsics")

        return Scene(**{field.name: leaf(field.name) for field in fields(self)})  # pyright: ignore

    def leaves(self) -> dict[str, Tensor]:
        """The inputs that have gradients."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: v for name, v in values.items() if isinstance(v, Tensor) and v.requires_grad}

    def render(self, backend: str, **options: Tensor) -> RenderOutput:
        """Call `rasterize`; "cpp:avx2" names a variant of the C++ kernels."""
        name, _, variant = backend.partition(":")
        with _kernel_variant(variant):
            return rasterize(
                self.means, self.quats, self.scales, self.opacities, self.colors, self.cam_from_world,
                self.intrinsics, self.size_hw, anchor_ids=self.anchor_ids, anchor_features=self.anchor_features,
                backend=name, **options,  # pyright: ignore
            )  # fmt: skip


def golden_scene(golden: Golden) -> Scene:
    """The inputs of a golden file.

    Raises:
        UserError: The file is of another kind.
    """
    missing = {*INPUTS.values(), "size_wh"} - set(golden.tensors)
    if missing:
        raise UserError(f"{golden.path}: no golden file of the renderer, it lacks {', '.join(sorted(missing))}")
    width, height = golden.tensors["size_wh"].tolist()
    return Scene(**{ours: golden.tensors[theirs] for ours, theirs in INPUTS.items()}, size_hw=(height, width))


def gradients(scene: Scene, output: RenderOutput, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the weighted sum of the images, by name of the input."""
    total = sum((getattr(output, name) * weight).sum() for name, weight in weights.items())
    leaves = scene.leaves()
    assert isinstance(total, Tensor)
    return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))


def compare_raster(golden: Golden) -> list[Comparison]:
    """Render a file's scene with every backend that works here and compare images and gradients.

    Raises:
        UserError: The file is of another kind, or holds no images to compare with.
    """
    scene = golden_scene(golden)
    if "render" not in golden.tensors:
        raise UserError(f"{golden.path}: it holds a scene but no images to compare with")
    rows = [*_compare(golden, scene.to(torch.float64, grad=True), "torch", FLOAT64, GATES[FLOAT64])]
    for backend in cpu_backends():
        rows += _compare(golden, scene.to(torch.float32, grad=True), backend, backend, GATES["float32"])
    if available_backends()["gsplat"] is None:
        on_gpu = scene.to(torch.float32, grad=True, device="cuda")
        rows += _compare(golden, on_gpu, "gsplat", "gsplat", GATES["gsplat"])
    return rows


def _compare(golden: Golden, scene: Scene, backend: str, label: str, gate: float) -> Iterator[Comparison]:
    stored = golden.tensors
    output = scene.render(backend)
    images = {"render": output.colors, "alpha": output.alphas[..., None]}
    for name, image in images.items():
        if name in stored:
            yield compare_tensors(f"{label}: {name}", image.detach().cpu(), stored[name], gate)
    weights = {
        name: stored[f"cotangent_{key}"].reshape(getattr(output, name).shape).to(scene.means)
        for name, key in (("colors", "render"), ("alphas", "alpha"))
        if f"cotangent_{key}" in stored
    }
    if not weights:
        return
    for leaf, gradient in gradients(scene, output, weights).items():
        name = f"grad.{INPUTS[leaf]}"
        if name in stored:
            yield compare_tensors(f"{label}: {name}", gradient.cpu(), stored[name], gate)


@contextmanager
def _kernel_variant(name: str) -> Iterator[None]:
    """Make the C++ kernels of this instruction set render; "" = the best ones."""
    before = os.environ.get(VARIANT)
    if name:
        os.environ[VARIANT] = name
    try:
        yield
    finally:
        if name and before is None:
            del os.environ[VARIANT]
        elif name and before is not None:
            os.environ[VARIANT] = before
