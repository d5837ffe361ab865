"""Settings of the training loop, the same for every task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tokengroups.bounds import Between, Count, CountOrZero, Seed, Settings, Share, Weight

Beta = Annotated[float, Between(0, 1, open_high=True)]
Minutes = Annotated[float, Between(0, 10**6)]


@dataclass(frozen=True)
class TrainingConfig(Settings):
    """Settings of a run; batches count scenes of one optimiser step over all processes."""

    output: str  # folder for checkpoints, metrics.jsonl, tracker files and the exported weights
    steps: Count
    batch_size: Annotated[int, Between(1, 65_536)]
    accumulation: Annotated[int, Between(1, 65_536)] = 1  # micro-batches a step: same result, less memory
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for the matrices of hidden layers, AdamW for the rest
    learning_rate: Annotated[float, Between(0, 100, open_low=True)] = 1e-3
    warmup_steps: CountOrZero = 200  # linear from 0
    final_fraction: Share = 0.01  # the cosine ends at this share of the learning rate
    weight_decay: Weight = 0.05  # on matrices; never on biases, norms and tokens
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    clip_norm: Weight = 1.0  # 0 = never
    ema_decay: Share = 0.999  # of the weights that are evaluated and exported; starts lower
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast where the task allows it; weights stay fp32
    evaluate_every: Count = 1000  # steps; also at step 0 and at the end
    log_every: Count = 20
    checkpoint_every: Count = 1000  # steps; also at the end and when stopped
    checkpoint_minutes: Minutes = 10.0
    max_minutes: Minutes | None = None  # stop cleanly after so long, this start alone; the same command resumes
    seed: Seed = 0
    trackers: tuple[str, ...] = ("tensorboard",)  # of accelerate; empty = metrics.jsonl alone
    device: Literal["auto", "cpu"] = "auto"

    def __post_init__(self) -> None:
        """Refuse an output without a name, which would be the working folder."""
        super().__post_init__()
        if not self.output:
            raise ValueError("training.output must name a folder")
