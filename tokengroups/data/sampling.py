"""From recorded scenes to batches of tensors: chosen frames, augmentation, collation.

Everything random takes an explicit numpy generator, so that a batch can be a pure function of (seed, step,
slot).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.types import Cameras, SceneFrames, Views


def to_views(frames: SceneFrames, indices: Sequence[int]) -> Views:
    """The chosen frames, in this order, as unbatched float32 tensors [V, ...] (ids int64)."""
    chosen = list(indices)
    images = torch.from_numpy(frames.images[chosen]).float() / 255
    cameras = Cameras(
        torch.from_numpy(frames.cam_from_world[chosen]).float(),
        torch.from_numpy(frames.intrinsics[chosen]).float(),
        (frames.images.shape[1], frames.images.shape[2]),
    )
    depth = torch.from_numpy(frames.depth[chosen]).float()
    group_ids = torch.from_numpy(frames.group_ids[chosen].astype(np.int64))
    return Views(rearrange(images, "v h w c -> v c h w").contiguous(), cameras, depth, group_ids)


def square_views(views: Views, size: int, zoom: float = 1.0) -> Views:
    """Cut the central square out of unbatched views and resize it, with the intrinsics to match.

    Photos are resized with antialiasing; depth and instance ids take the nearest pixel, never a mixture.
    A zoom of 1 or more takes a square that is smaller by that factor.
    """
    height, width = views.cameras.size_hw
    side = max(1, round(min(height, width) / zoom))
    if (height, width) == (size, size) and side == size:
        return views
    top, left = (height - side) // 2, (width - side) // 2
    square = (..., slice(top, top + side), slice(left, left + side))
    images = functional.interpolate(
        views.images[square], (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    nearest = ((torch.arange(size) + 0.5) * (side / size)).long()
    pixels = (..., nearest[:, None] + top, nearest + left)
    intrinsics = _square_intrinsics(views.cameras.intrinsics, top, left, size / side)
    cameras = Cameras(views.cameras.cam_from_world, intrinsics, (size, size))
    return Views(images.clamp(0, 1), cameras, views.depth[pixels], views.group_ids[pixels])


def _square_intrinsics(
    intrinsics: Float[Tensor, "V 3 3"], top: int, left: int, factor: float
) -> Float[Tensor, "V 3 3"]:
    """Pinholes after a crop and a resize; the first pixel's centre is (0.5, 0.5), so (0, 0) is the corner."""
    squared = intrinsics.clone()
    squared[:, 0, 2] -= left
    squared[:, 1, 2] -= top
    squared[:, :2] *= factor
    return squared


def mirror(views: Views) -> Views:
    """Left and right exchanged, in pixels, intrinsics and poses alike: the world is mirrored with the photos.

    With F = diag(-1, 1, 1), points become F p in every frame, so cam_from_world becomes F cam_from_world F,
    which is again a rigid motion; cx becomes W - cx.
    """
    width = views.cameras.size_hw[1]
    flip = torch.diag(views.cameras.cam_from_world.new_tensor([-1.0, 1.0, 1.0, 1.0]))
    intrinsics = views.cameras.intrinsics.clone()
    intrinsics[..., 0, 2] = width - intrinsics[..., 0, 2]
    cameras = Cameras(flip @ views.cameras.cam_from_world @ flip, intrinsics, views.cameras.size_hw)
    return Views(views.images.flip(-1), cameras, views.depth.flip(-1), views.group_ids.flip(-1))


def jitter_colours(images: Tensor, generator: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Random brightness, contrast, saturation and white balance, the same for all photos of the scene.

    Args:
        images: [V, 3, H, W] in [0, 1].
        generator: Source of the randomness.
        strength: 1 = up to 20 % brightness and contrast, 30 % saturation, 8 % per channel.

    Returns:
        Images in [0, 1].
    """
    amounts = torch.from_numpy(generator.uniform(-strength, strength, 6)).to(images)
    gains = (1 + 0.2 * amounts[0]) * (1 + 0.08 * amounts[3:6])
    images = images * gains[:, None, None]
    grey = images.mean(dim=-3, keepdim=True)
    images = grey + (1 + 0.3 * amounts[2]) * (images - grey)
    middle = grey.mean()
    return (middle + (1 + 0.2 * amounts[1]) * (images - middle)).clamp(0, 1)


def collate(scenes: Sequence[Views]) -> Views:
    """Stack scenes of equal shape along a new first axis B."""
    if not scenes:
        raise ValueError("collate needs at least one scene")
    return Views(
        torch.stack([scene.images for scene in scenes]),
        Cameras(
            torch.stack([scene.cameras.cam_from_world for scene in scenes]),
            torch.stack([scene.cameras.intrinsics for scene in scenes]),
            scenes[0].cameras.size_hw,
        ),
        torch.stack([scene.depth for scene in scenes]),
        torch.stack([scene.group_ids for scene in scenes]),
    )
