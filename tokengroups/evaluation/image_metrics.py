"""Image quality of rendered views. PSNR is in `tokengroups.losses.photometric`."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from tokengroups.losses import photometric


def ssim(predicted: Float[Tensor, "M 3 H W"], photos: Float[Tensor, "M 3 H W"]) -> Float[Tensor, " M"]:
    """Structural similarity of each image pair, `tokengroups.losses.photometric.ssim` in float64 arithmetic.

    Raises:
        ValueError: If the images are smaller than the window.
    """
    return photometric.ssim(predicted.double(), photos.double()).to(photos.dtype)
