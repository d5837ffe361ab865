"""Random changes of training views: which frames, mirrored, recoloured. All randomness comes from a given generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.types import Cameras, Views

SHARED_JITTER = 0.7  # probability that all frames of a scene get the same colours (VGGT's training)
GREYSCALE = 0.05  # probability, as there
LUMA = (0.299, 0.587, 0.114)


def draw_frames(rng: np.random.Generator, path_length: int, num_frames: int, max_gap: int) -> list[int]:
    """Frames of a path in random order, neighbours along the path 1 ... `max_gap` frames apart.

    The first one drawn defines the world, so every role of a frame is learnt.
    """
    if num_frames > path_length:
        raise ValueError(f"num_frames must be at most the path's {path_length}, got {num_frames}")
    gaps = rng.integers(1, max_gap + 1, size=num_frames - 1)
    while gaps.sum() > path_length - 1:
        widest = int(gaps.argmax())
        gaps[widest] -= 1
    start = int(rng.integers(0, path_length - gaps.sum()))
    frames = start + np.concatenate([[0], np.cumsum(gaps)])
    return [int(frame) for frame in rng.permutation(frames)]


def mirror(views: Views) -> Views:
    """The same scene in a mirror: images flipped left to right, the world's and the cameras' x axes negated."""
    cameras = views.cameras
    flip = torch.diag(cameras.cam_from_world.new_tensor([-1.0, 1.0, 1.0, 1.0]))
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., 0, 2] = cameras.size_hw[1] - intrinsics[..., 0, 2]
    return Views(
        views.images.flip(-1),
        Cameras(flip @ cameras.cam_from_world @ flip, intrinsics, cameras.size_hw),
        views.depth.flip(-1),
        views.group_ids.flip(-1),
    )


def jitter_colours(views: Views, rng: np.random.Generator, strength: float) -> Views:
    """Random brightness, contrast and saturation, factors in [1 - strength, 1 + strength]; sometimes grey.

    Args:
        views: One scene, axes V.
        rng: Source of all draws.
        strength: In [0, 1].
    """
    num_views = views.images.shape[0]
    draws = 1 if rng.random() < SHARED_JITTER else num_views
    factors = torch.from_numpy(rng.uniform(1 - strength, 1 + strength, size=(draws, 3))).float()
    factors = factors.expand(num_views, 3)[..., None, None, None]
    brightness, contrast, saturation = factors.unbind(1)
    if rng.random() < GREYSCALE:
        saturation = torch.zeros_like(saturation)
    images = views.images * brightness
    mean = luminance(images).mean(dim=(-2, -1), keepdim=True)
    images = mean + contrast * (images - mean)
    grey = luminance(images)
    return replace(views, images=(grey + saturation * (images - grey)).clamp(0, 1))


def luminance(images: Float[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b 1 H W"]:
    """Grey value by Rec. 601."""
    weights = images.new_tensor(LUMA)[:, None, None]
    return (images * weights).sum(dim=-3, keepdim=True)
