"""Matched pixels of two photos: coarse ones from match descriptors, fine ones by comparing small patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

PATCH_RADIUS = 4  # pixels: patches of 9 x 9
MIN_CORRELATION = 0.6  # of patches that show the same; the weight grows from here to 1
MIN_VARIANCE = 2e-4  # of a patch's grey values in [0, 1]: flat ones match everywhere
BORDER_PX = 2.0


@dataclass(frozen=True)
class PixelMatches:
    """Q pixels of one photo, their matches in another one, and the matches' weights."""

    source: Float[Tensor, "Q 2"]
    target: Float[Tensor, "Q 2"]
    weight: Float[Tensor, " Q"]  # in [0, 1]

    def with_positive_weight(self) -> PixelMatches:
        """Keep the matches of positive weight."""
        counts = self.weight > 0
        return PixelMatches(self.source[counts], self.target[counts], self.weight[counts])


@dataclass(frozen=True)
class SearchedPhoto:
    """A photo's grey values, and their standard deviation in the patch around every pixel."""

    grey: Float[Tensor, "H W"]
    deviation: Float[Tensor, "H W"]

    @classmethod
    def of(cls, photo: Float[Tensor, "3 H W"]) -> SearchedPhoto:
        """Prepare a photo in [0, 1]."""
        return cls.of_grey(_smooth_grey(photo))

    @classmethod
    def of_grey(cls, grey: Float[Tensor, "H W"]) -> SearchedPhoto:
        """Prepare grey values as they are."""
        variance = box_mean(grey.square()) - box_mean(grey).square()
        return cls(grey, variance.clamp_min(1e-8).sqrt())


