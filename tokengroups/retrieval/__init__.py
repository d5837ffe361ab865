"""Retrieval of groups by text, and names for groups."""

from tokengroups.retrieval.search import (
    MATCH_PROBABILITY,
    GroupLabel,
    GroupMatch,
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
    "find_groups",
    "match_probabilities",
    "name_groups",
    "rank",
    "semantics_of",
    "text_cosines",
]
