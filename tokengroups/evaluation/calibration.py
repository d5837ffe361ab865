"""Are match probabilities what they say? Expected calibration error over pairs of group and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from tokengroups.evaluation.retrieval_metrics import Query

NUM_BINS = 10


@dataclass(frozen=True)
class MatchPairs:
    """Probability that a group is what a text says, and whether it is."""

    probabilities: Float[np.ndarray, " N"]
    matches: Bool[np.ndarray, " N"]


def match_pairs(
    probabilities: Float[np.ndarray, "Q L"], queries: Sequence[Query], group_classes: Sequence[str]
) -> MatchPairs:
    """All pairs with groups of known class; a text is right where it describes the group's class.

    Args:
        probabilities: Of every query for every group.
        queries: The texts.
        group_classes: Class of each group; "" = unknown.
    """
    matches = np.array([[name in query.classes for name in group_classes] for query in queries], dtype=bool)
    known = np.array([name != "" for name in group_classes], dtype=bool)
    matches = matches.reshape(probabilities.shape)
    return MatchPairs(probabilities[:, known].reshape(-1), matches[:, known].reshape(-1))


def calibration_error(scenes: Sequence[MatchPairs]) -> float:
    """Mean over all pairs of |mean probability - share of matches| of the pair's bin; NaN without a pair.

    Ten bins of equal width; the bin of p is floor(10 p), with 1 in the last (Guo et al., ICML 2017, eq. 3).
    """
    probabilities = np.concatenate([scene.probabilities for scene in scenes]).astype(np.float64)
    matches = np.concatenate([scene.matches for scene in scenes])
    if len(matches) == 0:
        return float("nan")
    bins = np.minimum((probabilities * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    # the number of pairs in a bin cancels: |sum p - sum of matches| is their number times the bin's gap
    gaps = np.bincount(bins, weights=probabilities - matches, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(matches))
