"""Training task of any system; the system owns its networks, objective and parameter groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokengroups.data.example import Example
from tokengroups.data.stream import ExampleStream, held_out_examples
from tokengroups.errors import UserError
from tokengroups.evaluation.protocol import EvaluationData
from tokengroups.losses.terms import LossTerms
from tokengroups.systems import SceneSystem, System, TrainingPhotos


class SystemTask:
    """Training of one system; a `tokengroups.training.task.Task`.

    Args:
        experiment: The system's settings with two more fields, `training: TrainingConfig` and `data: ExampleConfig`.
        create: The class of a `System`.

    Raises:
        UserError: Data, weights or sizes that do not fit.
    """

    def __init__(self, experiment: Any, create: type[Any]) -> None:
        torch.manual_seed(experiment.training.seed)
        self.experiment = experiment
        training = experiment.training
        names = [field.name for field in fields(create.settings_class) if field.init]
        settings = create.settings_class(**{name: getattr(experiment, name) for name in names})
        self.system: System = create.for_training(settings)
        if isinstance(self.system, SceneSystem):
            self.system.training_photos = TrainingPhotos(experiment.data.size)
        self.model = self.system.network
        multiple = getattr(self.system, "size_multiple", 1)
        if experiment.data.size % multiple:
            raise UserError(f"data.size must be a multiple of {multiple}, got {experiment.data.size}")
        self.examples = ExampleStream(experiment.data, training.seed, training.batch_size, multiple)

    def batch(self, step: int, slots: range) -> Example:
        """Draw the examples of some slots."""
        return self.examples.batch(step, slots)

    def losses(self, batch: Example, step: int) -> LossTerms:
        """Compute the system's objective."""
        return self.system.losses(batch, step, self.experiment.training.precision)

    def evaluate(self) -> dict[str, float]:
        """Measure the system on held-out examples."""
        data = self.experiment.data
        return self.system.evaluate(held_out_examples(data), EvaluationData(data.dataset, data.plan))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the system's optimiser groups."""
        training = self.experiment.training
        return self.system.parameter_groups(training.weight_decay, training.optimizer == "muon")

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write the system's weight folder."""
        self.system.export(folder, state)
