"""Answers without a model: from names, colours, sizes and relations of the groups, else from their embeddings."""

from tokengroups.grounding.offline.answerer import OfflineAnswerer

__all__ = ["OfflineAnswerer"]
