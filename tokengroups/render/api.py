"""The one rendering function, its checks, and the choice of a backend."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.render.gsplat_backend import gsplat_missing, rasterize_gsplat
from tokengroups.render.inputs import RasterInputs
from tokengroups.render.library import LibraryMissing, load_library
from tokengroups.render.native import rasterize_native
from tokengroups.render.sh import sh_colors
from tokengroups.render.tiles import rasterize_tiles
from tokengroups.types import Gaussians, TensorFields

Backend = Literal["auto", "gsplat", "cpp", "torch"]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RenderOutput(TensorFields):
    """Rendered images of C cameras."""

    colors: Float[Tensor, "*b C H W D"]
    alphas: Float[Tensor, "*b C H W"]
    depths: Float[Tensor, "*b C H W"]  # expected z of what the ray hits; 0 where alpha is 0
    features: Float[Tensor, "*b C H W F"] | None  # alpha-composited anchor features


def render(
    gaussians: Gaussians,
    cam_from_world: Float[Tensor, "*b C 4 4"],
    intrinsics: Float[Tensor, "*b C 3 3"],
    size_hw: tuple[int, int],
    *,
    background: Float[Tensor, " 3"] | None = None,
    anchor_ids: Int64[Tensor, " N"] | None = None,
    anchor_features: Float[Tensor, "*b K F"] | None = None,
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
        backend: "auto" takes gsplat for CUDA tensors, and for CPU tensors the C++ kernels if they are
            there and the dtype is not float64, else PyTorch.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, an input holds NaN or infinity, or the backend
            cannot be used here (the message says what is missing).
    """
    colors = sh_colors(gaussians.sh, gaussians.means, cam_from_world)
    return rasterize(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, colors, cam_from_world, intrinsics,
        size_hw, background=background, anchor_ids=anchor_ids, anchor_features=anchor_features, backend=backend,
    )  # fmt: skip


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
    """`render` for colours given directly: [*b, N, D] or, if they depend on the camera, [*b, C, N, D], any D."""
    batch = means.shape[:-2]
    tensors = {
        "means": means, "quats": quats, "scales": scales, "opacities": opacities, "colors": colors,
        "cam_from_world": cam_from_world, "intrinsics": intrinsics,
    }  # fmt: skip
    _check_shapes(tensors, batch, size_hw)
    _check_anchors(anchor_ids, anchor_features, batch, means.shape[-2])
    if anchor_features is not None:
        tensors["anchor_features"] = anchor_features
    flat = {
        name: tensor.flatten(0, len(batch) - 1) if batch else tensor[None] for name, tensor in tensors.items()
    }
    inputs = RasterInputs(**flat, size_hw=size_hw, anchor_ids=anchor_ids)
    chosen = _choose(backend, means)
    if chosen != "cpp":  # which looks for itself
        _check_finite(flat)
    images = _BACKENDS[chosen](inputs)
    image_colors = images.colors
    if background is not None:
        image_colors = image_colors + (1 - images.alphas)[..., None] * background

    def shaped(tensor: Tensor) -> Tensor:
        return tensor.reshape(*batch, *tensor.shape[1:])

    features = None if images.features is None else shaped(images.features)
    return RenderOutput(shaped(image_colors), shaped(images.alphas), shaped(images.depths), features)


def _check_shapes(tensors: dict[str, Tensor], batch: torch.Size, size_hw: tuple[int, int]) -> None:
    means, colors = tensors["means"], tensors["colors"]
    count, cameras = means.shape[-2], tensors["cam_from_world"].shape[-3]
    per_camera = (cameras,) if colors.ndim == len(batch) + 3 else ()
    wanted = {
        "means": (*batch, count, 3), "quats": (*batch, count, 4), "scales": (*batch, count, 3),
        "opacities": (*batch, count), "colors": (*batch, *per_camera, count, colors.shape[-1]),
        "cam_from_world": (*batch, cameras, 4, 4), "intrinsics": (*batch, cameras, 3, 3),
    }  # fmt: skip
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name]:
            raise ValueError(f"{name} must have shape {list(wanted[name])}, got {list(tensor.shape)}")
        if not tensor.is_floating_point() or tensor.device != means.device:
            raise ValueError(
                f"{name} must be floating point on {means.device}, got {tensor.dtype} on {tensor.device}"
            )
    if min(size_hw) < 1:
        raise ValueError(f"size_hw must be at least (1, 1), got {size_hw}")


def _check_finite(tensors: dict[str, Tensor]) -> None:
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
    for name, good in zip(tensors, finite, strict=True):
        if not good:
            raise ValueError(f"render: {name} contain NaN or infinite values")


def _check_anchors(ids: Tensor | None, features: Tensor | None, batch: torch.Size, count: int) -> None:
    if features is None:
        return
    if ids is None:
        raise ValueError("anchor_features need anchor_ids")
    if ids.device != features.device:
        raise ValueError(f"anchor_ids are on {ids.device}, anchor_features on {features.device}")
    if features.ndim != len(batch) + 2 or features.shape[: len(batch)] != batch:
        raise ValueError(f"anchor_features must have shape {[*batch, 'K', 'F']}, got {list(features.shape)}")
    if ids.dtype != torch.int64 or ids.shape != (count,):
        raise ValueError(f"anchor_ids must be int64 of shape [{count}], got {ids.dtype} {list(ids.shape)}")
    if count and not (0 <= int(ids.min()) and int(ids.max()) < features.shape[-2]):
        raise ValueError(
            f"anchor_ids must lie in [0, {features.shape[-2]}), got {int(ids.min())}..{int(ids.max())}"
        )


@cache
def _native_missing() -> str | None:
    """Why the C++ kernels cannot be used, or None; said once in the log."""
    try:
        load_library()
    except LibraryMissing as error:
        _LOG.warning("rendering with PyTorch, which is slow: %s", error)
        return str(error)
    return None


def available_backends() -> dict[str, str | None]:
    """Backend name -> None if it works here, else why not, in one line."""
    return {"gsplat": gsplat_missing(), "cpp": _native_missing(), "torch": None}


def _choose(backend: Backend, means: Tensor) -> str:
    if backend == "torch":
        return backend
    if backend == "auto":
        if means.is_cuda:
            return "torch" if gsplat_missing() or means.dtype == torch.float64 else "gsplat"
        usable = means.device.type == "cpu" and means.dtype != torch.float64 and _native_missing() is None
        return "cpp" if usable else "torch"
    if backend not in _BACKENDS:
        raise ValueError(f"backend must be auto, {', '.join(_BACKENDS)}, got {backend}")
    device = {"gsplat": "cuda", "cpp": "cpu"}[backend]
    missing = gsplat_missing() if backend == "gsplat" else _native_missing()
    if missing is not None:
        raise ValueError(f"backend {backend} cannot be used: {missing}")
    if means.device.type != device or means.dtype == torch.float64:
        raise ValueError(
            f"backend {backend} needs float32 tensors on {device}, got {means.dtype} on {means.device}"
        )
    return backend


_BACKENDS = {"gsplat": rasterize_gsplat, "cpp": rasterize_native, "torch": rasterize_tiles}
