"""From recorded scenes to training batches: choosing frames, tensors, augmentation, collation.

Everything random takes an explicit numpy generator, so that a batch is a pure function of (seed, step, slot).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from tokengroups.types import Cameras, SceneFrames, Views


def slot_generator(seed: int, step: int, slot: int) -> np.random.Generator:
    """The random generator of one slot of one training step, independent of all others."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, step, slot))))


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


def sample_frames(generator: np.random.Generator, num_frames: int, count: int) -> list[int]:
    """`count` different frames out of `num_frames`, in random order: the first one is the reference."""
    if not 1 <= count <= num_frames:
        raise ValueError(f"count must be in [1, {num_frames}], got {count}")
    return generator.permutation(num_frames)[:count].tolist()


def sample_context_targets(
    generator: np.random.Generator, num_frames: int, num_context: int, num_targets: int
) -> tuple[list[int], list[int]]:
    """Context and target frames as in evaluation: contexts are every other frame of a stretch of the path.

    A stretch of 2 * num_context + 1 neighbouring frames is taken at random, forwards or backwards; its frames 1, 3, ...
    are the context, and `num_targets` of its frames 0, 2, ... the targets.

    Raises:
        ValueError: If the path is too short or more targets are asked for than the stretch has.
    """
    length = 2 * num_context + 1
    if num_frames < length or not 0 <= num_targets <= num_context + 1:
        raise ValueError(
            f"{num_context} context and {num_targets} target frames need a path of {length} frames and at most"
            f" {num_context + 1} targets; the path has {num_frames}"
        )
    start = int(generator.integers(num_frames - length + 1))
    stretch = list(range(start, start + length))
    if generator.random() < 0.5:
        stretch.reverse()
    targets = sorted(generator.permutation(num_context + 1)[:num_targets].tolist())
    return stretch[1::2], [stretch[2 * k] for k in targets]


def mirror(views: Views) -> Views:
    """Left and right exchanged, in pixels, intrinsics and poses alike: the world is mirrored with the photos.

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


def augment(views: Views, generator: np.random.Generator) -> Views:
    """Mirror half of the scenes and jitter the colours of all."""
    if generator.random() < 0.5:
        views = mirror(views)
    images = jitter_colours(views.images, generator)
    return Views(images, views.cameras, views.depth, views.group_ids)


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
