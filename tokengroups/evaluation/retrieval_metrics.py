"""Recall and calibration of retrieval by text.

A query is a hit if its first answer covers an instance of the queried classes. Two ceilings separate errors of
semantics from errors of grouping: the same groups with true names, and true groups with the model's semantics.
Q queries, L groups, M true instances.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from tokengroups.evaluation.masks import STRUCTURE_CLASSES

MIN_SHARE = 0.01  # a query's classes fill at least this share of the target views' pixels, or it is left out
LOOSE_IOU, STRICT_IOU = 0.25, 0.5  # a hit lies strictly above
NUM_BINS = 10  # of the calibration error


@dataclass(frozen=True)
class Query:
    """A text, and the classes whose instances are right answers."""

    text: str
    classes: frozenset[str]


@dataclass(frozen=True)
class SharedPixels:
    """Pixel counts of groups, visible named instances and their intersections over a scene's target views."""

    group_sizes: Int64[np.ndarray, " L"]
    instance_sizes: Int64[np.ndarray, " M"]
    intersections: Int64[np.ndarray, "L M"]
    instance_ids: tuple[int, ...]
    instance_classes: tuple[str, ...]
    num_pixels: int

    def ious(self) -> Float[np.ndarray, "L M"]:
        """IoU of every group's mask with every instance."""
        return self.intersections / (self.group_sizes[:, None] + self.instance_sizes[None] - self.intersections)

    def are(self, classes: Collection[str]) -> Bool[np.ndarray, " M"]:
        """Mask of the instances of these classes."""
        return np.array([name in classes for name in self.instance_classes], dtype=bool)

    def group_classes(self) -> list[str]:
        """Most frequent class in each group's mask; "" for groups without a pixel of known class."""
        names = sorted(set(self.instance_classes))
        counts = [self.intersections[:, self.are({name})].sum(axis=1) for name in names]
        return [
            names[int(column.argmax())] if column.any() else ""
            for column in np.array(counts, dtype=np.int64).reshape(len(names), len(self.group_sizes)).T
        ]


@dataclass(frozen=True)
class Answers:
    """First answers to the queries of a scene, by the model and by the two ceilings."""

    ious: Float[np.ndarray, " Q"]  # of the first answer's mask with the best instance of the query's classes
    ious_true_labels: Float[np.ndarray, " Q"]  # the same if groups have the names of their true classes
    hits_true_groups: Bool[np.ndarray, " Q"]  # the first of the true instances is of the query's classes


@dataclass(frozen=True)
class MatchPairs:
    """Pairs of a text and a group: predicted probability of a match, and the truth."""

    probabilities: Float[np.ndarray, " N"]
    matches: Bool[np.ndarray, " N"]


def share_pixels(
    masks: Bool[np.ndarray, "L X"], ids: Int[np.ndarray, " X"], classes: Mapping[int, str]
) -> SharedPixels:
    """Count the pixels that groups and named instances have in common.

    Args:
        masks: Masks of the groups.
        ids: True instance of every pixel.
        classes: Class names of the instances; instances without one are left out.
    """
    visible = [int(instance) for instance in np.unique(ids) if int(instance) in classes]
    instances = ids[None] == np.array(visible, dtype=ids.dtype)[:, None]
    # float32 counts exactly up to 2^24 pixels and multiplies fast
    intersections = masks.astype(np.float32) @ instances.astype(np.float32).T
    return SharedPixels(
        group_sizes=masks.sum(axis=1, dtype=np.int64),
        instance_sizes=instances.sum(axis=1, dtype=np.int64),
        intersections=intersections.astype(np.int64),
        instance_ids=tuple(visible),
        instance_classes=tuple(classes[instance] for instance in visible),
        num_pixels=len(ids),
    )


def name_queries(classes: Iterable[str]) -> list[Query]:
    """One query per object class: its name."""
    return [Query(name, frozenset({name})) for name in sorted(set(classes)) if name not in STRUCTURE_CLASSES]


