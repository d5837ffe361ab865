"""Settings of the training loop, the same for every task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_COUNTS = ("steps", "batch_size", "accumulation", "evaluate_every", "log_every", "checkpoint_every")
_AMOUNTS = ("warmup_steps", "learning_rate", "weight_decay", "clip_norm", "checkpoint_minutes")
_SHARES = ("ema_decay", "final_fraction")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a run; batches count scenes of one optimiser step over all processes."""

    output: str  # folder for checkpoints, metrics.jsonl, tracker files and the exported weights
    steps: int
    batch_size: int
    accumulation: int = 1  # micro-batches a step: same result, less memory
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for the matrices of hidden layers, AdamW for the rest
    learning_rate: float = 1e-3
    warmup_steps: int = 200  # linear from 0
    final_fraction: float = 0.01  # the cosine ends at this share of the learning rate
    weight_decay: float = 0.05  # on matrices; never on biases, norms and tokens
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    ema_decay: float = 0.999  # of the weights that are evaluated and exported; starts lower
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast where the task allows it; weights stay fp32
    evaluate_every: int = 1000  # steps; also at step 0 and at the end
    log_every: int = 20
    checkpoint_every: int = 1000  # steps; also at the end and when stopped
    checkpoint_minutes: float = 10.0
    max_minutes: float | None = None  # stop cleanly after so long, this start alone; the same command resumes
    seed: int = 0
    trackers: tuple[str, ...] = ("tensorboard",)  # of accelerate; empty = metrics.jsonl alone
    device: Literal["auto", "cpu"] = "auto"

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} must be >= 1, got {getattr(self, name)}")
        for name in _AMOUNTS:
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name} must be >= 0, got {getattr(self, name)}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"training.{name} must be in [0, 1], got {getattr(self, name)}")
