"""Image quality of rendered views. PSNR is in `tokengroups.losses.photometric`."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

_RADIUS, _SIGMA = 5, 1.5  # an 11 x 11 Gaussian window
_C1, _C2 = 0.01**2, 0.03**2  # for the range [0, 1]


def ssim(predicted: Float[Tensor, "M 3 H W"], photos: Float[Tensor, "M 3 H W"]) -> Float[Tensor, " M"]:
    """Structural similarity of each image pair in [0, 1] (Wang et al. 2004, IEEE TIP 13(4), eq. 13).

    Gaussian window of 11 x 11 with standard deviation 1.5, population covariances, mean over the channels
    and over the pixels whose window lies inside the image: scikit-image's
    ``structural_similarity(gaussian_weights=True, use_sample_covariance=False, data_range=1)``.

    Raises:
        ValueError: If the images are smaller than the window.
    """
    if min(photos.shape[-2:]) < 2 * _RADIUS + 1:
        raise ValueError(f"SSIM needs images of at least 11 x 11 pixels, got {tuple(photos.shape[-2:])}")
    x, y = rearrange(torch.stack([predicted, photos]).double(), "two m c h w -> two (m c) 1 h w")
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)) / (
        (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
    )
    return similarity.mean(dim=(-3, -2, -1)).unflatten(0, (-1, 3)).mean(dim=-1).to(photos.dtype)


def _blur(images: Float[Tensor, "N 1 H W"]) -> Float[Tensor, "N 1 h w"]:
    """Gaussian-weighted mean of every window that lies inside the image."""
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, device=images.device, dtype=images.dtype)
    window = torch.softmax(-(offsets**2) / (2 * _SIGMA**2), dim=0)
    return torch.conv2d(torch.conv2d(images, window.view(1, 1, 1, -1)), window.view(1, 1, -1, 1))
