"""Token groups with additions for the tiny encoder: single-view features, anchor losses, more anchors for more photos.

None of it is in the paper; `systems.token_groups` is.
"""

from __future__ import annotations

from tokengroups.systems.token_groups_tiny.model import TokenGroupsTinyConfig, TokenGroupTinyModel
from tokengroups.systems.token_groups_tiny.objective import TokenGroupsTinyLossWeights
from tokengroups.systems.token_groups_tiny.system import TokenGroupsTiny, TokenGroupsTinySettings

__all__ = [
    "TokenGroupTinyModel", "TokenGroupsTiny", "TokenGroupsTinyConfig", "TokenGroupsTinyLossWeights",
    "TokenGroupsTinySettings",
]  # fmt: skip
