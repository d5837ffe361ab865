"""Views as tensors: conversion from frames, crops, augmentation and batches.

Everything random takes an explicit numpy generator, so that a batch can be a pure function of (seed, step, slot).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokengroups.geometry import pixel_centres, rigid, rotation_from_vector
from tokengroups.types import Cameras, SceneFrames, Views, stack


def to_views(frames: SceneFrames, indices: Sequence[int], size: int | tuple[int, int] | None = None) -> Views:
    """Convert chosen frames, in this order, to unbatched float32 tensors [V, ...] (ids int64).

    With a `size` (side of a square, or height and width) they are cropped and resized as by `crop_views`.
    """
    chosen = list(indices)
    images = torch.from_numpy(frames.images[chosen]).float() / 255
    cameras = Cameras(
        torch.from_numpy(frames.cam_from_world[chosen]).float(),
        torch.from_numpy(frames.intrinsics[chosen]).float(),
        (frames.images.shape[1], frames.images.shape[2]),
    )
    depth = torch.from_numpy(frames.depth[chosen]).float()
    group_ids = torch.from_numpy(frames.group_ids[chosen].astype(np.int64))
    mask = None if frames.mask is None else torch.from_numpy(frames.mask[chosen])
    views = Views(rearrange(images, "v h w c -> v c h w").contiguous(), cameras, depth, group_ids, mask)
    if size is None:
        return views
    return crop_views(views, (size, size) if isinstance(size, int) else size)


def crop_views(views: Views, size_hw: tuple[int, int], zoom: float = 1.0) -> Views:
    """Cut the largest central window of a shape out of unbatched views and resize it, intrinsics included.

    Photos are resized with antialiasing; depth and instance ids take the nearest pixel. A zoom of 1 or more takes a
    window that is smaller by that factor.
    """
    own_hw = views.cameras.size_hw
    scale = min(own / wanted for own, wanted in zip(own_hw, size_hw, strict=True)) / zoom
    window = [max(1, round(wanted * scale)) for wanted in size_hw]
    if own_hw == size_hw and tuple(window) == size_hw:
        return views
    top, left = ((own - side) // 2 for own, side in zip(own_hw, window, strict=True))
    cut = (..., slice(top, top + window[0]), slice(left, left + window[1]))
    images = functional.interpolate(views.images[cut], size_hw, mode="bilinear", antialias=True, align_corners=False)
    rows, columns = (
        ((torch.arange(wanted) + 0.5) * (side / wanted)).long() for wanted, side in zip(size_hw, window, strict=True)
    )
    pixels = (..., rows[:, None] + top, columns + left)
    intrinsics = views.cameras.intrinsics.clone()
    intrinsics[:, :2, 2] -= intrinsics.new_tensor([left, top])
    intrinsics[:, :2] *= intrinsics.new_tensor([[size_hw[1] / window[1]], [size_hw[0] / window[0]]])
    cameras = Cameras(views.cameras.cam_from_world, intrinsics, size_hw)
    mask = None if views.mask is None else views.mask[pixels]
    return Views(images.clamp(0, 1), cameras, views.depth[pixels], views.group_ids[pixels], mask)


def turn_views(views: Views, rotations: Float[Tensor, "V 3 3"], zoom: float = 1.0) -> Views:
    """Rotate the cameras of unbatched views about their centres and enlarge the photos about their middle.

    Photos are warped by the homography K' R K^-1, bilinearly; depth and instance ids take the nearest pixel. Pixels
    beyond a photo repeat its border; `shrink_turns` avoids them. `rotations` map old to new camera coordinates.
    """
    height, width = views.cameras.size_hw
    pixels = pixel_centres((height, width), rotations).flatten(0, 1)
    pixels = functional.pad(pixels, (0, 1), value=1.0)
    intrinsics = _enlarged(views.cameras, zoom)
    rays = pixels @ (rotations.mT @ intrinsics.inverse()).mT  # in old cameras, at depth 1 in the new ones
    source = rays @ views.cameras.intrinsics.mT
    source = source[..., :2] / source[..., 2:] * (2 / rays.new_tensor([width, height])) - 1
    grid = source.unflatten(1, (height, width))

    def warp(maps: Tensor, mode: str) -> Tensor:
        return functional.grid_sample(maps, grid, mode=mode, padding_mode="border", align_corners=False)

    depth = warp(views.depth[:, None], "nearest")[:, 0] / rays[..., 2].unflatten(1, (height, width))
    group_ids = warp(views.group_ids[:, None].float(), "nearest")[:, 0].round().to(views.group_ids.dtype)
    motion = rigid(rotations, torch.zeros(len(rotations), 3))
    cameras = Cameras(motion @ views.cameras.cam_from_world, intrinsics, (height, width))
    return Views(warp(views.images, "bilinear"), cameras, depth, group_ids)


def shrink_turns(cameras: Cameras, turns: Float[Tensor, "V 3"], zoom: float) -> Float[Tensor, "V 3 3"]:
    """Rotations of rotation vectors (radians), shortened until the enlarged photo lies within the old one."""
    height, width = cameras.size_hw
    corners = turns.new_tensor([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
    inverse, limits = _enlarged(cameras, zoom).inverse(), turns.new_tensor([width, height])
    shares = torch.linspace(1, 0, 11)
    rotations = rotation_from_vector(shares[:, None, None] * turns)
    seen = corners @ (cameras.intrinsics @ rotations.mT @ inverse).mT
    seen = seen[..., :2] / seen[..., 2:]
    inside = ((seen >= 0) & (seen <= limits)).flatten(2).all(dim=2)
    inside[-1] = True  # no rotation at all
    first = inside.int().argmax(dim=0)
    return rotations[first, torch.arange(len(turns))]


def _enlarged(cameras: Cameras, zoom: float) -> Float[Tensor, "V 3 3"]:
    """Pinholes after an enlargement about the photo's middle."""
    height, width = cameras.size_hw
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, :2] *= zoom
    intrinsics[:, :2, 2] += (1 - zoom) / 2 * intrinsics.new_tensor([width, height])
    return intrinsics


def mirror(views: Views) -> Views:
    """Mirror photos, intrinsics and poses at the vertical axis, and the world with them.

    With F = diag(-1, 1, 1), points become F p in every frame, so cam_from_world becomes F cam_from_world F, which is
    again a rigid motion; cx becomes W - cx.
    """
    width = views.cameras.size_hw[1]
    flip = torch.diag(views.cameras.cam_from_world.new_tensor([-1.0, 1.0, 1.0, 1.0]))
    intrinsics = views.cameras.intrinsics.clone()
    intrinsics[..., 0, 2] = width - intrinsics[..., 0, 2]
    cameras = Cameras(flip @ views.cameras.cam_from_world @ flip, intrinsics, views.cameras.size_hw)
    return Views(views.images.flip(-1), cameras, views.depth.flip(-1), views.group_ids.flip(-1))


def jitter_colours(images: Tensor, generator: np.random.Generator, strength: float = 1.0) -> Tensor:
    """Vary brightness, contrast, saturation and white balance of images [V, 3, H, W] in [0, 1], all alike.

    A strength of 1 means up to 20 % brightness and contrast, 30 % saturation, and 8 % per channel.
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
    return stack(scenes)
