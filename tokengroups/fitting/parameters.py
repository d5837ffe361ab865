"""What a fit optimises: the Gaussians before their activations, their identities, and Adam's state of both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tokengroups.fitting.config import LearningRates
from tokengroups.types import Gaussians

FIELDS = ("means", "quats", "log_scales", "logits", "sh", "identities")


@dataclass(frozen=True)
class Start:
    """Gaussians to begin with, in the units of the optimisation."""

    means: Float[Tensor, "N 3"]
    scales: Float[Tensor, " N"]  # round ones
    colors: Float[Tensor, "N 3"]  # in [0, 1]


class Parameters:
    """Leaves with one Adam; rows are Gaussians, which may be replaced and added while it runs."""

    def __init__(self, leaves: dict[str, Tensor], rates: LearningRates) -> None:
        """Take the initial values, one tensor [N, ...] per name in `FIELDS`."""
        self._leaves = {name: leaves[name].detach().clone().requires_grad_() for name in FIELDS}
        groups = [{"params": [leaf], "lr": getattr(rates, name), "name": name} for name, leaf in self._leaves.items()]
        self.optimizer = torch.optim.Adam(groups, eps=1e-15)  # 3DGS' eps: gradients of pixels are tiny

    def __getitem__(self, name: str) -> Tensor:
        return self._leaves[name]

    def __len__(self) -> int:
        return len(self._leaves["means"])

    def gaussians(self) -> Gaussians:
        """The Gaussians as they are rendered, attached to the leaves."""
        leaves = self._leaves
        return Gaussians(
            leaves["means"], leaves["quats"], leaves["log_scales"].exp(), leaves["logits"].sigmoid(), leaves["sh"]
        )

    def set_position_rate(self, rate: float) -> None:
        """Change the learning rate of the means."""
        for group in self.optimizer.param_groups:
            if group["name"] == "means":
                group["lr"] = rate

    @torch.no_grad()
    def append(self, rows: Int64[Tensor, " A"]) -> None:
        """Add copies of these Gaussians at the end; their moments are zero."""
        for group in self.optimizer.param_groups:
            old = group["params"][0]
            new = torch.cat([old, old[rows]]).detach().requires_grad_()
            state = self.optimizer.state.pop(old, {})
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    state[key] = torch.cat([state[key], torch.zeros_like(state[key][rows])])
            if state:
                self.optimizer.state[new] = state
            group["params"] = [new]
            self._leaves[group["name"]] = new

    @torch.no_grad()
    def copy_rows(self, sources: Int64[Tensor, " A"], targets: Int64[Tensor, " A"]) -> None:
        """Overwrite Gaussians by others; the moments of both become zero."""
        for leaf in self._leaves.values():
            leaf[targets] = leaf[sources]
            state = self.optimizer.state.get(leaf, {})
            for key in ("exp_avg", "exp_avg_sq"):
                if key in state:
                    state[key][targets] = 0
                    state[key][sources] = 0
