"""The gsplat backend for CUDA tensors; the only module that imports gsplat, and only when it is used."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from tokengroups.render.inputs import RasterImages, RasterInputs


@cache
def gsplat_missing() -> str | None:
    """What gsplat lacks to run here, in one line, or None."""
    if find_spec("gsplat") is None:
        return "the package gsplat is not installed (pip install gsplat)"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    import gsplat.cuda._backend as kernels  # compiles them at first use

    compiled = getattr(kernels, "_C", None) is not None
    return None if compiled else "gsplat found no CUDA toolkit (nvcc) to compile its kernels with"


def rasterize_gsplat(inputs: RasterInputs) -> RasterImages:
    """Render on the GPU with gsplat; anchor features become colour channels of their Gaussians."""
    from gsplat import rasterization

    cameras = inputs.cam_from_world.shape[1]
    colors = inputs.colors
    if inputs.anchor_features is not None and inputs.anchor_ids is not None:
        features = inputs.anchor_features[:, inputs.anchor_ids]
        if inputs.colors_per_camera:
            features = features[:, None].expand(-1, cameras, -1, -1)
        colors = torch.cat([colors, features], dim=-1)
    height, width = inputs.size_hw
    image, alphas, _ = rasterization(
        inputs.means, inputs.quats, inputs.scales, inputs.opacities, colors, inputs.cam_from_world,
        inputs.intrinsics, width, height, render_mode="RGB+ED", packed=False,
    )  # fmt: skip
    return _split(inputs, image, alphas[..., 0])


def _split(inputs: RasterInputs, image: Tensor, alphas: Tensor) -> RasterImages:
    dim = inputs.colors.shape[-1]
    features = image[..., dim:-1] if inputs.anchor_features is not None else None
    return RasterImages(image[..., :dim], alphas, image[..., -1], features)
