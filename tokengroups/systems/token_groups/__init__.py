"""Token groups (arXiv 2606.29513): anchors and group tokens on a frozen encoder."""

from __future__ import annotations

from tokengroups.systems.token_groups.config import TokenGroupsConfig
from tokengroups.systems.token_groups.model import TokenGroupModel, TokenGroupsOutput
from tokengroups.systems.token_groups.objective import TokenGroupsLossWeights, TokenGroupsObjective
from tokengroups.systems.token_groups.system import TokenGroups, TokenGroupsSettings

__all__ = [
    "TokenGroupModel", "TokenGroups", "TokenGroupsConfig", "TokenGroupsLossWeights", "TokenGroupsObjective",
    "TokenGroupsOutput", "TokenGroupsSettings",
]  # fmt: skip
