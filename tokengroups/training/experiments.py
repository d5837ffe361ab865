"""From a configuration file to a training run: the ``task`` key decides which dataclass reads the rest."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tokengroups.config import apply_overrides, build_config, config_to_dict, read_yaml
from tokengroups.errors import UserError
from tokengroups.training.loop import TrainingResult, train

# Each module has EXPERIMENT, a dataclass with a field `training: TrainingConfig`, and build_task(experiment) -> Task.
TASKS = {
    "geometry": "tokengroups.training.tasks.geometry",
    "perspective": "tokengroups.training.tasks.single_view",
    "pixel_gaussians": "tokengroups.training.tasks.pixel_gaussians",
    "token_groups": "tokengroups.training.tasks.token_groups",
}


def run_experiment(path: str | Path, overrides: Sequence[str] = ()) -> TrainingResult:
    """Train what a YAML file describes; the same call goes on with a run that was stopped.

    Args:
        path: Configuration file.
        overrides: ``a.b=value`` changes to it.

    Raises:
        UserError: Anything wrong with the configuration, the data or the output folder.
    """
    name, module, experiment = read_experiment(path, overrides)
    description = {"task": name, **config_to_dict(experiment)}
    return train(module.build_task(experiment), experiment.training, description)


def read_experiment(path: str | Path, overrides: Sequence[str] = ()) -> tuple[str, ModuleType, Any]:
    """Name of the task that a YAML file describes, the task's module, and the configuration.

    Raises:
        UserError: Anything wrong with the configuration.
    """
    values = apply_overrides(read_yaml(path), overrides)
    name = values.pop("task", None)
    if name not in TASKS:
        raise UserError(f"{path}: the key 'task' must be one of {', '.join(TASKS)}; got {name!r}")
    module = importlib.import_module(TASKS[name])
    return name, module, build_config(module.EXPERIMENT, values, str(path))
