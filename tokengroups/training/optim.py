"""Learning-rate schedule, weight-decay groups and the exponential moving average of the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tokengroups.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Rate of the step after `step` finished ones: linear warm-up, then half a cosine down to the final fraction."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * cosine)


def ema_decay(step: int, target: float) -> float:
    """Decay of the average at a step: starts at 0.1 and grows, so that the random start is soon forgotten."""
    return min(target, (1 + step) / (10 + step))


def decay_groups(model: nn.Module, weight_decay: float, lr_scale: float = 1.0) -> list[dict[str, Any]]:
    """Two optimiser groups of the trainable parameters: with and without weight decay.

    Decayed: weights of Linear and convolution layers. Everything else (biases, norms, LayerScale, learned tokens
    and positions) is not.
    """
    matrices = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d))
    }
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trainable if id(parameter) in matrices]
    others = [parameter for parameter in trainable if id(parameter) not in matrices]
    groups = [
        {"params": decayed, "weight_decay": weight_decay, "lr_scale": lr_scale},
        {"params": others, "weight_decay": 0.0, "lr_scale": lr_scale},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(
    groups: list[dict[str, Any]], model: nn.Module, config: TrainingConfig
) -> torch.optim.AdamW:
    """AdamW over a task's parameter groups, which must hold every trainable parameter of the model once."""
    covered = sorted(id(parameter) for group in groups for parameter in group["params"])
    trainable = sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    assert covered == trainable, f"groups cover {len(covered)} of {len(trainable)} trainable parameters"
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group, times the group's ``lr_scale``."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


class AveragedWeights:
    """Exponential moving average of a model's trainable parameters."""

    def __init__(self, model: nn.Module) -> None:
        self.names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.live: list[Tensor] = [p.detach() for p in model.parameters() if p.requires_grad]
        self.average: list[Tensor] = [tensor.clone() for tensor in self.live]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move the average towards the weights as they stand."""
        torch._foreach_lerp_(self.average, self.live, 1 - decay)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged weights into the model for the block; the trained ones come back bit-equal."""
        kept = [tensor.clone() for tensor in self.live]
        torch._foreach_copy_(self.live, self.average)
        try:
            yield
        finally:
            torch._foreach_copy_(self.live, kept)