def askable(queries: Iterable[Query], shared: SharedPixels) -> list[Query]:
    """Queries whose classes fill enough of the scene's target views."""
    least = MIN_SHARE * shared.num_pixels
    return [query for query in queries if shared.instance_sizes[shared.are(query.classes)].sum() >= least]


def answer(
    queries: Sequence[Query],
    shared: SharedPixels,
    group_cosines: Float[np.ndarray, "Q L"],
    class_cosines: Float[np.ndarray, "Q M"],
    instance_cosines: Float[np.ndarray, "Q M"],
) -> Answers:
    """First answers of the model and of the two ceilings.

    Args:
        queries: Queries with a visible instance.
        shared: Pixel counts of the scene.
        group_cosines: Cosines of the queries with the groups' embeddings.
        class_cosines: Cosines of the queries with the names of the instances' classes.
        instance_cosines: Cosines of the queries with the instances' mean rendered features.
    """
    if not queries:
        return Answers(np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool))
    right = np.stack([shared.are(query.classes) for query in queries])
    ious = np.where(right[:, None], shared.ious(), -np.inf).max(axis=2)
    rows = np.arange(len(queries))
    return Answers(
        ious=ious[rows, group_cosines.argmax(axis=1)],
        ious_true_labels=ious[rows, true_label_tops(shared, class_cosines)],
        hits_true_groups=right[rows, instance_cosines.argmax(axis=1)],
    )


def true_label_tops(shared: SharedPixels, class_cosines: Float[np.ndarray, "Q M"]) -> Int64[np.ndarray, " Q"]:
    """First group of every query if a group is named after the most frequent instance in its mask.

    Among groups of one class, which have the same cosine, the one with most pixels of that class comes first.
    """
    label = shared.intersections.argmax(axis=1)
    names, first, which = np.unique(shared.instance_classes, return_index=True, return_inverse=True)
    same_class = which[label][:, None] == which[None]
    pixels = (shared.intersections * same_class).sum(axis=1)
    # Columns of one class are equal except for rounding, so one of them represents all.
    cosines = np.where(pixels > 0, class_cosines[:, first[which[label]]], -np.inf)
    return np.array([np.lexsort((-pixels, -row))[0] for row in cosines], dtype=np.int64)


def recall(hits: Sequence[Bool[np.ndarray, " _"]]) -> float:
    """Share of hits over the queries of all scenes together; NaN without a query."""
    pooled = np.concatenate([np.zeros(0, dtype=bool), *hits])
    return float(pooled.mean()) if len(pooled) else float("nan")


def match_pairs(
    probabilities: Float[np.ndarray, "Q L"], queries: Sequence[Query], group_classes: Sequence[str]
) -> MatchPairs:
    """Pair every query with every group of known class ("" = unknown); they match if the query has that class."""
    matches = np.array([[name in query.classes for name in group_classes] for query in queries], dtype=bool)
    known = np.array([name != "" for name in group_classes], dtype=bool)
    matches = matches.reshape(probabilities.shape)
    return MatchPairs(probabilities[:, known].reshape(-1), matches[:, known].reshape(-1))


def calibration_error(scenes: Sequence[MatchPairs]) -> float:
    """Expected calibration error over the pairs of all scenes (Guo et al., ICML 2017, eq. 3); NaN without a pair.

    The mean of |mean probability - share of matches| of each pair's bin, for bins of equal width; 1 is in the last one.
    """
    probabilities = np.concatenate([np.zeros(0), *(scene.probabilities for scene in scenes)])
    matches = np.concatenate([np.zeros(0, dtype=bool), *(scene.matches for scene in scenes)])
    if len(matches) == 0:
        return float("nan")
    bins = np.minimum((probabilities * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    # The number of pairs in a bin cancels: |sum of p - number of matches| is that number times the bin's gap.
    gaps = np.bincount(bins, weights=probabilities - matches, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(matches))
