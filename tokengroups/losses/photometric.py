"""Pixel differences between rendered and real photos."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def mse(predicted: Float[Tensor, "*b 3 H W"], photos: Float[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b"]:
    """Mean squared difference of each image."""
    return (predicted - photos).square().mean(dim=(-3, -2, -1))


def psnr(predicted: Float[Tensor, "*b 3 H W"], photos: Float[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b"]:
    """Peak signal-to-noise ratio of each image in dB for the range [0, 1]; 100 dB for equal images."""
    return -10 * mse(predicted, photos).clamp(min=1e-10).log10()
