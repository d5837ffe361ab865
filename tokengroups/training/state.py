"""Checkpoints: the whole state of a run in one safetensors file, for an exact resume."""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.errors import UserError
from tokengroups.io.files import make_folder
from tokengroups.training.optim import AveragedWeights

_FORMAT = "tokengroups training state 1"
_KEPT = 2  # the newest, and one in case a crash of the machine cut the newest short
_SHOWN = 3
_log = logging.getLogger(__name__)


@dataclass
class RunState:
    """Counters of a run; random state is drawn anew from (seed, step, process) in each step."""

    step: int = 0  # finished optimiser steps
    seconds: float = 0.0  # spent in training and evaluation, all starts together
    evaluated_at: int = -1  # step of the last evaluation
    window: dict[str, float] = field(default_factory=dict)  # sums of the logged values since the last row
    window_steps: int = 0
    window_skipped: int = 0  # steps whose gradient was not finite, not counted in the sums


class Checkpoints:
    """Checkpoints of one run, ``<output>/checkpoints/step_<n>.safetensors``; the last two are kept."""

    def __init__(
        self, output: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: AveragedWeights
    ) -> None:
        self.folder = output / "checkpoints"
        self.model, self.optimizer, self.average = model, optimizer, average

    def save(self, state: RunState, description: dict[str, Any]) -> Path:
        """Write a checkpoint atomically and remove the ones no longer needed."""
        make_folder(self.folder)
        path = self.folder / f"step_{state.step:08d}.safetensors"
        metadata = {"format": _FORMAT, "state": json.dumps(asdict(state)), "config": json.dumps(description)}
        write_tensors(path, self._tensors(), metadata)
        for old in self._newest_first()[_KEPT:]:
            old.unlink(missing_ok=True)
        return path

    def restore(self, description: dict[str, Any]) -> RunState | None:
        """Load the newest readable checkpoint into model, optimiser and average; None if there is none.

        Raises:
            UserError: A checkpoint of another model, or not one of the existing files can be read.
        """
        found = self._newest_first()
        for path in found:
            try:
                metadata, tensors = read_metadata(path), read_tensors(path)
            except UserError as error:
                _log.warning("%s; trying the one before", error)
                continue
            if metadata.get("format") != _FORMAT:
                raise UserError(f"{path} is no training checkpoint of this version; choose another output folder")
            self._load(tensors, path)
            _log_changes(json.loads(metadata["config"]), description)
            return RunState(**json.loads(metadata["state"]))
        if found:
            raise UserError(f"no checkpoint in {self.folder} can be read; remove them or choose another output folder")
        return None

    def remove_leftovers(self) -> None:
        """Remove temporary files of a process that was killed while writing."""
        for path in self.folder.glob(".step_*.safetensors"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.safetensors"), reverse=True)

    def _weights(self) -> dict[str, Tensor]:
        """The model's trainable parameters and persistent buffers, and the averaged weights."""
        frozen = {name for name, parameter in self.model.named_parameters() if not parameter.requires_grad}
        weights = {f"model.{name}": t for name, t in self.model.state_dict().items() if name not in frozen}
        return weights | {f"average.{n}": t for n, t in zip(self.average.names, self.average.average, strict=True)}

    def _tensors(self) -> dict[str, Tensor]:
        tensors = self._weights()
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        return tensors

    @torch.no_grad()
    def _load(self, tensors: dict[str, Tensor], path: Path) -> None:
        targets = self._weights()
        wrong = [name for name, t in targets.items() if name not in tensors or tensors[name].shape != t.shape]
        wrong += [name for name in tensors if name not in targets and not name.startswith("optimizer.")]
        if wrong:
            raise UserError(
                f"{path} is of another model ({len(wrong)} tensors differ, e.g. {', '.join(wrong[:_SHOWN])}); "
                "use the config it was trained with, or another output folder"
            )
        for name, target in targets.items():
            target.copy_(tensors[name])
        parameters = dict(self.model.named_parameters())
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, key, parameter_name = name.split(".", 2)
                parameter = parameters[parameter_name]
                self.optimizer.state[parameter][key] = tensor.to(parameter.device)


def _log_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = flatten(before), flatten(now)
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    if changed:
        listed = ", ".join(f"{key} {old.get(key)} -> {new.get(key)}" for key in changed)
        _log.warning("resuming with changed settings: %s", listed)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to one with dotted keys; lists become text."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat
