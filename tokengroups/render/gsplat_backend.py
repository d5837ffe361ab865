"""The gsplat backend for CUDA tensors; the only module that imports gsplat, and only when it is used."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch

from tokengroups.render.inputs import RasterImages, RasterInputs
from tokengroups.render.tiles import rasterize_tiles


@cache
def gsplat_missing() -> str | None:
    """Return the reason why gsplat cannot be used, in one line, or None."""
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

    if inputs.means.shape[1] == 0:  # gsplat launches no kernel over nothing
        return rasterize_tiles(inputs)
    colors = inputs.plain_colors()
    dim, channels = colors.shape[-1], colors
    if inputs.anchor_features is not None and inputs.anchor_ids is not None:
        features = inputs.anchor_features[:, inputs.anchor_ids]
        if colors.ndim == 4:
            features = features[:, None].expand(-1, colors.shape[1], -1, -1)
        channels = torch.cat([colors, features], dim=-1)
    height, width = inputs.size_hw
    image, alphas, _ = rasterization(
        inputs.means.float(), inputs.quats.float(), inputs.scales.float(), inputs.opacities.float(),
        channels.float(), inputs.cam_from_world.float(), inputs.intrinsics.float(), width, height,
        render_mode="RGB+ED", packed=False,
    )  # fmt: skip
    features = image[..., dim:-1] if inputs.anchor_features is not None else None
    return RasterImages(image[..., :dim], alphas[..., 0], image[..., -1], features)
