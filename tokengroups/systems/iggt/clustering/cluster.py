"""Instances from a field of features over all views: cells, regions, groups of regions, labels of pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.systems.iggt.clustering.cells import FieldReader, cell_size
from tokengroups.systems.iggt.clustering.config import ClusteringConfig
from tokengroups.systems.iggt.clustering.hdbscan import hdbscan
from tokengroups.systems.iggt.clustering.labelling import Labelling, label_pixels
from tokengroups.systems.iggt.clustering.linkage import join_close, linkage
from tokengroups.systems.iggt.clustering.mean_shift import mean_shift
from tokengroups.systems.iggt.clustering.regions import Regions, find_regions
from tokengroups.systems.iggt.clustering.smoothing import smooth_in_space

JOIN = 0.8  # groups whose means are closer than this are one, in granularities

# Points in feature space, one or more for each instance, and their weights.
Method = Callable[[FieldReader, Regions, float], tuple[Float[np.ndarray, "n E"], Float[np.ndarray, " n"]]]
METHODS: dict[str, Method] = {
    "mean_shift": lambda _, regions, granularity: mean_shift(regions, granularity),
    "linkage": lambda _, regions, granularity: linkage(regions, granularity),
    "hdbscan": hdbscan,
}


@dataclass(frozen=True)
class Instances:
    """Instances that are the same in all views, the largest first."""

    labels: Int64[Tensor, "V H W"]  # 0 ... M - 1; -1 outside a mask
    margins: Float[Tensor, "V H W"]  # distance to the second nearest prototype minus that to the nearest
    prototypes: Float[Tensor, "M E"]
    scores: Float[Tensor, " M"]  # mean margin: the confidence of an instance

    def within(self, mask: Bool[Tensor, "V H W"]) -> Instances:
        """The instances of some pixels alone."""
        kept = self.labels[mask].unique()
        new = torch.full_like(self.scores, -1, dtype=torch.int64)
        new[kept] = torch.arange(len(kept), device=kept.device)
        labels = torch.where(mask, new[self.labels], -1)
        return Instances(labels, self.margins, self.prototypes[kept], self.scores[kept])


def cluster_field(
    field: Float[Tensor, "V E H W"], config: ClusteringConfig, points: Float[Tensor, "V H W 3"] | None = None
) -> Instances:
    """Group all pixels of all views into instances by their features.

    The same field gives the same instances. The memory is that of the result and little more, unless it is smoothed.

    Args:
        field: Features in any length.
        config: Method and granularity.
        points: World points of the pixels, needed for smoothing only.

    Raises:
        ValueError: The field is empty or not finite, or there are no points to smooth with.
        UserError: The method's package is not installed.

    Example:
        >>> from tokengroups.systems.iggt.clustering import ClusteringConfig, cluster_field
        >>> field = torch.zeros(2, 8, 16, 16)
        >>> field[:, 0], field[:, 1, :, 10:] = 1.0, 5.0  # a thing on the right of both photos
        >>> cluster_field(field, ClusteringConfig()).labels[1, 0].tolist()
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    """
    _check(field)
    if config.smoothing and points is None:
        raise ValueError("smoothing averages over neighbours in space: pass the world points of the pixels")
    if config.smoothing and points is not None:
        field = smooth_in_space(field, points, config.smoothing)
    cell = config.cell or cell_size((field.shape[-2], field.shape[-1]))
    reader = FieldReader(field, cell, normalise=not config.smoothing)
    labelling = label_pixels(reader, find_prototypes(reader, config), config.min_pixels, config.granularity)
    return Instances(
        labelling.labels.to(field.device),
        labelling.margins.to(field.device),
        torch.from_numpy(labelling.prototypes).float().to(field.device),
        _scores(labelling).to(field.device),
    )


def find_prototypes(reader: FieldReader, config: ClusteringConfig) -> Float[np.ndarray, "M E"]:
    """A mean feature for each instance, large or small; the mean of everything where no two neighbours are alike."""
    regions = find_regions(reader, config)
    if len(regions.sizes) == 0:
        means = [reader.cells(view).mean(axis=(0, 1), dtype=np.float64) for view in range(reader.num_views)]
        return np.mean(means, axis=0, keepdims=True)
    centres, weights = METHODS[config.method](reader, regions, config.granularity)
    return join_close(centres, weights, JOIN * config.granularity)[0]


def _check(field: Float[Tensor, "V E H W"]) -> None:
    if field.numel() == 0:
        raise ValueError(f"there is nothing to cluster in a field of shape {tuple(field.shape)}")
    for number, view in enumerate(field):
        if not torch.isfinite(view).all():
            raise ValueError(f"the field of view {number} holds NaN or infinity")


def _scores(labelling: Labelling) -> Float[Tensor, " M"]:
    """Mean margin of every instance."""
    sums = torch.zeros(len(labelling.sizes), dtype=torch.float64)
    for labels, margins in zip(labelling.labels, labelling.margins, strict=True):
        sums += torch.bincount(labels.flatten(), margins.flatten().double(), minlength=len(sums))
    return (sums / torch.from_numpy(labelling.sizes)).float()
