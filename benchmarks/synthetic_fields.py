"""Made-up instance fields with known instances, for `cluster.py` and the tests of clustering.

A scene has three regions of stuff (floor, walls) and elliptic objects whose radius is log-uniform. Centres of the
instances are unit vectors. A view shifts them, they drift smoothly inside an instance, and pixels add noise. A
Gaussian blends borders, as the resizing of feature maps does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor

NUM_STUFF = 3
RADII = (0.02, 0.22)  # of objects, as a share of the photo's shorter side
SEEN = 0.85  # share of the views that show an object
NUM_PAIRS = 5  # of instances that are alike


@dataclass(frozen=True)
class FieldStyle:
    """How instances look in feature space; distances are between unit vectors."""

    num_objects: int = 30
    dim: int = 8
    separation: float = 0.8  # smallest distance of two centres,
    pair_separation: float = 0.5  # but for some pairs that are this far apart
    view_shift: float = 0.03  # standard deviation per channel: of an instance's centre from view to view,
    drift: float = 0.05  # inside an instance,
    noise: float = 0.025  # and from pixel to pixel
    blur: float = 0.9  # pixels at 128 pixels a side
    outliers: float = 0.01  # share of pixels with a random vector


STYLES = {
    "clear": FieldStyle(),
    "noisy": FieldStyle(noise=0.045, drift=0.08, view_shift=0.05, outliers=0.02),
    "close_pairs": FieldStyle(pair_separation=0.35),
    # Radii, distances and ceiling as measured on a small head trained for minutes: smooth, but unsure of itself.
    "learned": FieldStyle(
        num_objects=16,
        separation=0.6,
        pair_separation=0.45,
        view_shift=0.06,
        drift=0.08,
        noise=0.02,
        blur=2.2,
        outliers=0.0,
    ),
}


def make_field(
    views: int, size_hw: tuple[int, int], seed: int, style: FieldStyle
) -> tuple[Float[Tensor, "V E H W"], Int64[Tensor, "V H W"]]:
    """A field and its true instances; ids that no pixel shows are left out, the others are 0, 1, ..."""
    rng = np.random.default_rng(seed)
    centres = _centres(rng, style)
    layout = _Layout.draw(rng, style.num_objects)
    field = torch.empty(views, style.dim, *size_hw)
    ids = np.empty((views, *size_hw), dtype=np.int64)
    for view in range(views):
        ids[view] = layout.paint(rng, size_hw)
        field[view] = torch.from_numpy(_features(rng, ids[view], centres, style))
    return field, torch.from_numpy(np.unique(ids, return_inverse=True)[1].reshape(ids.shape))


@dataclass(frozen=True)
class _Layout:
    """Where things are in the first view, in shares of the shorter side."""

    positions: Float[np.ndarray, "n 2"]
    radii: Float[np.ndarray, "n 2"]
    angles: Float[np.ndarray, " n"]

    @staticmethod
    def draw(rng: np.random.Generator, count: int) -> _Layout:
        radii = np.exp(rng.uniform(*np.log(RADII), size=count))
        squeeze = rng.uniform(0.6, 1.0, size=count)
        order = np.argsort(-radii)  # small ones are painted over large ones
        return _Layout(
            rng.uniform(0.05, 0.95, size=(count, 2)),
            np.stack([radii * squeeze, radii / squeeze], axis=1)[order],
            rng.uniform(0, np.pi, size=count),
        )

    def paint(self, rng: np.random.Generator, size_hw: tuple[int, int]) -> Int64[np.ndarray, "H W"]:
        """Ids of a view: stuff is below NUM_STUFF; the camera and every object have moved a little."""
        height, width = size_hw
        y, x = np.mgrid[:height, :width] / min(size_hw)
        edges = np.sort(rng.normal([0.36, 0.62], 0.02)) * height / min(size_hw)
        slopes = rng.normal(0, 0.05, size=2)
        ids = np.zeros(size_hw, dtype=np.int64)
        for edge, slope in zip(edges, slopes, strict=True):
            ids += y > edge + slope * x
        camera = rng.normal(0, 0.03, size=2)
        extent = np.array(size_hw) / min(size_hw)
        for thing, (radii, angle) in enumerate(zip(self.radii, self.angles, strict=True)):
            row, column = self.positions[thing] * extent + camera + rng.normal(0, 0.01, size=2)
            if rng.random() > SEEN:
                continue
            along = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
            across = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
            ids[(along / radii[0]) ** 2 + (across / radii[1]) ** 2 < 1] = NUM_STUFF + thing
        return ids


def _centres(rng: np.random.Generator, style: FieldStyle) -> Float[np.ndarray, "n E"]:
    """Unit vectors that are `separation` apart; the last ones have a partner that is closer."""
    count = NUM_STUFF + style.num_objects
    centres: list[np.ndarray] = []
    while len(centres) < count - NUM_PAIRS:
        candidate = _unit(rng.normal(size=style.dim))
        if all(np.linalg.norm(candidate - other) >= style.separation for other in centres):
            centres.append(candidate)
    for partner in rng.choice(len(centres), NUM_PAIRS, replace=False):
        centres.append(_at_distance(rng, centres[partner], style.pair_separation))
    return np.stack(centres)[rng.permutation(count)]


def _at_distance(rng: np.random.Generator, centre: np.ndarray, distance: float) -> np.ndarray:
    """A unit vector at a distance of another one."""
    sideways = rng.normal(size=len(centre))
    sideways = _unit(sideways - (sideways @ centre) * centre)
    cosine = 1 - distance**2 / 2
    return cosine * centre + (1 - cosine**2) ** 0.5 * sideways


def _features(
    rng: np.random.Generator, ids: Int64[np.ndarray, "H W"], centres: np.ndarray, style: FieldStyle
) -> Float[np.ndarray, "E H W"]:
    seen = centres + rng.normal(0, style.view_shift, size=centres.shape)
    blur = style.blur * (min(ids.shape) / 128) ** 0.6  # 2 pixels at 518
    drift = _smooth_noise(rng, style.dim, ids.shape) * style.drift
    features = np.empty((style.dim, *ids.shape), dtype=np.float32)
    for channel in range(style.dim):
        features[channel] = gaussian_filter(seen[ids, channel] + drift[channel], blur)
    features += rng.normal(0, style.noise, size=features.shape).astype(np.float32)
    wrong = rng.random(ids.shape) < style.outliers
    features[:, wrong] = _unit(rng.normal(size=(style.dim, int(wrong.sum()))))
    return features


def _smooth_noise(rng: np.random.Generator, channels: int, size_hw: tuple[int, ...]) -> Float[np.ndarray, "E H W"]:
    """Noise of unit variance that changes over about a sixth of the photo."""
    coarse = rng.normal(size=(channels, 7, 7))
    fine = np.asarray(zoom(coarse, (1, size_hw[0] / 7, size_hw[1] / 7), order=1, mode="nearest", grid_mode=True))
    return fine / fine.std()


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors of unit length along the first axis."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=0), 1e-12)
