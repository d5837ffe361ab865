"""Photos with more pixels than an encoder reads, and cameras and masks for them."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from tokengroups.postprocess.draft import Draft
from tokengroups.types import Cameras


def finest_photos(draft: Draft, size: int) -> tuple[Float[Tensor, "V 3 F G"], Cameras, Bool[Tensor, "V F G"] | None]:
    """Photos of a draft for renderings to be compared with, their cameras, and the mask of the pixels that count.

    They have `size` pixels on the longer side where there are as many, and never fewer than those of the encoder.
    """
    cameras, mask = draft.geometry.cameras, draft.geometry.mask
    if draft.full_photos is None:
        return draft.photos, cameras, mask
    photos = reduced_photos(draft.full_photos, max(size, *cameras.size_hw))
    size_hw = (photos.shape[-2], photos.shape[-1])
    return photos, resized_cameras(cameras, size_hw), None if mask is None else resized_mask(mask, size_hw)


def reduced_photos(photos: Float[Tensor, "V 3 F G"], size: int) -> Float[Tensor, "V 3 H W"]:
    """Photos whose longer side has `size` pixels; those with fewer stay as they are."""
    scale = size / max(photos.shape[-2:])
    if scale >= 1:
        return photos
    size_hw = (round(photos.shape[-2] * scale), round(photos.shape[-1] * scale))
    return functional.interpolate(photos, size_hw, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def resized_cameras(cameras: Cameras, size_hw: tuple[int, int]) -> Cameras:
    """The same cameras with another number of pixels."""
    across, down = size_hw[1] / cameras.size_hw[1], size_hw[0] / cameras.size_hw[0]
    scale = cameras.intrinsics.new_tensor([[across], [down], [1.0]])
    return Cameras(cameras.cam_from_world, cameras.intrinsics * scale, size_hw)


def resized_mask(mask: Bool[Tensor, "V H W"], size_hw: tuple[int, int]) -> Bool[Tensor, "V F G"]:
    """A mask at another number of pixels, by the nearest ones."""
    return functional.interpolate(mask[:, None].float(), size_hw, mode="nearest")[:, 0] > 0
