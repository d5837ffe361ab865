"""Rendering functions and the choice of a backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.render.gsplat_backend import gsplat_missing, rasterize_gsplat
from tokengroups.render.inputs import RasterImages, RasterInputs, check_anchors, check_finite, check_shapes
from tokengroups.render.library import native_missing
from tokengroups.render.native import rasterize_native
from tokengroups.render.tiles import rasterize_tiles
from tokengroups.types import Gaussians, TensorFields

Backend = Literal["auto", "gsplat", "cpp", "torch"]
_BACKENDS = {"gsplat": rasterize_gsplat, "cpp": rasterize_native, "torch": rasterize_tiles}
Rasterizer = Callable[[RasterInputs], RasterImages]
_VALUES_AT_ONCE = 2**26  # of features, per pixel or per Gaussian, where a backend needs them for their argmax
_FAST = {"gsplat": ("cuda", gsplat_missing), "cpp": ("cpu", native_missing)}  # float32 only


@dataclass(frozen=True)
class RenderOutput(TensorFields):
    """Rendered images of C cameras."""

    colors: Float[Tensor, "*b C H W D"]
    alphas: Float[Tensor, "*b C H W"]
    depths: Float[Tensor, "*b C H W"]  # expected z; 0 where alpha is 0
    features: Float[Tensor, "*b C H W F"] | None  # alpha-composited anchor features
    argmax: Int64[Tensor, "*b C H W"] | None = None  # their largest channel, the first of equals


def render(
    gaussians: Gaussians,
    cam_from_world: Float[Tensor, "*b C 4 4"],
    intrinsics: Float[Tensor, "*b C 3 3"],
    size_hw: tuple[int, int],
    *,
    background: Float[Tensor, " 3"] | None = None,
    anchor_ids: Int64[Tensor, " N"] | None = None,
    anchor_features: Float[Tensor, "*b K F"] | None = None,
    argmax: bool = False,
    backend: Backend = "auto",
) -> RenderOutput:
    """Render Gaussians with gsplat's semantics (`gsplat.rasterization`, render mode RGB+ED).

    Gradients flow to every field of the Gaussians, to `anchor_features`, `background` and `cam_from_world`,
    not to `intrinsics`.

    Args:
        gaussians: Batch axes *b; colour = max(0.5 + SH, 0), seen from each camera.
        cam_from_world: Camera poses, OpenCV axes.
        intrinsics: In pixels; only focal lengths and centre are read.
        size_hw: Height and width in pixels.
        background: Colour behind the Gaussians; black if None.
        anchor_ids: Anchor of each Gaussian, in [0, K), the same for all scenes of the batch.
        anchor_features: Values per anchor (group probabilities, residual features), composited like colours.
        argmax: Return the channel of the largest feature at each pixel in place of the features, in memory that does
            not depend on their number; without gradients.
        backend: "auto" takes gsplat for CUDA tensors, and for CPU tensors the C++ kernels if they are
            there and the dtype is not float64, else PyTorch.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, an input holds NaN or infinity, or the backend
            cannot be used here (the message says what is missing).

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.render import render
        >>> scene = tg.example_scene()
        >>> cameras = scene.cameras
        >>> out = render(scene.gaussians, cameras.cam_from_world, cameras.intrinsics, cameras.size_hw,
        ...              anchor_ids=scene.anchor_ids, anchor_features=scene.assignment)
        >>> out.colors.shape, out.features.shape  # views, height, width, channels
        (torch.Size([2, 48, 64, 3]), torch.Size([2, 48, 64, 3]))
        >>> f"{out.depths[0, 36, 43]:.1f}"  # z of the ball
        '2.5'
    """
    tensors = {**vars(gaussians), "cam_from_world": cam_from_world, "intrinsics": intrinsics}
    if not argmax:
        return _run(tensors, size_hw, background, anchor_ids, anchor_features, backend)
    with torch.no_grad():
        return _run(tensors, size_hw, background, anchor_ids, anchor_features, backend, argmax=True)


def rasterize(
    means: Float[Tensor, "*b N 3"],
    quats: Float[Tensor, "*b N 4"],
    scales: Float[Tensor, "*b N 3"],
    opacities: Float[Tensor, "*b N"],
    colors: Tensor,
    cam_from_world: Float[Tensor, "*b C 4 4"],
    intrinsics: Float[Tensor, "*b C 3 3"],
    size_hw: tuple[int, int],
    *,
    background: Float[Tensor, " D"] | None = None,
    anchor_ids: Int64[Tensor, " N"] | None = None,
    anchor_features: Float[Tensor, "*b K F"] | None = None,
    backend: Backend = "auto",
) -> RenderOutput:
    """Render Gaussians with colours in place of harmonics: [*b, N, D] or, for each camera, [*b, C, N, D]; see `render`.

    Example:
        >>> import tokengroups as tg
        >>> from tokengroups.render import rasterize
        >>> scene = tg.example_scene()
        >>> g, cameras = scene.gaussians, scene.cameras
        >>> heights = g.means[:, 1:2]  # one channel, composited like a colour
        >>> rasterize(g.means, g.quats, g.scales, g.opacities, heights, cameras.cam_from_world, cameras.intrinsics,
        ...           cameras.size_hw).colors.shape
        torch.Size([2, 48, 64, 1])
    """
    tensors = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors,
        "cam_from_world": cam_from_world, "intrinsics": intrinsics,
    }  # fmt: skip
    return _run(tensors, size_hw, background, anchor_ids, anchor_features, backend)


def _run(
    tensors: dict[str, Tensor],
    size_hw: tuple[int, int],
    background: Tensor | None,
    anchor_ids: Tensor | None,
    anchor_features: Tensor | None,
    backend: str,
    argmax: bool = False,
) -> RenderOutput:
    means = tensors["means"]
    batch = means.shape[:-2]
    check_shapes(tensors, batch, size_hw)
    check_anchors(anchor_ids, anchor_features, batch, means.shape[-2])
    if argmax and (anchor_features is None or not anchor_features.shape[-1]):
        raise ValueError("argmax needs anchor_features of at least one channel")
    if anchor_features is not None:
        tensors["anchor_features"] = anchor_features
    flat = {name: t.flatten(0, len(batch) - 1) if batch else t[None] for name, t in tensors.items()}
    chosen = _choose(backend, means)
    if chosen != "cpp":  # whose kernels check for themselves
        check_finite(flat)
    inputs = RasterInputs(**{"colors": None, **flat}, size_hw=size_hw, anchor_ids=anchor_ids, argmax=argmax)
    rasterizer = _BACKENDS[chosen]
    images = _by_parts(rasterizer, inputs) if argmax and chosen != "cpp" else rasterizer(inputs)
    colors = images.colors
    if background is not None:
        colors = colors + (1 - images.alphas)[..., None] * background

    def shaped(tensor: Tensor) -> Tensor:
        return tensor.reshape(*batch, *tensor.shape[1:])

    features, largest = (None if each is None else shaped(each) for each in (images.features, images.argmax))
    return RenderOutput(shaped(colors), shaped(images.alphas), shaped(images.depths), features, largest)


def _by_parts(rasterizer: Rasterizer, inputs: RasterInputs) -> RasterImages:
    """Let a backend that returns features find the argmax: some channels at a time, to bound the memory."""
    assert inputs.anchor_features is not None
    shape = (*inputs.cam_from_world.shape[:2], *inputs.size_hw)
    at_once = max(_VALUES_AT_ONCE // max(math.prod(shape), inputs.means.shape[1]), 1)
    best = inputs.anchor_features.new_full(shape, -math.inf)
    argmax = torch.zeros(shape, dtype=torch.int64, device=best.device)
    for first in range(0, inputs.anchor_features.shape[-1], at_once):
        part = inputs.anchor_features[..., first : first + at_once]
        images = rasterizer(replace(inputs, anchor_features=part))
        assert images.features is not None
        values, channels = images.features.max(dim=-1)
        argmax = torch.where(values > best, channels + first, argmax)
        best = torch.maximum(values, best)
    return replace(images, features=None, argmax=argmax)


def available_backends() -> dict[str, str | None]:
    """Map each backend's name to None if it works here, else to the reason in one line.

    Example:
        >>> from tokengroups.render import available_backends
        >>> sorted(available_backends())
        ['cpp', 'gsplat', 'torch']
    """
    return {name: missing() for name, (_, missing) in _FAST.items()} | {"torch": None}


def _choose(backend: str, means: Tensor) -> str:
    fits = {name: means.device.type == device and means.dtype != torch.float64 for name, (device, _) in _FAST.items()}
    if backend == "auto":
        return next((name for name, (_, missing) in _FAST.items() if fits[name] and missing() is None), "torch")
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be auto, {', '.join(_BACKENDS)}, got {backend}")
    if backend in _FAST:
        device, missing = _FAST[backend]
        reason = missing()
        if reason is not None:
            raise ValueError(f"backend {backend} cannot be used: {reason}")
        if not fits[backend]:
            got = f"{means.dtype} on {means.device}"
            raise ValueError(f"backend {backend} needs float32 tensors on {device}, got {got}")
    return backend
