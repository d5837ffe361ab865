"""Learning-rate schedule, optimisers and the exponential moving average of the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tokengroups.errors import UserError
from tokengroups.training.config import TrainingConfig


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Learning rate after `step` finished steps: linear warm-up, then half a cosine down to the final fraction."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * cosine)


def ema_decay(step: int, target: float) -> float:
    """Decay of the average at a step; it grows from 0.1, so that the random initial weights soon lose influence."""
    return min(target, (1 + step) / (10 + step))


def build_optimizer(groups: list[dict[str, Any]], model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Build AdamW, or Muon and AdamW, over groups that hold every trainable parameter of the model once.

    Raises:
        UserError: Groups for Muon, and a torch that does not have it.
    """
    covered = sorted(id(parameter) for group in groups for parameter in group["params"])
    trainable = sorted(id(parameter) for parameter in model.parameters() if parameter.requires_grad)
    assert covered == trainable, f"groups cover {len(covered)} of {len(trainable)} trainable parameters"
    if any(group.get("muon") for group in groups):
        return MuonAdamW(groups, config)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def state_shapes(optimizer: torch.optim.Optimizer) -> dict[nn.Parameter, dict[str, torch.Size]]:
    """Shapes of what an optimiser of `build_optimizer` keeps for every parameter from its first step on, by name."""
    shapes: dict[nn.Parameter, dict[str, torch.Size]] = {}
    for group in optimizer.param_groups:
        moments = ("momentum_buffer",) if group.get("muon") else ("exp_avg", "exp_avg_sq")
        count = {} if group.get("muon") else {"step": torch.Size()}
        shapes |= {parameter: count | dict.fromkeys(moments, parameter.shape) for parameter in group["params"]}
    return shapes


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for groups with ``muon`` = True, AdamW for the others; one state, one list of groups.

    Muon orthogonalises the momentum of a matrix. Its rate is scaled to updates of AdamW's size (Liu et al., "Muon is
    scalable for LLM training", 2025), so that one schedule suits both.
    """

    def __init__(self, groups: list[dict[str, Any]], config: TrainingConfig) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise UserError(f"training.optimizer muon needs torch >= 2.9, this is {torch.__version__}; set it to adamw")
        super().__init__(groups, {})
        matrices = [group for group in groups if group.get("muon")]
        others = [group for group in groups if not group.get("muon")]
        rate = config.learning_rate
        self.parts: list[torch.optim.Optimizer] = [torch.optim.Muon(matrices, lr=rate, adjust_lr_fn="match_rms_adamw")]
        if others:
            self.parts.append(torch.optim.AdamW(others, lr=rate, betas=config.betas, fused=True))
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        for part in self.parts:
            part.state = self.state  # keyed by parameter, of which they share none

    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step of both."""
        assert closure is None
        for part in self.parts:
            part.step()


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
        """Move the average towards the present weights."""
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
