"""Pixel differences between rendered and real photos, and their structural similarity."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

SSIM_WINDOW = 11
_SIGMA = 1.5
_BELL = [math.exp(-((index - SSIM_WINDOW // 2) ** 2) / (2 * _SIGMA**2)) for index in range(SSIM_WINDOW)]
_WINDOW = [weight / sum(_BELL) for weight in _BELL]
_C1, _C2 = 0.01**2, 0.03**2  # for the range [0, 1]


def mse(
    predicted: Float[Tensor, "*b 3 H W"], photos: Float[Tensor, "*b 3 H W"], mask: Bool[Tensor, "*b H W"] | None = None
) -> Float[Tensor, "*b"]:
    """Mean squared difference of each image, of all pixels or of those of a mask."""
    squares = (predicted - photos).square()
    if mask is None:
        return squares.mean(dim=(-3, -2, -1))
    return (squares.mean(dim=-3) * mask).sum(dim=(-2, -1)) / mask.sum(dim=(-2, -1)).clamp(min=1)


def psnr(
    predicted: Float[Tensor, "*b 3 H W"], photos: Float[Tensor, "*b 3 H W"], mask: Bool[Tensor, "*b H W"] | None = None
) -> Float[Tensor, "*b"]:
    """Peak signal-to-noise ratio of each image in dB for the range [0, 1]; 100 dB for equal images.

    With a mask, of its pixels.

    Example:
        >>> import torch
        >>> from tokengroups.losses.photometric import psnr
        >>> psnr(torch.full((3, 8, 8), 0.6), torch.full((3, 8, 8), 0.5))
        tensor(20.0)
    """
    return -10 * mse(predicted, photos, mask).clamp(min=1e-10).log10()


def ssim(predicted: Float[Tensor, "*b 3 H W"], photos: Float[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b"]:
    """Structural similarity of each image pair in [0, 1] (Wang et al. 2004, IEEE TIP 13(4), eq. 13).

    Gaussian window of 11 x 11 with standard deviation 1.5, population covariances, mean over the channels
    and over the pixels whose window lies inside the image: scikit-image's
    ``structural_similarity(gaussian_weights=True, use_sample_covariance=False, data_range=1)``.
    Gradients flow to both arguments.

    Raises:
        ValueError: If the images are smaller than the window.

    Example:
        >>> import torch
        >>> from tokengroups.losses.photometric import ssim
        >>> photo = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> f"{ssim(photo, photo):.3f}", bool(ssim(1 - photo, photo) < 0)
        ('1.000', True)
    """
    if min(photos.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs images of at least 11 x 11 pixels, got {tuple(photos.shape[-2:])}")
    x, y = predicted, photos
    # The variances enter as their sum alone, so four blurred maps do.
    mean_x, mean_y, squares, product = _Blur.apply(torch.stack([x, y, x * x + y * y, x * y])).unbind(0)
    mean_product, mean_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    similarity = ((2 * mean_product + _C1) * (2 * (product - mean_product) + _C2)) / (
        (mean_squares + _C1) * (squares - mean_squares + _C2)
    )
    return similarity.mean(dim=(-3, -2, -1))


class _Blur(torch.autograd.Function):
    """Gaussian-weighted mean of every window inside the image; shifted sums are faster than a convolution."""

    @staticmethod
    def forward(_ctx: Any, images: Tensor) -> Tensor:
        return _blur(images)

    @staticmethod
    @once_differentiable
    def backward(_ctx: Any, cotangent: Tensor) -> Tensor:
        return _blur(functional.pad(cotangent, (SSIM_WINDOW - 1,) * 4))  # the window is symmetric


def _blur(images: Tensor) -> Tensor:
    for dim in (-1, -2):
        length = images.shape[dim] - SSIM_WINDOW + 1
        blurred = images.narrow(dim, 0, length) * _WINDOW[0]
        for shift, weight in enumerate(_WINDOW[1:], start=1):
            blurred.add_(images.narrow(dim, shift, length), alpha=weight)
        images = blurred
    return images
