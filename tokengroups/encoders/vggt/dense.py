"""Running of dense heads, and what their raw maps stand for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.nn.chunks import pixel_budget

DEPTH_CHANNELS = 1
POINT_CHANNELS = 3


def run_in_chunks(
    head: nn.Module, layers: Sequence[Float[Tensor, "B V ..."]], size_hw: tuple[int, int], most: int
) -> Float[Tensor, "B V D H W"]:
    """Run a dense head; where no gradient is wanted, on as many frames at a time as `chunk_frames` says."""
    batch, views = layers[0].shape[:2]
    frames = [layer.flatten(0, 1) for layer in layers]
    step = chunk_frames(frames[0], size_hw, most)
    starts = range(0, batch * views, step)
    maps = [head([x[start : start + step] for x in frames], size_hw).float() for start in starts]
    return torch.cat(maps).unflatten(0, (batch, views))


def chunk_frames(frames: Float[Tensor, "N ..."], size_hw: tuple[int, int], most: int) -> int:
    """Number of frames that a dense head takes at a time: all with gradients, else a budget of pixels, and `most`."""
    if torch.is_grad_enabled():
        return len(frames)
    return min(most, max(1, pixel_budget(frames.device) // (size_hw[0] * size_hw[1])))


def predict_depth(
    raw: Float[Tensor, "B V 2 H W"] | None,
) -> tuple[Float[Tensor, "B V H W"] | None, Float[Tensor, "B V H W"] | None]:
    """Depth = exp(raw), confidence = 1 + exp(raw); None without a depth head."""
    if raw is None:
        return None, None
    return raw[:, :, 0].exp(), 1 + raw[:, :, 1].exp()


def predict_points(
    raw: Float[Tensor, "B V 4 H W"] | None,
) -> tuple[Float[Tensor, "B V H W 3"] | None, Float[Tensor, "B V H W"] | None]:
    """Points = sign(raw) (exp|raw| - 1), confidence = 1 + exp(raw); None without a point head."""
    if raw is None:
        return None, None
    xyz = rearrange(raw[:, :, :POINT_CHANNELS], "b v c h w -> b v h w c")
    return xyz.sign() * xyz.abs().expm1(), 1 + raw[:, :, POINT_CHANNELS].exp()
