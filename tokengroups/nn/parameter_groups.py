"""Optimiser groups of a module's trainable parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


def decay_groups(
    model: nn.Module, weight_decay: float, lr_scale: float = 1.0, hidden: Sequence[nn.Module] = ()
) -> list[dict[str, Any]]:
    """Optimiser groups of the trainable parameters: with and without weight decay, and matrices for Muon.

    Decayed: weights of Linear and convolution layers. Everything else (biases, norms, LayerScale, learned tokens
    and positions) is not. The weights of Linear layers within the modules `hidden` form a group of their own with
    ``muon`` = True.
    """
    inner = {id(module.weight) for part in hidden for module in part.modules() if isinstance(module, nn.Linear)}
    matrices = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d))
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    muon = [parameter for parameter in trainable if id(parameter) in inner]
    decayed = [parameter for parameter in trainable if id(parameter) in matrices - inner]
    others = [parameter for parameter in trainable if id(parameter) not in matrices]
    groups = [
        {"params": decayed, "weight_decay": weight_decay, "lr_scale": lr_scale},
        {"params": others, "weight_decay": 0.0, "lr_scale": lr_scale},
        {"params": muon, "weight_decay": weight_decay, "lr_scale": lr_scale, "muon": True},
    ]
    return [group for group in groups if group["params"]]
