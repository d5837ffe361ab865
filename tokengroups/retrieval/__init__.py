"""Retrieval of groups by text, and names for groups."""

from tokengroups.retrieval.mask_pooling import embed_groups, embed_reconstruction, pool_masks
from tokengroups.retrieval.search import (
    MATCH_PROBABILITY,
    GroupLabel,
    GroupMatch,
    best_names,
    find_groups,
    match_probabilities,
    name_groups,
    rank,
    semantics_of,
    text_cosines,
)

__all__ = [
    "MATCH_PROBABILITY",
    "GroupLabel",
    "GroupMatch",
    "best_names",
    "embed_groups",
    "embed_reconstruction",
    "find_groups",
    "match_probabilities",
    "name_groups",
    "pool_masks",
    "rank",
    "semantics_of",
    "text_cosines",
]
