"""Inputs and images of a backend, colours from spherical harmonics, and checks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.geometry import invert_rigid
from tokengroups.spherical_harmonics import SH_C0, sh_basis, sh_degree


@dataclass(frozen=True)
class RasterInputs:
    """Checked inputs: batch axes flattened to B scenes, C cameras each.

    Colours are [B, N, D] or [B, C, N, D], or given by spherical harmonics.
    """

    means: Float[Tensor, "B N 3"]
    quats: Float[Tensor, "B N 4"]
    scales: Float[Tensor, "B N 3"]
    opacities: Float[Tensor, "B N"]
    colors: Float[Tensor, "B *C N D"] | None  # None: see sh
    cam_from_world: Float[Tensor, "B C 4 4"]
    intrinsics: Float[Tensor, "B C 3 3"]
    size_hw: tuple[int, int]
    sh: Float[Tensor, "B N S 3"] | None = None
    anchor_ids: Int64[Tensor, " N"] | None = None
    anchor_features: Float[Tensor, "B K F"] | None = None
    argmax: bool = False  # `RasterImages.argmax` in place of features

    def plain_colors(self) -> Float[Tensor, "B *C N D"]:
        """Return the colours, evaluated from the harmonics if need be."""
        if self.colors is not None:
            return self.colors
        assert self.sh is not None
        return sh_colors(self.sh, self.means, self.cam_from_world)


@dataclass(frozen=True)
class RasterImages:
    """Images of a backend, without background."""

    colors: Float[Tensor, "B C H W D"]
    alphas: Float[Tensor, "B C H W"]
    depths: Float[Tensor, "B C H W"]
    features: Float[Tensor, "B C H W F"] | None
    argmax: Int64[Tensor, "B C H W"] | None = None  # channel of the largest feature, the first of equals


def sh_colors(
    sh: Float[Tensor, "*b N S 3"], means: Float[Tensor, "*b N 3"], cam_from_world: Float[Tensor, "*b C 4 4"]
) -> Tensor:
    """Colours `max(0.5 + sum, 0)` seen by each camera: [*b, C, N, 3], or [*b, N, 3] for degree 0.

    The viewing direction runs from the camera's centre to the Gaussian's mean; gradients flow to both.
    """
    degree = sh_degree(sh.shape[-2])
    if degree == 0:
        return (0.5 + SH_C0 * sh[..., 0, :]).clamp_min(0)
    centres = invert_rigid(cam_from_world)[..., :3, 3]
    offsets = means.unsqueeze(-3) - centres.unsqueeze(-2)
    basis = sh_basis(torch.nn.functional.normalize(offsets, dim=-1), degree)
    return (0.5 + torch.einsum("...cns,...nsd->...cnd", basis, sh)).clamp_min(0)


def check_shapes(tensors: dict[str, Tensor], batch: torch.Size, size_hw: tuple[int, int]) -> None:
    """Refuse shapes that do not fit each other, dtypes other than floating point, and mixed devices."""
    means = tensors["means"]
    count, cameras = means.shape[-2], tensors["cam_from_world"].shape[-3]
    if "sh" in tensors:
        colors = (*batch, count, tensors["sh"].shape[-2], 3)
        sh_degree(tensors["sh"].shape[-2])
    else:
        per_camera = (cameras,) if tensors["colors"].ndim == len(batch) + 3 else ()
        colors = (*batch, *per_camera, count, tensors["colors"].shape[-1])
    wanted = {
        "means": (*batch, count, 3), "quats": (*batch, count, 4), "scales": (*batch, count, 3),
        "opacities": (*batch, count), "colors": colors, "sh": colors,
        "cam_from_world": (*batch, cameras, 4, 4), "intrinsics": (*batch, cameras, 3, 3),
    }  # fmt: skip
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name]:
            raise ValueError(f"{name} must have shape {list(wanted[name])}, got {list(tensor.shape)}")
        if not tensor.is_floating_point() or tensor.device != means.device:
            raise ValueError(f"{name} must be floating point on {means.device}, got {tensor.dtype} on {tensor.device}")
    if min(size_hw) < 1:
        raise ValueError(f"size_hw must be at least (1, 1), got {size_hw}")


def check_finite(tensors: dict[str, Tensor]) -> None:
    """Refuse NaN and infinity, naming the input."""
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()]).tolist()
    for name, good in zip(tensors, finite, strict=True):
        if not good:
            raise ValueError(f"render: {name} contain NaN or infinite values")


def check_anchors(ids: Tensor | None, features: Tensor | None, batch: torch.Size, count: int) -> None:
    """Refuse anchor features and ids that do not fit each other or the Gaussians."""
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
        raise ValueError(f"anchor_ids must lie in [0, {features.shape[-2]}), got {int(ids.min())}..{int(ids.max())}")
