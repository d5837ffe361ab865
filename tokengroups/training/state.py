"""Checkpoints: the whole state of a run in one safetensors file, for an exact resume."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from tokengroups.bounds import Between, CountOrZero
from tokengroups.checkpoint import read_metadata, read_tensors, write_tensors
from tokengroups.config import build_config
from tokengroups.errors import UserError
from tokengroups.io.files import make_folder
from tokengroups.reading import malformed, shown
from tokengroups.training.optim import AveragedWeights, state_shapes

_FORMAT = "tokengroups training state 1"
_NAME = re.compile(r"step_(\d{8,18})\.safetensors")
_KEPT = 2  # the newest, and one in case a crash of the machine cut the newest short
_SHOWN = 3
_LONGEST_TEXT = 2**20  # characters of the metadata
_log = logging.getLogger(__name__)


@dataclass
class RunState:
    """Counters of a run; random state is drawn anew from (seed, step, process) in each step."""

    step: CountOrZero = 0  # finished optimiser steps
    seconds: float = 0.0  # spent in training and evaluation, all starts together
    evaluated_at: Annotated[int, Between(-1, 10**9)] = -1  # step of the last evaluation
    window: dict[str, float] = field(default_factory=dict)  # sums of the logged values since the last row
    window_steps: CountOrZero = 0
    window_skipped: CountOrZero = 0  # steps whose gradient was not finite, not counted in the sums


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
        path = _path(self.folder, state.step)
        metadata = {"format": _FORMAT, "state": json.dumps(asdict(state)), "config": json.dumps(description)}
        write_tensors(path, self._tensors(), metadata)
        for old in self._newest_first()[_KEPT:]:
            with contextlib.suppress(OSError):
                old.unlink()
        return path

    def restore(self, description: dict[str, Any]) -> RunState | None:
        """Load the newest sound checkpoint into model, optimiser and average; None if there is none.

        Raises:
            UserError: A checkpoint of another model or optimiser, or not one of the existing files is sound.
        """
        found = self._newest_first()
        for path in found:
            try:
                state, before, tensors = _read(path)
            except UserError as error:
                _log.warning("%s; trying the one before", error)
                continue
            self._load(tensors, path)
            _log_changes(before, description)
            return state
        if found:
            raise UserError(f"no checkpoint in {self.folder} can be read; remove them or choose another output folder")
        return None

    def remove_leftovers(self) -> None:
        """Remove temporary files of a process that was killed while writing."""
        for path in self.folder.glob(".step_*.safetensors"):
            with contextlib.suppress(OSError):
                path.unlink()

    def _newest_first(self) -> list[Path]:
        names = ((_NAME.fullmatch(path.name), path) for path in self.folder.glob("step_*"))
        return [path for _, path in sorted(((int(m[1]), path) for m, path in names if m), reverse=True)]

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
        """Copy a checkpoint's tensors, all of which must be known and fit."""
        targets, moments = self._weights(), self._moments(tensors)
        wrong = [name for name, t in targets.items() if name not in tensors or tensors[name].shape != t.shape]
        wrong += [name for name in tensors if name not in targets and not name.startswith("optimizer.")]
        if wrong:
            raise UserError(
                f"{path} is of another model ({len(wrong)} tensors differ, e.g. {_listed(wrong)}); "
                "use the config it was trained with, or another output folder"
            )
        wrong = [name for name in tensors if name not in targets and name not in moments]
        if wrong:
            raise UserError(
                f"{path} is of another optimiser ({len(wrong)} tensors differ, e.g. {_listed(wrong)}); "
                "set training.optimizer as it was, or another output folder"
            )
        for name, target in targets.items():
            target.copy_(tensors[name])
        for name, (parameter, key) in moments.items():
            kept = tensors[name].to(parameter)
            # The fused optimiser relies on the parameter's order in memory, such as channels last.
            kept = torch.empty_like(parameter).copy_(kept) if kept.shape == parameter.shape else kept
            self.optimizer.state[parameter][key] = kept

    def _moments(self, tensors: dict[str, Tensor]) -> dict[str, tuple[nn.Parameter, str]]:
        """Parameter and key of the optimiser's tensors; those of a parameter are complete, or none of them is one."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        found: dict[str, tuple[nn.Parameter, str]] = {}
        for parameter, shapes in state_shapes(self.optimizer).items():
            own = {f"optimizer.{key}.{names[parameter]}": key for key in shapes}
            if all(name in tensors and tensors[name].shape == shapes[key] for name, key in own.items()):
                found |= {name: (parameter, key) for name, key in own.items()}
        return found


def _path(folder: Path, step: int) -> Path:
    return folder / f"step_{step:08d}.safetensors"


def _read(path: Path) -> tuple[RunState, dict[str, Any], dict[str, Tensor]]:
    """State, configuration and tensors of a checkpoint.

    Raises:
        UserError: It is damaged, or holds NaN or infinity.
    """
    tensors, metadata = read_tensors(path), read_metadata(path)
    if metadata.get("format") != _FORMAT:
        raise UserError(f"{path} is no training checkpoint of this version")
    with malformed(path, "remove it"):
        state, before = (json.loads(metadata[key][:_LONGEST_TEXT]) for key in ("state", "config"))
        state = build_config(RunState, state, str(path))
        if path != _path(path.parent, state.step) or not isinstance(before, dict):
            raise ValueError("its step or its configuration")
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise UserError(f"{path} holds NaN or infinity in {len(broken)} tensors, e.g. {_listed(broken)}")
    return state, before, tensors


def _listed(names: list[str]) -> str:
    return ", ".join(map(shown, names[:_SHOWN]))


def _log_changes(before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = flatten(before), flatten(now)
    changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
    if changed:
        listed = ", ".join(f"{shown(key)} {shown(old.get(key))} -> {shown(new.get(key))}" for key in changed)
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
