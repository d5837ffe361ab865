"""A task small enough to train in tests, as a module and as a script (for signals and process groups)."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tokengroups.checkpoint import save_weights
from tokengroups.config import config_to_dict
from tokengroups.training.config import TrainingConfig
from tokengroups.training.loop import TrainingResult, train
from tokengroups.training.optim import decay_groups
from tokengroups.training.task import LossTerms
from tokengroups.types import TensorFields


@dataclass(frozen=True)
class Pairs(TensorFields):
    inputs: Tensor
    targets: Tensor


class ToyTask:
    """Learns a fixed linear map through a two-layer network with dropout; `pause` seconds a step."""

    def __init__(self, seed: int = 0, pause: float = 0.0, dropout: float = 0.1, poison: frozenset[int] = frozenset()):
        torch.manual_seed(seed)
        layers = [nn.Linear(4, 16), nn.LayerNorm(16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 3)]
        self.model = nn.Sequential(*layers)
        self.seed, self.pause, self.poison = seed, pause, poison
        self.map = torch.from_numpy(np.random.default_rng(seed).normal(size=(4, 3))).float()

    def batch(self, step: int, slots: range) -> Pairs:
        draws = [np.random.default_rng([self.seed, step, slot]).normal(size=(8, 4)) for slot in slots]
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

    def export(self, folder: Path, state: dict[str, Tensor]) -> None:
        save_weights(folder, state, {"toy": True})


def toy_config(output: Path | str, **changes: Any) -> TrainingConfig:
    values: dict[str, Any] = {
        "output": str(output), "steps": 12, "batch_size": 4, "warmup_steps": 3, "learning_rate": 1e-2, "log_every": 2,
        "evaluate_every": 5, "checkpoint_every": 4, "trackers": (), "device": "cpu",
    }  # fmt: skip
    return TrainingConfig(**(values | changes))


def run_toy(output: Path | str, task: ToyTask | None = None, **changes: Any) -> TrainingResult:
    config = toy_config(output, **changes)
    return train(task or ToyTask(), config, {"training": config_to_dict(config)})


if __name__ == "__main__":
    pause, dropout, steps = float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    outcome = run_toy(sys.argv[1], ToyTask(pause=pause, dropout=dropout), steps=steps)
    sys.exit(128 + outcome.signal if outcome.signal else 0)
