"""Training runs from configuration files; the ``task`` key names the class that reads the other keys."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any

from tokengroups.config import apply_overrides, build_config, config_to_dict, read_yaml
from tokengroups.data.stream import DataConfig, ExampleConfig
from tokengroups.errors import UserError
from tokengroups.nn.limits import parameter_limit
from tokengroups.reading import shown
from tokengroups.registry import resolve
from tokengroups.systems import SYSTEMS
from tokengroups.training.config import TrainingConfig
from tokengroups.training.loop import TrainingResult, train
from tokengroups.training.task import Task
from tokengroups.training.tasks.system import SystemTask

# Tasks that train no system. Each has a `settings_class`, a dataclass with a field `training: TrainingConfig`.
TASKS = {
    "geometry": "tokengroups.training.tasks.geometry:GeometryTask",
    "single_view": "tokengroups.training.tasks.single_view:SingleViewTask",
}

_MOST_PARAMETERS = 4 * 10**9  # VGGT-1B has 1.2
_MOST_PIXELS = 2**27  # about 3 GB of photos, depth and ids
_METHODS = ("for_training", "losses", "evaluate", "parameter_groups", "export")  # of a system


@dataclass(frozen=True)
class Experiment:
    """The settings of a configuration file."""

    task: str
    config: Any  # a dataclass with the field `training`

    def build(self) -> Task:
        """Build the task; raises UserError for anything wrong with its sizes, data or weights."""
        message = f"the model would have more than {_MOST_PARAMETERS:.0e} parameters; lower its sizes"
        try:
            with parameter_limit(_MOST_PARAMETERS, message):
                if self.task in TASKS:
                    return resolve(self.task, TASKS, "task")(self.config)
                return SystemTask(self.config, _system_class(self.task))
        except ValueError as error:  # of a network: sizes that do not fit together
            raise UserError(f"task {self.task}: {error}; change its settings") from error

    def description(self) -> dict[str, Any]:
        """Return all settings as plain values."""
        return {"task": self.task, **config_to_dict(self.config)}


def run_experiment(path: str | Path, overrides: Sequence[str] = ()) -> TrainingResult:
    """Train as a YAML file and ``a.b=value`` overrides describe; the same call resumes a run that was stopped.

    Raises:
        UserError: Anything wrong with the configuration, the data or the output folder.
    """
    experiment = read_experiment(path, overrides)
    return train(experiment.build(), experiment.config.training, experiment.description())


def read_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read the configuration of a task.

    Raises:
        UserError: Anything wrong with the configuration.
    """
    values = apply_overrides(read_yaml(path), overrides)
    name = values.pop("task", None)
    if not isinstance(name, str) or (name not in TASKS and name not in SYSTEMS and ":" not in name):
        known = ", ".join([*TASKS, *SYSTEMS])
        raise UserError(
            f"{shown(path)}: the key 'task' must be one of {known}, or module:Class; got {shown(repr(name))}"
        )
    if name in TASKS:
        kind = resolve(name, TASKS, "task").settings_class
    else:
        own = _system_class(name).settings_class
        shared = [("training", TrainingConfig), ("data", ExampleConfig)]
        kind = make_dataclass(own.__name__, shared, bases=(own,), frozen=True, kw_only=True)
    config = build_config(kind, values, str(path))
    _check_batch(config.training, config.data)
    return Experiment(name, config)


def _check_batch(training: TrainingConfig, data: DataConfig) -> None:
    """Refuse batches that hardly a memory holds: a process reads all photos of a step at once."""
    scenes = training.batch_size / int(os.environ.get("WORLD_SIZE", "1"))
    pixels = int(scenes * data.num_frames * data.size**2)
    if pixels > _MOST_PIXELS:
        raise UserError(
            f"a step would read {pixels:,} pixels in each process, more than {_MOST_PIXELS:,}: "
            "lower training.batch_size, data.num_frames or data.size"
        )


def _system_class(name: str) -> Any:
    """Import the class of a system.

    Raises:
        UserError: There is no such class, or it is no system.
    """
    create = resolve(name, SYSTEMS, "system")
    missing = [method for method in _METHODS if not callable(getattr(create, method, None))]
    if not is_dataclass(getattr(create, "settings_class", None)):
        missing.insert(0, "settings_class, a dataclass")
    if missing:
        raise UserError(f"task {name}: no system, see tokengroups.systems.System; add {', '.join(missing)}")
    return create
