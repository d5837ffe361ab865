"""Models: photos in, scenes of token groups out."""

from __future__ import annotations

from tokengroups.systems.token_groups.decoder import TokenGroupsConfig, TokenGroupsOutput
from tokengroups.systems.token_groups.system import Reconstruction, TokenGroups
from tokengroups.systems.weights import load_encoder, load_model, shipped_weights

__all__ = [
    "Reconstruction",
    "TokenGroups",
    "TokenGroupsConfig",
    "TokenGroupsOutput",
    "load_encoder",
    "load_model",
    "shipped_weights",
]
