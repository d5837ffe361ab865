"""Initial weights of transformers."""

from __future__ import annotations

from torch import nn


def init_transformer_weights(module: nn.Module, std: float = 0.02) -> None:
    """Truncated-normal weights and zero biases for every linear layer in `module` (as ViT does)."""
    for child in module.modules():
        if isinstance(child, nn.Linear):
            nn.init.trunc_normal_(child.weight, std=std)
            if child.bias is not None:
                nn.init.zeros_(child.bias)
