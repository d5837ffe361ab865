"""Text to groups: which groups of a scene a text names, and what each group is called."""

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
