"""Interface of training tasks: model, data, losses, evaluation and export."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from tokengroups.losses.terms import LossTerms


@runtime_checkable
class Task(Protocol):
    """A model with its data and losses. Every process holds one; they differ only in the slots that they compute.

    The global batch of a step has slots 0 ... batch_size - 1, one scene each; a process computes a slice of them.
    Results do not depend on the number of processes if `losses` is a *mean over the scenes of its batch*: a term
    that divides by a count (of valid pixels, of matched pairs) does so within a scene, then the scenes are
    averaged. A mean over equal slices is then the mean over the whole.

    `batch` and `losses` draw nothing from global random state across steps: the loop seeds torch, numpy and
    random anew from (seed, step, process) before each step, which is why no random state needs to be stored.
    """

    model: nn.Module  # trained where requires_grad; evaluated and exported with averaged weights

    def batch(self, step: int, slots: range) -> Any:
        """Training data of some slots: a pure function of the task's seed and the arguments.

        Called ahead of time in a background thread, so it must not touch global random state. The result has a
        method ``to(device)``. Anything that fixes tensor shapes must depend on `step` alone.
        """
        ...

    def losses(self, batch: Any, step: int) -> LossTerms:
        """Compute the losses of a batch by calling `model`, under `autocast` where it suits."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Measure `model` on held-out data; the loop has set eval mode, no_grad and the averaged weights."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimiser groups: ``params``, ``weight_decay``, and ``lr_scale`` (times the scheduled learning rate)."""
        ...

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a weight folder from a state dict of `model` (averaged weights) and the config that builds it."""
        ...
