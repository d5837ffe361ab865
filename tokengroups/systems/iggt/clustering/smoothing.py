"""Smoothing of a field in space: the mean over the nearest points of all views, as IGGT's demonstration has it."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int64
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional

QUERIES_AT_ONCE = 65536  # bounds the memory of their neighbours


def smooth_in_space(
    field: Float[Tensor, "V E H W"], points: Float[Tensor, "V H W 3"], neighbours: int
) -> Float[Tensor, "V E H W"]:
    """Mean of the unit vectors of every pixel's nearest neighbours in space, without its own.

    All views are searched together. The means are not normalised: they are short near borders. Needs the memory of
    another field and of a search tree, and about 10 microseconds per pixel.

    Args:
        field: Features in any length; zero vectors stay zero.
        points: World points of the pixels, in any unit.
        neighbours: At least 1; all others where there are fewer.

    Raises:
        ValueError: A point is NaN or infinite.
    """
    views, _, height, _ = field.shape
    places = points.detach().cpu().double().reshape(-1, 3).numpy()
    if not np.isfinite(places).all():
        raise ValueError("points must be finite: their depth or cameras hold NaN or infinity")
    count = min(neighbours, len(places) - 1)
    pixels = functional.normalize(field.detach().to("cpu", torch.float32), dim=1)
    if count < 1:
        return pixels.to(field.device)
    features = rearrange(pixels, "v e h w -> (v h w) e").contiguous().numpy()
    smoothed = np.empty_like(features)
    tree = KDTree(places)
    for start in range(0, len(places), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        found = np.asarray(tree.query(places[part], count + 1, workers=-1)[1])
        smoothed[part] = features[_without_self(found, start)].mean(axis=1)
    means = rearrange(torch.from_numpy(smoothed), "(v h w) e -> v e h w", v=views, h=height)
    return means.contiguous().to(field.device)


def _without_self(found: Int64[np.ndarray, "n k"], first: int) -> Int64[np.ndarray, "n j"]:
    """Drop each query's own index; the farthest one where many points coincide and its own is not among them."""
    own = found == np.arange(first, first + len(found))[:, None]
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(len(found), -1)
