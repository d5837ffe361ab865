"""Matched pixels of two photos: coarse ones from the matching head, fine ones by comparing small patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

PATCH_RADIUS = 4  # pixels: patches of 9 x 9
MIN_CORRELATION = 0.6  # of patches that show the same; the weight grows from here to 1
MIN_VARIANCE = 2e-4  # of a patch's grey values in [0, 1]: flat ones match everywhere
BORDER_PX = 2.0


@dataclass(frozen=True)
class PixelMatches:
    """Q pixels of one photo, where they are in the other one, and how far to believe it."""

    source: Float[Tensor, "Q 2"]
    target: Float[Tensor, "Q 2"]
    weight: Float[Tensor, " Q"]  # in [0, 1]


def cell_matches(match_logits: Float[Tensor, "Q R"], size_hw: tuple[int, int]) -> PixelMatches:
    """From view 0 to the view whose cells were matched: target = a cell's centre in the view.

    The source is the mean of the match distribution over the 3x3 cells around its peak, the weight their mass.
    """
    height, width = size_hw
    cell = (height * width / match_logits.shape[0]) ** 0.5
    rows, columns = round(height / cell), round(width / cell)
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    grid = torch.stack([x, y], dim=-1).flatten(0, 1).to(match_logits)
    probabilities = match_logits.softmax(dim=-1)
    peak = grid[probabilities.argmax(dim=-1)]
    near = ((grid - peak[:, None]).abs() <= 1).all(dim=-1)
    local = probabilities * near
    mass = local.sum(dim=-1)
    return PixelMatches((local @ grid / mass[:, None] + 0.5) * cell, (grid + 0.5) * cell, mass)


def grid_pixels(image: Float[Tensor, "*c H W"], step: int) -> Float[Tensor, "Q 2"]:
    """Pixels (x, y) on a regular grid that leaves room for a patch at the border."""
    height, width = image.shape[-2:]
    start = PATCH_RADIUS + BORDER_PX
    y = torch.arange(start, height, step, device=image.device)
    x = torch.arange(start, width, step, device=image.device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def patch_matches(
    photo: Float[Tensor, "3 H W"],
    other: Float[Tensor, "3 H W"],
    pixels: Float[Tensor, "Q 2"],
    expected: Float[Tensor, "Q 2"],
    radius: int,
) -> PixelMatches:
    """Find small patches of a photo again, within `radius` pixels of where they are expected in the other.

    Zero-mean normalised cross-correlation, its maximum interpolated by parabolas. A match weighs nothing if it lies at
    the border of the search, if its patch is flat, or outside the photo.

    Args:
        photo: In [0, 1].
        other: In [0, 1], of the same size.
        pixels: Patch centres in `photo`.
        expected: Where to search in `other`.
        radius: Of the search, in pixels.
    """
    patches = _cut(_smooth_grey(photo), pixels, PATCH_RADIUS)
    patches = patches - patches.mean(dim=(1, 2), keepdim=True)
    windows = _cut(_smooth_grey(other), expected, PATCH_RADIUS + radius)
    scores = _correlate(patches, windows)
    side = 2 * radius + 1
    best, index = scores.flatten(1).max(dim=1)
    row, column = index // side, index % side
    inside = (row > 0) & (row < side - 1) & (column > 0) & (column < side - 1)
    row, column = row.clamp(1, side - 2), column.clamp(1, side - 2)
    each = torch.arange(len(pixels), device=pixels.device)
    peak = scores[each, row, column]
    dx = _parabola(scores[each, row, column - 1], peak, scores[each, row, column + 1])
    dy = _parabola(scores[each, row - 1, column], peak, scores[each, row + 1, column])
    found = expected + torch.stack([column - radius + dx, row - radius + dy], dim=-1)
    size = pixels.new_tensor([other.shape[-1], other.shape[-2]])
    inside &= ((found > BORDER_PX) & (found < size - BORDER_PX)).all(dim=-1)
    inside &= patches.square().mean(dim=(1, 2)) > MIN_VARIANCE
    return PixelMatches(
        pixels, found, ((best - MIN_CORRELATION) / (1 - MIN_CORRELATION)).clamp(0, 1) * inside
    )


def _smooth_grey(photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "1 1 H W"]:
    """Grey values after a 3x3 binomial filter: sensor noise would cost correlation."""
    binomial = photo.new_tensor([0.25, 0.5, 0.25])
    grey = functional.pad(photo.mean(dim=0)[None, None], (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(grey, (binomial[:, None] * binomial)[None, None])


def _cut(
    image: Float[Tensor, "1 1 H W"], centres: Float[Tensor, "Q 2"], radius: int
) -> Float[Tensor, "Q n n"]:
    """Squares of side 2 radius + 1 around any positions, interpolated; the border is repeated."""
    side = 2 * radius + 1
    steps = torch.arange(-radius, radius + 1, device=centres.device)
    offsets = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)
    size = centres.new_tensor([image.shape[-1], image.shape[-2]])
    positions = 2 * (centres[:, None, None] + offsets) / size - 1
    sampled = functional.grid_sample(
        image, rearrange(positions, "q i j c -> 1 (q i) j c"), padding_mode="border", align_corners=False
    )
    return rearrange(sampled, "1 1 (q i) j -> q i j", i=side)


def _correlate(patches: Float[Tensor, "Q n n"], windows: Float[Tensor, "Q m m"]) -> Float[Tensor, "Q s s"]:
    """Zero-mean normalised cross-correlation of every patch, of mean zero, at every place in its window."""
    count, groups = patches.shape[1] * patches.shape[2], len(patches)
    products = functional.conv2d(windows[None], patches[:, None], groups=groups)[0]
    # One window per channel: as a batch of one-channel images the same sums take 20 times as long.
    ones = torch.ones_like(patches[:, None])
    sums = functional.conv2d(windows[None], ones, groups=groups)[0]
    squares = functional.conv2d(windows[None].square(), ones, groups=groups)[0]
    spread = (squares - sums.square() / count).clamp_min(1e-6)
    return products / (spread * patches.square().sum(dim=(1, 2)).clamp_min(1e-6)[:, None, None]).sqrt()


def _parabola(before: Tensor, peak: Tensor, after: Tensor) -> Tensor:
    """Where the parabola through three neighbouring scores has its maximum, relative to the middle one."""
    curvature = (before - 2 * peak + after).clamp_max(-1e-4)
    return (0.5 * (before - after) / curvature).clamp(-0.5, 0.5)
