"""The system of the shipped weights: token groups with additions for the tiny encoder."""

from __future__ import annotations

from dataclasses import dataclass, field

from tokengroups.encoders import Encoder
from tokengroups.encoders.base import SINGLE_VIEW_FEATURES
from tokengroups.systems.token_groups.system import TokenGroups, TokenGroupsSettings
from tokengroups.systems.token_groups_tiny.model import TokenGroupsTinyConfig, TokenGroupTinyModel
from tokengroups.systems.token_groups_tiny.objective import TokenGroupsTinyLossWeights, TokenGroupsTinyObjective


@dataclass(frozen=True)
class TokenGroupsTinySettings(TokenGroupsSettings):
    """The keys of a configuration with ``task: token_groups_tiny``, beside ``training`` and ``data``."""

    model: TokenGroupsTinyConfig = field(default_factory=TokenGroupsTinyConfig)
    losses: TokenGroupsTinyLossWeights = field(default_factory=TokenGroupsTinyLossWeights)


class TokenGroupsTiny(TokenGroups):
    """Token groups whose model may read single-view features; arguments as `TokenGroups`."""

    config_class = TokenGroupsTinyConfig
    settings_class = TokenGroupsTinySettings
    objective_class = TokenGroupsTinyObjective
    optional_parts = ("semantic_head.", "context_single_view.", "anchor_single_view.")

    @staticmethod
    def build_network(config: TokenGroupsTinyConfig, encoder: Encoder) -> TokenGroupTinyModel:
        """The untrained model that fits an encoder.

        Raises:
            ValueError: The configuration asks for single-view features that the encoder does not predict.
        """
        return TokenGroupTinyModel(config, encoder.feature_dim, encoder.evidence_dims.get(SINGLE_VIEW_FEATURES, ()))
