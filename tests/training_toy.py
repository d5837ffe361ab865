"""A task small enough to train in tests, as a module and as a script (for signals and process groups)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokengroups.checkpoint import save_weights
from tokengroups.config import config_to_dict
from tokengroups.losses.terms import LossTerms
from tokengroups.nn.parameter_groups import decay_groups
from tokengroups.training.config import TrainingConfig
from tokengroups.training.loop import TrainingResult, train
from tokengroups.types import TensorFields

SEED = 0


@dataclass(frozen=True)
class Pairs(TensorFields):
    inputs: Tensor
    targets: Tensor


class ToyTask:
    """Learns a fixed linear map through a two-layer network with dropout."""

    model: nn.Module

    def __init__(self, *, pause: float = 0.0, dropout: float = 0.1, poison: range = range(0)) -> None:
        torch.manual_seed(SEED)
        layers = [nn.Linear(4, 16), nn.LayerNorm(16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 3)]
        self.model = nn.Sequential(*layers)
        self.pause = pause  # seconds a step
        self.poison = poison  # steps whose loss is NaN
        self.map = torch.from_numpy(np.random.default_rng(SEED).normal(size=(4, 3))).float()

    def batch(self, step: int, slots: range) -> Pairs:
        draws = [np.random.default_rng([SEED, step, slot]).normal(size=(8, 4)) for slot in slots]
        inputs = torch.from_numpy(np.stack(draws)).float()
        return Pairs(inputs, inputs @ self.map)

    def losses(self, batch: Pairs, step: int) -> LossTerms:
        time.sleep(self.pause)
        squared = (self.model(batch.inputs) - batch.targets).square().mean()
        total = squared * float("nan") if step in self.poison else squared
        return LossTerms(total, {"squared": squared.detach()})

    def evaluate(self) -> dict[str, float]:
        batch = self.batch(1_000_000, range(4))
        return {"squared": float((self.model(batch.inputs) - batch.targets).square().mean())}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return decay_groups(self.model, 0.05)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        save_weights(folder, state, {"toy": True})


def toy_config(output: Path | str, **changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "output": str(output),
        "steps": 12,
        "batch_size": 4,
        "warmup_steps": 3,
        "learning_rate": 1e-2,
        "log_every": 2,
        "evaluate_every": 5,
        "checkpoint_every": 4,
        "trackers": (),
        "device": "cpu",
    }
    return TrainingConfig(**(values | changes))


def run_toy(output: Path | str, task: ToyTask | None = None, **changes: Any) -> TrainingResult:
    config = toy_config(output, **changes)
    return train(task or ToyTask(), config, {"training": config_to_dict(config)})


if __name__ == "__main__":
    run_toy(sys.argv[1], ToyTask(pause=float(sys.argv[2]), dropout=float(sys.argv[3])))
