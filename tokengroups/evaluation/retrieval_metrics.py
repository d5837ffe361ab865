"""Retrieval by text: does the first answer to a query cover an instance of what was asked for?

Two ceilings tell how much of a miss is meaning and how much is grouping: the same groups with true names, and true
groups with the model's meaning. Q queries, L groups, M true instances.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from tokengroups.evaluation.masks import STRUCTURE_CLASSES

MIN_SHARE = 0.01  # of the target views' pixels that the asked classes fill together; less is not asked for
LOOSE_IOU, STRICT_IOU = 0.25, 0.5  # a hit lies strictly above


@dataclass(frozen=True)
class Query:
    """A text and the classes of which any instance answers it."""

    text: str
    classes: frozenset[str]


@dataclass(frozen=True)
class SharedPixels:
    """Pixels that groups and visible named instances have in common over a scene's flattened target views."""

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
        """Which instances are of these classes."""
        return np.array([name in classes for name in self.instance_classes], dtype=bool)

    def group_classes(self) -> list[str]:
        """Class that fills most of each group's mask; "" for groups without a pixel of known class."""
        names = sorted(set(self.instance_classes))
        counts = [self.intersections[:, self.are({name})].sum(axis=1) for name in names]
        return [
            names[int(column.argmax())] if column.any() else ""
            for column in np.array(counts, dtype=np.int64).reshape(len(names), len(self.group_sizes)).T
        ]


@dataclass(frozen=True)
class Answers:
    """Of every query asked, in the order of the queries."""

    ious: Float[np.ndarray, " Q"]  # of the first answer's mask with the best instance of the asked classes
    ious_true_labels: Float[np.ndarray, " Q"]  # the same where the truth names the groups
    hits_true_groups: Bool[np.ndarray, " Q"]  # whether the first of the true instances is of the asked classes


def share_pixels(
    masks: Bool[np.ndarray, "L X"], ids: Int[np.ndarray, " X"], classes: Mapping[int, str]
) -> SharedPixels:
    """Count them.

    Args:
        masks: Of the groups.
        ids: True instance of every pixel.
        classes: Class name of every instance; instances without one are left out.
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
    """Every object class by its name."""
    return [Query(name, frozenset({name})) for name in sorted(set(classes)) if name not in STRUCTURE_CLASSES]


def askable(queries: Iterable[Query], shared: SharedPixels) -> list[Query]:
    """The queries whose classes fill enough of the scene's target views."""
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
        queries: Each about an instance that is visible.
        shared: Of the scene.
        group_cosines: Of every query with every group.
        class_cosines: With the name of every instance's class.
        instance_cosines: With the mean rendered feature of every instance.
    """
    if not queries:
        return Answers(np.zeros(0), np.zeros(0), np.zeros(0, dtype=bool))
    by_truth = true_label_tops(shared, class_cosines)
    return Answers(
        ious=_best_ious(queries, shared, group_cosines.argmax(axis=1)),
        ious_true_labels=_best_ious(queries, shared, by_truth),
        hits_true_groups=np.array(
            [
                shared.instance_classes[top] in query.classes
                for query, top in zip(queries, instance_cosines.argmax(axis=1), strict=True)
            ],
            dtype=bool,
        ),
    )


def true_label_tops(shared: SharedPixels, class_cosines: Float[np.ndarray, "Q M"]) -> Int64[np.ndarray, " Q"]:
    """First group of every query if a group is named after the instance that fills most of its mask.

    Of groups with the same cosine, which are those of one class, the one with most pixels of that class comes first.
    """
    label = shared.intersections.argmax(axis=1)
    names, first, which = np.unique(shared.instance_classes, return_index=True, return_inverse=True)
    same_class = which[label][:, None] == which[None]
    pixels = (shared.intersections * same_class).sum(axis=1)
    # Columns of one class are equal but for rounding; one stands for all, so that they are equal.
    cosines = np.where(pixels > 0, class_cosines[:, first[which[label]]], -np.inf)
    return np.array([np.lexsort((-pixels, -row))[0] for row in cosines], dtype=np.int64)


def _best_ious(
    queries: Sequence[Query], shared: SharedPixels, tops: Int64[np.ndarray, " Q"]
) -> Float[np.ndarray, " Q"]:
    ious = shared.ious()
    return np.array(
        [ious[top, shared.are(query.classes)].max() for query, top in zip(queries, tops, strict=True)], dtype=np.float64
    )


def recall(hits: Sequence[Bool[np.ndarray, " _"]]) -> float:
    """Share of hits over the queries of all scenes together; NaN without a query."""
    pooled = np.concatenate([np.zeros(0, dtype=bool), *hits])
    return float(pooled.mean()) if len(pooled) else float("nan")
