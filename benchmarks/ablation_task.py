"""Training of a run of `ablate.py`: a fixed number of examples, in some of which instances have no label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ablation_systems import VOID, CachedTokenGroups
from jaxtyping import Int64
from torch import Tensor

from tokengroups.data.example import Example
from tokengroups.data.stream import ExampleConfig, ExampleStream
from tokengroups.encoders import Geometry
from tokengroups.training.tasks.system import SystemTask
from tokengroups.types import Views


class FixedExamples(ExampleStream):
    """A fixed number of examples: all of them come once before any comes again.

    Args:
        config: How they are cut from scenes.
        seed: Of their choice.
        batch_size: Examples a step.
        count: Distinct examples.
        unlabelled: Share of the instances whose labels are hidden.
    """

    def __init__(self, config: ExampleConfig, seed: int, batch_size: int, count: int, unlabelled: float) -> None:
        super().__init__(config, seed, batch_size)
        self.count, self.unlabelled = count, unlabelled

    def example(self, step: int, slot: int) -> Example:
        """One example, without the labels of some instances."""
        number = (step * self.batch_size + slot) % self.count
        example = super().example(0, number)
        ids = example.targets.group_ids.unique()
        rng = np.random.default_rng([VOID, self.seed, number])
        hidden = ids[torch.from_numpy(rng.random(len(ids)) < self.unlabelled)]
        return replace(example, context=hide(example.context, hidden), targets=hide(example.targets, hidden))


class AblationTask(SystemTask):
    """Training of token groups on a fixed number of examples.

    Args:
        experiment: As for `SystemTask`.
        create: The system's class.
        num_scenes: Distinct training examples.
        cache: Geometry of the scenes that were encoded so far, shared by the runs of one process.
    """

    system: CachedTokenGroups

    def __init__(
        self, experiment: Any, create: type[CachedTokenGroups], num_scenes: int, cache: dict[bytes, Geometry]
    ) -> None:
        super().__init__(experiment, create)  # pyright: ignore[reportArgumentType] (its network is narrower)
        training = experiment.training
        self.system.cache = cache
        self.examples = FixedExamples(
            experiment.data, training.seed, training.batch_size, num_scenes, create.unlabelled
        )

    def evaluate(self) -> dict[str, float]:
        """Nothing: `ablate.py` measures once, at the end."""
        return {}


def hide(views: Views, ids: Int64[Tensor, " M"]) -> Views:
    """The views with some instances unlabelled."""
    return replace(views, group_ids=torch.where(torch.isin(views.group_ids, ids), -1, views.group_ids))
