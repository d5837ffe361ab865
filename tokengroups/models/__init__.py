"""Models: photos in, scenes of token groups out."""

from __future__ import annotations

from tokengroups.models.reconstruction import Reconstruction, TokenGroups
from tokengroups.models.token_groups import TokenGroupsConfig, TokenGroupsOutput
from tokengroups.models.weights import load_encoder, load_model, shipped_weights

__all__ = [
    "Reconstruction",
    "TokenGroups",
    "TokenGroupsConfig",
    "TokenGroupsOutput",
    "load_encoder",
    "load_model",
    "shipped_weights",
]
