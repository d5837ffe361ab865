"""From object queries to instances of the photos: ranked pairs of queries and classes, masks, one label per pixel.

V photos of H x W pixels with mask features of h x w cells, Q queries, E channels, C classes (no object is the last of
them), M instances. A query's masks of all photos are one long mask. The features of all photos times all queries are
never held: cells, queries or photos are taken in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from tokengroups.bounds import Between, Count, CountOrZero, Settings, Share
from tokengroups.encoders.vggt.dpt_head import resize
from tokengroups.postprocess import PhotoGroups
from tokengroups.types import TensorFields

_AT_ONCE = 2**24  # mask logits: 64 MiB


@dataclass(frozen=True)
class DecodeConfig(Settings):
    """Which masks are kept. Without other tags, values are those of code that mirrors the official evaluation."""

    max_pairs: Count = 600  # most probable pairs of a query and a class; one query may be in several
    mask_threshold: Annotated[float, Between(0, 1, open_low=True, open_high=True)] = 0.4  # of a pixel's probability
    score_threshold: Share = 0.0  # scores must be above it; users take 0.05 to 0.25
    min_pixels: CountOrZero = 200  # masks must have more, counted in cells of the features over all photos
    class_agnostic: bool = False  # one pair per query, ranked by 1 - p(no object); unknown whether officially so


@dataclass(frozen=True)
class QueryInstances(TensorFields):
    """Pairs of a query and a class, by descending score; pairs of one query share their mask."""

    queries: Int64[Tensor, " M"]
    classes: Int64[Tensor, " M"]
    scores: Float[Tensor, " M"]  # probability of the class x mean probability inside the mask
    cells: Int64[Tensor, " M"]  # of the mask, over all photos

    def select(self, chosen: Tensor) -> QueryInstances:
        """Keep the pairs with these indices, or where this mask is true."""
        return self.map(lambda tensor: tensor[chosen])


@torch.no_grad()
def find_instances(
    queries: Float[Tensor, "Q E"],
    features: Float[Tensor, "V h w E"],
    class_logits: Float[Tensor, "Q C"],
    config: DecodeConfig,
) -> QueryInstances:
    """Rank and filter pairs as the official evaluation does; their masks overlap, and nothing is suppressed.

    Args:
        queries: Mask embeddings: their products with the features are mask logits.
        features: Of all photos.
        class_logits: Of the queries.
        config: Thresholds.

    Raises:
        ValueError: A prediction is NaN or infinite.

    Example:
        >>> import torch
        >>> from tokengroups.systems.segvggt.decode import DecodeConfig, find_instances
        >>> features = torch.tensor([[[[9.0], [9.0], [-9.0]]]])  # one photo of three cells, one channel
        >>> logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 9.0]])  # a query of class 0, and one of no object
        >>> found = find_instances(torch.ones(2, 1), features, logits, DecodeConfig(score_threshold=0.5, min_pixels=0))
        >>> found.queries, found.classes, found.cells
        (tensor([0]), tensor([0]), tensor([2]))
    """
    queries, features, class_logits = queries.float(), features.float(), class_logits.float()
    _check_finite(queries, features, class_logits)
    pairs, classes, chances = _best_pairs(class_logits.softmax(dim=-1), config)
    mask_scores, cells = _mask_statistics(queries, features.flatten(0, 2), config.mask_threshold)
    scores, order = (chances * mask_scores[pairs]).sort(descending=True, stable=True)
    found = QueryInstances(pairs[order], classes[order], scores, cells[pairs[order]])
    return found.select((found.scores > config.score_threshold) & (found.cells > config.min_pixels))


@torch.no_grad()
def photo_masks(
    queries: Float[Tensor, "M E"], features: Float[Tensor, "V h w E"], size_hw: tuple[int, int], mask_threshold: float
) -> Iterator[Bool[Tensor, "M H W"]]:
    """Masks at the photos' resolution, photo after photo; logits are resized, then compared with the threshold.

    Args:
        queries: Those of `QueryInstances`, `queries[found.queries.unique()]`: pairs of one query share their mask.
        features: Of all photos.
        size_hw: Of the photos.
        mask_threshold: Of a pixel's probability.
    """
    for photo in features.float():
        blocks = _resized_probabilities(queries.float(), photo, size_hw)
        masks = [probabilities > mask_threshold for _, probabilities in blocks]
        yield torch.cat(masks) if masks else torch.zeros(0, *size_hw, dtype=torch.bool, device=photo.device)


@torch.no_grad()
def exclusive_labels(
    queries: Float[Tensor, "M E"],
    scores: Float[Tensor, " M"],
    features: Float[Tensor, "V h w E"],
    size_hw: tuple[int, int],
    mask_threshold: float,
) -> Int64[Tensor, "V H W"]:
    """Index of the mask with the largest product of score and probability at every pixel; -1 where there is no mask.

    Of equal products the first counts.
    """
    labels = torch.full((len(features), *size_hw), -1, dtype=torch.int64, device=features.device)
    for label, photo in zip(labels, features.float(), strict=True):
        best = torch.zeros(size_hw, device=features.device)
        for first, probabilities in _resized_probabilities(queries.float(), photo, size_hw):
            inside = probabilities > mask_threshold
            products = scores[first : first + len(inside), None, None] * probabilities * inside
            largest, index = products.max(dim=0)
            better = largest > best
            best[better], label[better] = largest[better], first + index[better]
    return labels


@torch.no_grad()
def exclusive_instances(
    queries: Float[Tensor, "Q E"],
    features: Float[Tensor, "V h w E"],
    class_logits: Float[Tensor, "Q C"],
    size_hw: tuple[int, int],
    config: DecodeConfig,
) -> tuple[Int64[Tensor, "V H W"], QueryInstances]:
    """One label per pixel, as scenes, segmentation and tracking need it.

    Every query has its best class only. Instances of which others leave nothing, or not more than as many pixels as
    `config.min_pixels` cells have, are dropped; their pixels get no other label.

    Returns:
        Labels at the photos' resolution, -1 = none, and the instances that they are indices of, by descending score.
    """
    found = find_instances(queries, features, class_logits, config)
    found = found.select(_first_of_each(found.queries))
    chosen = queries[found.queries]
    labels = exclusive_labels(chosen, found.scores, features, size_hw, config.mask_threshold)
    least = config.min_pixels * (size_hw[0] * size_hw[1]) // (features.shape[1] * features.shape[2])
    shown = torch.bincount(labels[labels >= 0], minlength=len(found.scores)) > least
    numbers = torch.where(shown, shown.long().cumsum(0) - 1, -1)
    renumbered = torch.cat([numbers, numbers.new_full((1,), -1)])
    return renumbered[labels], found.select(shown)  # label -1 takes the last entry


def photo_groups(labels: Int64[Tensor, "V H W"], found: QueryInstances, class_names: Sequence[str]) -> PhotoGroups:
    """Exclusive instances as groups of photos, with the names of their classes."""
    names = tuple(class_names[int(index)] for index in found.classes)
    return PhotoGroups(labels, found.scores, names=names)


def _best_pairs(
    probabilities: Float[Tensor, "Q C"], config: DecodeConfig
) -> tuple[Int64[Tensor, " M"], Int64[Tensor, " M"], Float[Tensor, " M"]]:
    """Query, class and probability of the most probable pairs, the first ones of equal pairs."""
    known = probabilities[:, :-1]
    if config.class_agnostic:
        chances, order = (1 - probabilities[:, -1]).sort(descending=True, stable=True)
        query = order[: config.max_pairs]
        return query, known[query].argmax(dim=1), chances[: config.max_pairs]
    chances, order = known.flatten().sort(descending=True, stable=True)
    order = order[: config.max_pairs]
    return order // known.shape[1], order % known.shape[1], chances[: config.max_pairs]


def _mask_statistics(
    queries: Float[Tensor, "Q E"], cells: Float[Tensor, "X E"], mask_threshold: float
) -> tuple[Float[Tensor, " Q"], Int64[Tensor, " Q"]]:
    """Mean probability where it is above 1/2, and the number of cells above the threshold."""
    total = queries.new_zeros(len(queries))
    sure = counts = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
    for part in cells.split(max(_AT_ONCE // max(len(queries), 1), 1)):
        logits = queries @ part.T
        probabilities = logits.sigmoid()
        total, sure = total + (probabilities * (logits > 0)).sum(dim=1), sure + (logits > 0).sum(dim=1)
        counts = counts + (probabilities > mask_threshold).sum(dim=1)
    return total / (sure + 1e-6), counts


def _resized_probabilities(
    queries: Float[Tensor, "M E"], photo: Float[Tensor, "h w E"], size_hw: tuple[int, int]
) -> Iterator[tuple[int, Float[Tensor, "m H W"]]]:
    """Probabilities of some masks at a time in one photo, with the index of the first of them.

    The corner cells of the features lie on the corner pixels of the photo.
    """
    block = max(_AT_ONCE // (size_hw[0] * size_hw[1]), 1)
    for first in range(0, len(queries), block):
        logits = torch.einsum("me,hwe->mhw", queries[first : first + block], photo)
        yield first, resize(logits[None], size_hw)[0].sigmoid()


def _first_of_each(values: Int64[Tensor, " M"]) -> Int64[Tensor, " n"]:
    """Indices at which values come for the first time, ascending."""
    _, inverse = values.unique(return_inverse=True)
    places = torch.arange(len(values), device=values.device)
    count = int(inverse.max()) + 1 if len(values) else 0
    first = places.new_full((count,), len(values)).scatter_reduce(0, inverse, places, "amin")
    return first.sort().values


def _check_finite(*tensors: Tensor) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise ValueError("queries, features and class logits must be finite")
