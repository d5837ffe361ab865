"""LPIPS (Zhang et al. 2018, arXiv 1801.03924) through the `lpips` package, without downloads.

The package holds the calibrated linear layers; the trunk's ImageNet weights come from a torchvision file.
"""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokengroups.compat import prepare_torchvision
from tokengroups.errors import UserError
from tokengroups.reading import check_file

_log = logging.getLogger(__name__)
Trunk = Literal["vgg", "alex", "squeeze"]
_TORCHVISION_NAMES = {"vgg": "vgg16", "alex": "alexnet", "squeeze": "squeezenet1_1"}


@dataclass(frozen=True)
class LpipsConfig:
    """Settings of LPIPS; without `trunk_weights` the trunk is random, which is logged."""

    trunk: Trunk = "vgg"
    trunk_weights: str | None = None


class Lpips(nn.Module):
    """LPIPS distance of image pairs in [0, 1]; frozen, and no part of any checkpoint.

    Args:
        trunk: Network that compares the images.
        trunk_weights: File with the state dict of torchvision's network of that name; "features.*" is enough.
            None: always the same random trunk, which is logged. It serves as a loss, but is not LPIPS and must not be
            reported as such.

    Raises:
        UserError: The file cannot be read or holds another network.
    """

    def __init__(self, trunk: Trunk = "vgg", trunk_weights: Path | None = None) -> None:
        super().__init__()
        self.trunk = _TORCHVISION_NAMES[trunk]
        self.trunk_is_random = trunk_weights is None
        state = None if trunk_weights is None else _read_state(trunk_weights)
        self.network = _build(trunk)
        if state is None:
            _log.warning("LPIPS: no trunk weights given, the %s trunk is random", self.trunk)
        else:
            _fill_trunk(self.network.net, state, str(trunk_weights), self.trunk)
        self.requires_grad_(False)

    def forward(self, predicted: Float[Tensor, "M 3 H W"], photos: Float[Tensor, "M 3 H W"]) -> Float[Tensor, " M"]:
        """Distance of each pair, 0 = the same; gradients flow to both arguments."""
        return self.network(predicted, photos, normalize=True).flatten()


def build_lpips(config: LpipsConfig, weight: float) -> Lpips | None:
    """Build LPIPS as configured; None if its weight is 0.

    Raises:
        UserError: Trunk weights that cannot be used.
    """
    if weight == 0:
        return None
    return Lpips(config.trunk, Path(config.trunk_weights) if config.trunk_weights is not None else None)


def _build(trunk: Trunk) -> Any:
    """The package's module with its linear layers and a random trunk drawn from a fixed seed."""
    prepare_torchvision()
    import lpips

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")  # lpips uses a deprecated interface
        torch.manual_seed(0)
        return lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)


def _fill_trunk(slices: nn.Module, state: dict[str, Tensor], path: str, torchvision_name: str) -> None:
    """Fill the trunk, which `lpips` cuts into slices, from torchvision's "features.<layer>.<parameter>"."""
    renamed = {}
    for name in slices.state_dict():
        source = re.sub(r"^slice\d+\.", "features.", name)
        if source not in state:
            raise UserError(f"{path}: '{source}' is missing; give the state dict of torchvision's {torchvision_name}")
        renamed[name] = state[source]
    try:
        slices.load_state_dict(renamed)
    except RuntimeError:
        raise UserError(f"{path}: shapes differ from torchvision's {torchvision_name}; give its weights") from None


def _read_state(path: Path) -> dict[str, Tensor]:
    check_file(path, "give torchvision's .pth file as the weights of LPIPS' trunk")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # of torch, zipfile and pickle, each with errors of its own
        raise UserError(f"{path}: not a PyTorch state dict; give torchvision's .pth file") from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: not a state dict but a {type(state).__name__}; give torchvision's .pth file")
    return state
