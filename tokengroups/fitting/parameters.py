"""Parameters of a fit: Gaussians before their activations, their group identities, and Adam's state of both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from tokengroups.gaussians import logit_from_opacity
from tokengroups.spherical_harmonics import SH_C0
from tokengroups.types import Gaussians

IDENTITY_CHANNELS = 16
# Adam's learning rates: 3D Gaussian Splatting's (Kerbl et al. 2023), larger as a fit is ten times shorter. Means are in
# extents of the scene; their rate falls exponentially to the last one.
RATES = {"means": 5e-4, "quats": 2e-3, "log_scales": 1e-2, "logits": 5e-2, "sh": 5e-3, "identities": 1e-2}
LAST_MEANS_RATE = 5e-6
_FIRST_OPACITY = 0.5


@dataclass(frozen=True)
class Start:
    """Initial Gaussians, in the units of the optimisation."""

    means: Float[Tensor, "N 3"]
    scales: Float[Tensor, " N"]  # round ones
    colors: Float[Tensor, "N 3"]  # in [0, 1]


class Parameters:
    """Leaves with one Adam; rows are Gaussians, which may be replaced and added while it runs."""

    def __init__(self, leaves: dict[str, Tensor]) -> None:
        """Take the initial values, one tensor [N, ...] per name in `RATES`."""
        self._leaves = {name: leaves[name].detach().clone().requires_grad_() for name in RATES}
        groups = [{"params": [leaf], "lr": RATES[name], "name": name} for name, leaf in self._leaves.items()]
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

    def set_means_rate(self, rate: float) -> None:
        """Change the learning rate of the means."""
        self.optimizer.param_groups[0]["lr"] = rate

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


def first_parameters(start: Start, sh_degree: int, generator: torch.Generator) -> Parameters:
    """Round, half transparent Gaussians in the colours of the points, with small random identities."""
    count = len(start.means)
    sh = start.means.new_zeros(count, (sh_degree + 1) ** 2, 3)
    sh[:, 0] = (start.colors - 0.5) / SH_C0
    leaves = {
        "means": start.means,
        "quats": functional.pad(start.means.new_ones(count, 1), (0, 3)),
        "log_scales": start.scales.log()[:, None].expand(count, 3),
        "logits": logit_from_opacity(start.means.new_full((count,), _FIRST_OPACITY)),
        "sh": sh,
        "identities": 0.1 * torch.randn(count, IDENTITY_CHANNELS, generator=generator, device=sh.device),
    }
    return Parameters(leaves)