def cell_matches(match_logits: Float[Tensor, "Q R"], size_hw: tuple[int, int]) -> PixelMatches:
    """Match cells of two views: a target is a cell's centre in the view of the logits' rows.

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
    """Centres of pixels (x, y) on a regular grid that leaves room for a patch at the border."""
    height, width = image.shape[-2:]
    start = PATCH_RADIUS + BORDER_PX + 0.5
    y = torch.arange(start, height, step, device=image.device)
    x = torch.arange(start, width, step, device=image.device)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def inside_by(mask: Bool[Tensor, "V H W"], margin: int) -> Bool[Tensor, "V H W"]:
    """Pixels of a mask that are more than `margin` pixels away from those outside; beyond the border is inside."""
    outside = functional.max_pool2d((~mask)[:, None].float(), 2 * margin + 1, stride=1, padding=margin)
    return outside[:, 0] == 0


def patch_matches(
    photo: SearchedPhoto,
    other: SearchedPhoto,
    pixels: Float[Tensor, "Q 2"],
    expected: Float[Tensor, "Q 2"],
    radius: int,
) -> PixelMatches:
    """Find small patches of a photo again, within `radius` pixels of where they are expected in the other.

    Zero-mean normalised cross-correlation, its maximum interpolated. A match weighs nothing if it lies at
    the border of the search, if its patch is flat, or outside the photo.

    Args:
        photo: Source of the patches.
        other: Photo of the same size that is searched.
        pixels: Places in `photo`; their patches are centred on the pixels that hold them.
        expected: Where to search in `other`, around the pixel that holds it.
        radius: Of the search, in pixels.
    """
    expected = expected.floor() + 0.5
    patches = cut_patches(photo.grey, pixels, PATCH_RADIUS)
    patches = patches - patches.mean(dim=(1, 2), keepdim=True)
    scores = correlate(patches, other, expected, radius)
    best, offset, inside = peak_of(scores)
    within = pixels - pixels.floor() - 0.5  # of the place in its pixel, the same in both photos
    found = expected + offset + within
    size = pixels.new_tensor([other.grey.shape[1], other.grey.shape[0]])
    inside &= ((found > BORDER_PX) & (found < size - BORDER_PX)).all(dim=-1)
    inside &= patches.square().mean(dim=(1, 2)) > MIN_VARIANCE
    return PixelMatches(pixels, found, ((best - MIN_CORRELATION) / (1 - MIN_CORRELATION)).clamp(0, 1) * inside)


def _smooth_grey(photo: Float[Tensor, "3 H W"]) -> Float[Tensor, "H W"]:
    """Grey values after a 3x3 binomial filter: sensor noise would cost correlation."""
    binomial = photo.new_tensor([0.25, 0.5, 0.25])
    grey = functional.pad(photo.mean(dim=0)[None, None], (1, 1, 1, 1), mode="replicate")
    return functional.conv2d(grey, (binomial[:, None] * binomial)[None, None])[0, 0]


def cut_patches(image: Float[Tensor, "H W"], centres: Float[Tensor, "Q 2"], radius: int) -> Float[Tensor, "Q n n"]:
    """Squares of side 2 radius + 1 around the pixels that hold the centres; the border is repeated."""
    height, width = image.shape
    side = 2 * radius + 1
    padded = functional.pad(image[None, None], (radius, radius, radius, radius), mode="replicate")[0, 0]
    column, row = centres.floor().long().unbind(-1)
    squares = padded.unfold(0, side, 1).unfold(1, side, 1)
    return squares[row.clamp(0, height - 1), column.clamp(0, width - 1)]


def correlate(
    patches: Float[Tensor, "Q n n"], photo: SearchedPhoto, expected: Float[Tensor, "Q 2"], radius: int
) -> Float[Tensor, "Q s s"]:
    """Zero-mean normalised cross-correlation of every patch, of mean zero, within `radius` pixels of a place."""
    windows = cut_patches(photo.grey, expected, PATCH_RADIUS + radius)
    # One window per channel: as a batch of one-channel images the same sums take 20 times as long.
    products = functional.conv2d(windows[None], patches[:, None], groups=len(patches))[0]
    deviation = cut_patches(photo.deviation, expected, radius)
    norm = (2 * PATCH_RADIUS + 1) * patches.square().sum(dim=(1, 2)).clamp_min(1e-6).sqrt()
    return products / (norm[:, None, None] * deviation)


def peak_of(scores: Float[Tensor, "Q s s"]) -> tuple[Float[Tensor, " Q"], Float[Tensor, "Q 2"], Bool[Tensor, " Q"]]:
    """Largest score of each search, its place (x, y) from the middle, and whether that is not at the border."""
    side = scores.shape[-1]
    best, index = scores.flatten(1).max(dim=1)
    row, column = index // side, index % side
    inside = (row > 0) & (row < side - 1) & (column > 0) & (column < side - 1)
    row, column = row.clamp(1, side - 2), column.clamp(1, side - 2)
    each = torch.arange(len(scores), device=scores.device)
    peak = scores[each, row, column]
    dx = _subpixel(scores[each, row, column - 1], peak, scores[each, row, column + 1])
    dy = _subpixel(scores[each, row - 1, column], peak, scores[each, row + 1, column])
    return best, torch.stack([column - side // 2 + dx, row - side // 2 + dy], dim=-1), inside


def box_mean(image: Float[Tensor, "H W"]) -> Float[Tensor, "H W"]:
    """Mean of the patch around every pixel; the border is repeated."""
    padded = functional.pad(image[None, None], (PATCH_RADIUS,) * 4, mode="replicate")
    side = 2 * PATCH_RADIUS + 1
    return functional.avg_pool2d(functional.avg_pool2d(padded, (1, side), 1), (side, 1), 1)[0, 0]


def _subpixel(before: Tensor, peak: Tensor, after: Tensor) -> Tensor:
    """Subpixel position of the maximum of three neighbouring scores, relative to the middle one.

    The mean of two estimates that err in opposite directions: a parabola is drawn to whole pixels where patches are
    sharp, two lines of equal slope away from them where patches are smooth.
    """
    lower = torch.minimum(before, after)
    lines = (after - before) / (peak - lower).clamp_min(1e-4)
    parabola = (after - before) / (2 * peak - before - after).clamp_min(1e-4)
    return (0.25 * (lines + parabola)).clamp(-0.5, 0.5)
