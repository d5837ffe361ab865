"""Accuracy of predicted depth: mean relative error, and the share of inliers.

Two alignments are in use, which give two numbers. SegVGGT takes one scale for the whole sequence; which one is not
published, here it is the median of true over predicted depth. IGGT takes the ratio of the two medians for every photo
by itself, and clips depths to 0.1 to 100 m (``_by_photo``). Inliers are pixels whose larger depth is less than 1.03 or
1.25 times the smaller one; IGGT's threshold is 1.03, SegVGGT's is not published and probably 1.25. All numbers are
shares, not percent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tokengroups.io.pixels import resize_nearest

TIGHT, LOOSE = 1.03, 1.25
_CLIP_M = (0.1, 100.0)


@dataclass(frozen=True)
class DepthAccuracy:
    """Numbers of one sequence; NaN where no depth is known."""

    depth_absrel: float  # mean |error| / true depth over all pixels, after one scale for the sequence
    depth_inliers_103: float
    depth_inliers_125: float
    depth_absrel_by_photo: float  # after one scale for every photo, mean over the photos
    depth_inliers_103_by_photo: float


def depth_accuracy(depth: Float[Tensor, "V H W"], true_depth: Iterable[Float[Tensor, "h w"]]) -> DepthAccuracy:
    """Compare the depth of a sequence with the truth.

    Args:
        depth: Predicted z; at every pixel of the truth the nearest one counts.
        true_depth: Of every photo, of the same part of the scene at any resolution; 0 = unknown.

    Example:
        >>> import torch
        >>> from tokengroups.evaluation.depth_accuracy import depth_accuracy
        >>> true = torch.tensor([[[1.0, 2.0], [2.0, 0.0]]])
        >>> depth_accuracy(torch.tensor([[[10.0, 20.0], [21.0, 5.0]]]), true).depth_absrel  # 0, 0 and 5 %
        0.0167
    """
    pairs = [_known_pixels(mine, true.to(mine)) for mine, true in zip(depth.float(), true_depth, strict=True)]
    pairs = [(mine, true) for mine, true in pairs if len(true)]
    if not pairs:
        return DepthAccuracy(*[float("nan")] * 5)
    scale = torch.cat([true / mine for mine, true in pairs]).median()
    sums = sum(_sums(scale * mine, true) for mine, true in pairs)
    photos = sum(_sums(*_clipped(mine, true)) / len(true) for mine, true in pairs)
    assert isinstance(sums, Tensor) and isinstance(photos, Tensor)
    absrel, tight, loose = (sums / sum(len(true) for _, true in pairs)).tolist()
    by_photo = (photos / len(pairs)).tolist()
    return DepthAccuracy(absrel, tight, loose, by_photo[0], by_photo[1])


def _known_pixels(depth: Float[Tensor, "H W"], true: Float[Tensor, "h w"]) -> tuple[Tensor, Tensor]:
    """Predicted and true depth where the truth is known; a prediction of 0 or less is a very small one."""
    mine = torch.from_numpy(resize_nearest(depth.cpu().numpy(), (true.shape[0], true.shape[1]))).to(true)
    known = true > 0
    return mine[known].clamp(min=1e-6), true[known]


def _clipped(mine: Float[Tensor, " n"], true: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
    """One photo as IGGT compares it: the ratio of the medians as its scale, both depths clipped."""
    return (mine * (true.median() / mine.median())).clamp(*_CLIP_M), true.clamp(*_CLIP_M)


def _sums(mine: Float[Tensor, " n"], true: Float[Tensor, " n"]) -> Float[Tensor, "3"]:
    """Sums over the pixels of relative error, tight inliers, loose inliers."""
    ratio = torch.maximum(mine / true, true / mine)
    parts = [(mine - true).abs() / true, ratio < TIGHT, ratio < LOOSE]
    return torch.stack([part.double().sum() for part in parts])
