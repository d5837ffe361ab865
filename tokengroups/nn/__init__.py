"""Plain network blocks shared by the models."""

from __future__ import annotations

from tokengroups.nn.blocks import Attention, LayerScale, Mlp, TransformerBlock
from tokengroups.nn.init import init_transformer_weights
from tokengroups.nn.rope import apply_rope, rope_tables

__all__ = [
    "Attention",
    "LayerScale",
    "Mlp",
    "TransformerBlock",
    "apply_rope",
    "init_transformer_weights",
    "rope_tables",
]
